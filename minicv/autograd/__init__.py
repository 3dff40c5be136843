"""The automatic differentiation engine: ``Tensor``, ``Function``, the backward walk, and gradient checks.

It reads in this order: ``tensor.py`` (what is computed on), ``function.py`` (one operation and its derivative),
``graph.py`` (the walk: ``walk`` and ``order`` first), ``gradcheck.py`` (the proof). ``versions.py`` notices arrays that
were changed between forward and backward. ``ops/`` adds the operators of Tensor, ``viz/graph.py`` draws graphs. First
order only: a gradient is a plain array, and cannot be differentiated again.
"""
from . import graph as _graph  # noqa: F401 - Tensor.backward
from .function import Function, detect_anomaly, no_grad, plain, substitute
from .gradcheck import GradcheckResult, gradcheck
from .tensor import Tensor, tensor

__all__ = [
    "Function", "GradcheckResult", "Tensor", "detect_anomaly", "gradcheck", "no_grad", "plain",
    "substitute", "tensor",
]
