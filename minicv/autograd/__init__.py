"""The automatic differentiation engine: ``Tensor``, ``Function``, the backward walk, and gradient checks.

It reads in this order: ``tensor.py`` (what is computed on), ``function.py`` (one operation and its derivative),
``graph.py`` (the walk), ``gradcheck.py`` (the proof); ``drawing.py`` makes pictures. First order only: a gradient is a
plain array, and cannot be differentiated again.
"""
from .drawing import draw
from .function import Function, detect_anomaly, no_grad, plain, substitute
from .gradcheck import GradcheckResult, gradcheck
from .tensor import Tensor, tensor

__all__ = [
    "Function", "GradcheckResult", "Tensor", "detect_anomaly", "draw", "gradcheck", "no_grad", "plain",
    "substitute", "tensor",
]
