"""How operations become methods and operators of ``Tensor``."""
from __future__ import annotations

from typing import Any

from ..autograd import Tensor


def add_methods(**methods: Any) -> None:
    """Set attributes of the class: after ``add_methods(exp=exp)``, ``t.exp()`` calls the operation."""
    for name, method in methods.items():
        setattr(Tensor, name, method)
