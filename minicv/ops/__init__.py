"""The operations, ``import minicv.ops as F``, with PyTorch's names and arguments.

Each file holds one family: the equation, plain loops that define it, ``forward`` and ``backward``, the public function,
and CASES, the inputs on which it is tested. ``cases()`` returns the cases of all files.
"""
from importlib import import_module

from . import protocols
from .activation import leaky_relu, relu, sigmoid, tanh
from .adaptive_pool import adaptive_avg_pool2d, adaptive_max_pool2d, spatial_pyramid_pool
from .avg_pool import avg_pool2d
from .case import Case
from .conv import conv2d, conv_matrix, conv_transpose2d
from .dropout import dropout, dropout2d
from .dtypes import astype
from .elementwise import abs, add, div, exp, log, mul, neg, pow, sqrt, sub
from .interpolate import bilinear_kernel, bilinear_weight, interpolate
from .linear import linear, matmul
from .loss import cross_entropy, nll_loss
from .loss_elementwise import binary_cross_entropy_with_logits, hinge_loss, mse_loss, smooth_l1_loss
from .max_pool import max_pool2d
from .norm import batch_norm, local_response_norm
from .pad import pad
from .reduce import amax, amin, mean, sum
from .roi import roi_align, roi_pool
from .selection import clamp, maximum, minimum, where
from .shape import (
    cat,
    center_crop,
    concatenate,
    crop,
    expand,
    flatten,
    flip,
    getitem,
    permute,
    reshape,
    squeeze,
    stack,
    transpose,
    unsqueeze,
)
from .softmax import log_softmax, softmax
from .unpool import max_unpool2d, unpool_bed_of_nails, unpool_nearest

__all__ = [
    "bilinear_kernel", "bilinear_weight",
    "abs", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "amax", "amin", "astype", "avg_pool2d", "batch_norm",
    "binary_cross_entropy_with_logits", "cat", "center_crop", "clamp", "concatenate", "conv2d", "conv_matrix",
    "conv_transpose2d", "crop", "cross_entropy", "div", "dropout", "dropout2d", "exp", "expand", "flatten", "flip",
    "getitem", "hinge_loss", "interpolate", "leaky_relu", "linear", "local_response_norm", "log", "log_softmax",
    "matmul", "max_pool2d", "max_unpool2d", "maximum", "mean", "minimum", "mse_loss", "mul", "neg", "nll_loss",
    "pad", "permute", "pow", "relu", "reshape", "roi_align", "roi_pool", "sigmoid", "smooth_l1_loss", "softmax",
    "spatial_pyramid_pool", "sqrt", "squeeze", "stack", "sub", "sum", "tanh", "transpose", "unpool_bed_of_nails",
    "unpool_nearest", "unsqueeze", "where", "cases",
]
protocols.NAMES.update(__all__)
FAMILIES = (
    "activation", "adaptive_pool", "avg_pool", "conv", "dropout", "dtypes", "elementwise", "interpolate", "linear",
    "loss", "loss_elementwise", "max_pool", "norm", "pad", "reduce", "roi", "selection", "shape", "softmax", "unpool",
)


def cases(names: list[str] | None = None) -> list[Case]:
    """The cases of every operation, or of the named ones. Raises ``ValueError`` for an unknown name."""
    from ..errors import suggest  # not among the operations
    every = [case for family in FAMILIES for case in import_module(f"{__name__}.{family}").CASES]
    known = {case.name for case in every}
    for name in names or ():
        if name not in known:
            raise ValueError(f"no operation named {name}; {suggest(name, sorted(known))}")
    return [case for case in every if not names or case.name in names]
