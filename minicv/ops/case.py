"""Example inputs of an operation, on which the tests and ``minicv gradcheck`` run it."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Tensor


class Case:
    """``Case(op, label, *inputs, loop=..., **options)``: one call ``op(*inputs, **options)``.

    An input is a shape, to be filled with shuffled values, or an array, or None. Shuffled values are distinct and not
    zero, since max and ReLU have kinks at ties and zeros. Float inputs are differentiated. ``loop`` computes the same
    from plain arrays, by the definition. ``call`` adapts an op whose inputs come in a list. ``gradients``, for a case
    at a kink, is what each float input receives where the result's gradient is 1, 2, 4, 8, ...: computed by hand, since
    finite differences mean nothing there.
    """

    def __init__(self, op: Callable[..., Tensor], label: str, *inputs: Any, loop: Callable[..., Any],
                 call: Callable[..., Tensor] | None = None, gradients: Sequence[Any] | None = None, **options: Any):
        self.op, self.label, self.inputs, self.options = op, label, inputs, options
        self.loop, self.call, self.gradients = loop, call or op, gradients

    @property
    def name(self) -> str:
        return self.op.__name__

    def __repr__(self) -> str:
        return f"{self.name}-{self.label.replace(' ', '_')}"

    def arrays(self, dtype: Any = np.float64, seed: int = 0) -> list[Any]:
        """The inputs as NumPy arrays or None; floats have this dtype."""
        rng = np.random.default_rng(seed)

        def make(i, value):
            if value is None:
                return None
            if isinstance(value, tuple):
                n = int(np.prod(value))
                shift = 0.3 + 0.1 / (i + 1)  # no ties between two inputs
                return ((rng.permutation(n) + shift) * (4 / max(n, 1)) - 2).reshape(value).astype(dtype)
            return value.astype(dtype) if value.dtype.kind == "f" else value.copy()
        return [make(i, value) for i, value in enumerate(self.inputs)]

    def run(self, *tensors: Tensor | None) -> Tensor:
        """Call the op with these inputs and the case's options."""
        return self.call(*tensors, **self.options)

    def differentiable(self, device: str = "numpy") -> tuple[Callable[..., Tensor], list[Any]]:
        """The op as a function of its float inputs alone, and those inputs in float64, for a gradient check."""
        arrays = [a if a is None else backend.to_device(a, device) for a in self.arrays()]
        floats = [i for i, a in enumerate(arrays) if a is not None and a.dtype.kind == "f"]

        def f(*tensors: Tensor) -> Tensor:
            inputs = [None if a is None else Tensor(a) for a in arrays]
            for i, t in zip(floats, tensors, strict=True):
                inputs[i] = t
            return self.run(*inputs)
        return f, [arrays[i] for i in floats]
