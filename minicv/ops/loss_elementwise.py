"""Elementwise losses: binary cross entropy, smooth L1, mean squared error, hinge.

x is the input, t the target, d = x - t, and y in {-1, +1}:

    binary cross entropy    -t log s(x) - (1 - t) log(1 - s(x)), s the sigmoid    Mask R-CNN (He et al., 2017), sec. 3
    smooth L1               d^2 / (2 beta) if |d| < beta, else |d| - beta/2       Fast R-CNN (Girshick, 2015), eq. (3)
    squared error           d^2                                                   YOLO (Redmon et al., 2016), eq. (3)
    hinge                   max(0, 1 - y x)                              R-CNN (Girshick et al., 2014), sec. 2.3

Fast R-CNN's beta is 1. R-CNN has one SVM per class, against the rest, so each score has its own y. (PyTorch has no such
loss: hinge_embedding_loss compares distances, multi_margin_loss one class with another.)

As in PyTorch, ``reduction="mean"`` divides by the number of elements, whatever their weights.
"""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import Array, apply_mask, apply_weights, without_overflow, xp_of
from .arguments import as_number
from .case import Case
from .dtypes import astype
from .loss import as_constant, check_reduction, on_device_of_input, reduce_loss, reduce_loss_backward
from .precision import Float16Safe


def _elementwise_loop(loss):
    """The oracle as a loop over elements: ``loss(x, t, **options)`` is the loss of one element."""
    def loop(x, t, reduction="mean", **arrays_or_numbers):
        options = {k: np.broadcast_to(v, x.shape) for k, v in arrays_or_numbers.items()}
        y = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            y[i] = loss(x[i], t[i], **{k: v[i] for k, v in options.items()})
        return y if reduction == "none" else y.mean() if reduction == "mean" else y.sum()
    loop.__doc__ = loss.__doc__
    return loop


@_elementwise_loop
def binary_cross_entropy_with_logits_loop(x, t, weight=1.0, pos_weight=1.0):
    """-w (p t log s + (1 - t) log(1 - s)), s = 1 / (1 + exp(-x))"""
    s = 1 / (1 + np.exp(-x))
    return -weight * (pos_weight * t * np.log(s) + (1 - t) * np.log(1 - s))


@_elementwise_loop
def smooth_l1_loss_loop(x, t, beta=1.0):
    """d^2 / (2 beta) below beta, d - beta / 2 above, d = |x - t|"""
    d = abs(x - t)
    return d * d / (2 * beta) if d < beta else d - beta / 2


@_elementwise_loop
def mse_loss_loop(x, t):
    """(x - t)^2"""
    return (x - t) ** 2


@_elementwise_loop
def hinge_loss_loop(x, y):
    """max(0, 1 - y x)"""
    return max(0.0, 1 - y * x)


class BinaryCrossEntropyWithLogits(Float16Safe):
    """loss = w (p t softplus(-x) + (1 - t) softplus(x)),   p = pos_weight,   softplus(x) = log(1 + exp(x))

    exp(x) or exp(-x) may overflow; a = min(exp(x), 1) and b = min(exp(-x), 1) do not, and one of them is 1:
    softplus(x) = log1p(a b) + max(x, 0),   s(x) = a / (1 + a b),   s(-x) = b / (1 + a b).
    """

    def forward(ctx, x, t, weight, pos_weight, *, reduction):
        xp = xp_of(x)
        c = 1 if pos_weight is None else 1 + (pos_weight - 1) * t
        if pos_weight is not None:
            x = apply_mask(x, (t != 1) | (c != 0))  # scores that do not count may be anything
        x = x if weight is None else apply_mask(x, xp.broadcast_to(weight != 0, x.shape))
        above, below = xp.maximum(x, 0), xp.maximum(-x, 0)
        a, b = xp.exp(-below), xp.exp(-above)
        ab, p = a * b, 1 if pos_weight is None else pos_weight
        log = xp.log1p(ab)
        loss = c * log + p * t * below + (1 - t) * above
        slope = ((1 - t) * a - p * t * b) / (1 + ab)
        of_target = p * below - above + (p - 1) * log if ctx.needs_input_grad[1] else None
        if weight is not None:
            loss, slope = loss * weight, slope * weight
            of_target = None if of_target is None else of_target * weight
        ctx.save(slope, of_target)
        ctx.reduction = reduction
        return reduce_loss(loss, float(x.size), reduction)

    def backward(ctx, gy):
        return *(None if slope is None else _slope_gradient(gy, slope, ctx.reduction)
                 for slope in ctx.saved), None, None


class SmoothL1Loss(Float16Safe):
    """loss = c (d - beta c / 2), where c = d / beta, clipped to [-1, 1], is also the slope"""

    def forward(ctx, x, t, *, reduction, beta):
        xp, d = xp_of(x), x - t
        slope = xp.clip(d / beta, -1, 1) if beta else xp.sign(d)
        ctx.save(slope)
        ctx.reduction = reduction
        return reduce_loss(slope * (d - slope * (beta / 2)), float(x.size), reduction)  # Fast R-CNN, eq. (3)

    def backward(ctx, gy):
        g = _slope_gradient(gy, *ctx.saved, ctx.reduction)
        return g, -g


class MSELoss(Float16Safe):
    """loss = d^2"""

    def forward(ctx, x, t, *, reduction):
        d = x - t
        ctx.save(d)
        ctx.reduction = reduction
        return without_overflow(lambda d: reduce_loss(d * d, float(d.size), reduction), d)

    def backward(ctx, gy):
        g = 2 * _slope_gradient(gy, *ctx.saved, ctx.reduction)
        return g, -g


class HingeLoss(Float16Safe):
    """loss = max(0, 1 - y x); at the margin, y x = 1, the gradient is 0"""

    def forward(ctx, x, y, *, reduction):
        short = 1 - y * x  # how far short of the margin
        ctx.save(-y * (short > 0))
        ctx.reduction = reduction
        return reduce_loss(xp_of(x).maximum(short, 0), float(x.size), reduction)

    def backward(ctx, gy):
        return _slope_gradient(gy, *ctx.saved, ctx.reduction), None


def _slope_gradient(gy: Array, slope: Array, reduction: str) -> Array:
    """The slope of each loss times its share of gy."""
    return apply_weights(reduce_loss_backward(gy, float(slope.size), reduction), slope)


def binary_cross_entropy_with_logits(input: Tensor, target: Tensor | Array, weight: Tensor | Array | None = None,
                                     reduction: str = "mean", pos_weight: Tensor | Array | None = None) -> Tensor:
    """Cross entropy of sigmoid(input) against probabilities ``target``, both of any one shape.

    ``weight`` multiplies the loss of each element, ``pos_weight`` its share of the positives (above 1 it favors recall
    over precision); both broadcast to the input's shape. Input and target receive gradients. Where a weight is 0, loss
    and gradient are 0, whatever the input. ``reduction``: "mean" over all elements, "sum" or "none". Raises
    ``ValueError`` for shapes that do not fit, and for weights that require a gradient. Mask R-CNN, sec. 3, L_mask.
    """
    name = "binary_cross_entropy_with_logits"
    target = astype(target, input.dtype) if isinstance(target, Tensor) else target
    target = _check(name, input, target, reduction)
    weights = [None if value is None else as_constant(f"{name}({argument})", value, input.dtype)
               for argument, value in (("weight", weight), ("pos_weight", pos_weight))]
    for argument, value in zip(("weight", "pos_weight"), weights, strict=True):
        if value is not None and not _broadcasts(value.shape, input.shape):
            raise ValueError(f"{name}: {argument} {value.shape} does not broadcast to input's shape, {input.shape}")
    return BinaryCrossEntropyWithLogits.apply(input, target, *weights, reduction=reduction)


def smooth_l1_loss(input: Tensor, target: Tensor | Array, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) for |d| < beta, else |d| - beta/2, with d = input - target, both of any one shape.

    The slope of an outlier is 1, however far it is. beta = 0 gives |d|. Input and target receive gradients.
    ``reduction`` and errors are as in ``binary_cross_entropy_with_logits``. Fast R-CNN, eq. (3).
    """
    beta = as_number(beta, "smooth_l1_loss(beta)")
    if not beta >= 0:
        raise ValueError(f"smooth_l1_loss(beta={beta}) must not be negative: it is where the parabola ends")
    return SmoothL1Loss.apply(input, _check("smooth_l1_loss", input, target, reduction), reduction=reduction, beta=beta)


def mse_loss(input: Tensor, target: Tensor | Array, reduction: str = "mean") -> Tensor:
    """(input - target)^2, both of any one shape, with gradients. ``reduction``, errors: as ``smooth_l1_loss``."""
    return MSELoss.apply(input, _check("mse_loss", input, target, reduction), reduction=reduction)


def hinge_loss(input: Tensor, target: Tensor | Array, reduction: str = "mean") -> Tensor:
    """max(0, 1 - y * score), y = ``target`` in {-1, +1}, both of any one shape; for one-vs-rest linear SVMs.

    Only the input receives a gradient. ``reduction`` and errors are as in ``smooth_l1_loss``; other targets raise
    ``ValueError`` (checked on NumPy arrays only). R-CNN, sec. 2.3.
    """
    target = _check("hinge_loss", input, as_constant("hinge_loss(target)", target, input.dtype), reduction)
    if type(target.data) is np.ndarray and not (abs(target.data) == 1).all():
        wrong = target.data[abs(target.data) != 1].flat[0]
        raise ValueError(f"hinge_loss: target must be -1 or +1, got {wrong:g}; for 0 and 1 pass 2 * target - 1")
    return HingeLoss.apply(input, target, reduction=reduction)


def _check(name: str, input: Tensor, target: Tensor | Array, reduction: str) -> Tensor:
    """Check the arguments of all four losses; return the target as a Tensor."""
    target = target if isinstance(target, Tensor) else as_constant(f"{name}(target)", target, input.dtype)
    if input.dtype.kind != "f" or target.dtype.kind != "f":
        raise TypeError(f"{name}: input and target must be floats, got {input.dtype} and {target.dtype}; convert with "
                        ".astype('float32')")
    if input.shape != target.shape:
        raise ValueError(f"{name}: input {input.shape} and target {target.shape} must have the same shape")
    check_reduction(name, reduction)
    return target


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(a in (1, b) for a, b in zip(shape[::-1], to[::-1], strict=False))


TARGET = np.array([[0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 1, 0]])
PLUS_MINUS = 2 * TARGET - 1


def _case(op, loop, label, shape, target, **options):
    return Case(op, label, shape, target, loop=loop, call=on_device_of_input(op), **options)


def _bce(label, *inputs, **options):
    return _case(binary_cross_entropy_with_logits, binary_cross_entropy_with_logits_loop, label, *inputs, **options)


def _l1(label, *inputs, **options):
    return _case(smooth_l1_loss, smooth_l1_loss_loop, label, *inputs, **options)


CASES = [
    _bce("mean", (3, 4), TARGET),
    _bce("no reduction", (3, 4), TARGET, reduction="none"),
    _bce("weights of rows", (3, 4), TARGET, weight=np.array([[0.5], [1.0], [2.0]])),
    _bce("weights of positives, sum", (3, 4), TARGET, pos_weight=np.array([1.0, 2.0, 0.5, 3.0]), reduction="sum"),
    _bce("a target with a gradient", (3, 4), np.linspace(0.1, 0.9, 12).reshape(3, 4), reduction="none"),
    _bce("a target with a gradient, weights", (3, 4), np.linspace(0.1, 0.9, 12).reshape(3, 4),
         weight=np.array([[0.5], [1.0], [2.0]]), pos_weight=np.array([1.0, 2.0, 0.5, 3.0])),
    _bce("0-d", (), np.array(1)),
    _bce("empty batch, sum", (0, 4), np.zeros((0, 4), np.int64), reduction="sum"),
    _l1("mean", (3, 4), (3, 4)),
    _l1("no reduction, beta 1/9", (3, 4), (3, 4), beta=1 / 9, reduction="none"),
    _l1("sum, beta 3", (2, 3, 2), (2, 3, 2), beta=3.0, reduction="sum"),
    _l1("beta 0", (3, 4), (3, 4), beta=0),
    _l1("beta 0 at a kink", np.array([1.0, -2.0]), np.array([1.0, 2.0]), beta=0, reduction="sum",
        gradients=[[0, -1], [0, 1]]),
    _l1("empty batch, sum", (0, 4), (0, 4), reduction="sum"),
    _case(mse_loss, mse_loss_loop, "mean", (3, 4), (3, 4)),
    _case(mse_loss, mse_loss_loop, "sum", (2, 3, 2), (2, 3, 2), reduction="sum"),
    _case(mse_loss, mse_loss_loop, "no reduction", (5,), (5,), reduction="none"),
    _case(mse_loss, mse_loss_loop, "empty batch, sum", (0, 4), (0, 4), reduction="sum"),
    _case(hinge_loss, hinge_loss_loop, "mean", (3, 4), PLUS_MINUS),
    _case(hinge_loss, hinge_loss_loop, "no reduction", (3, 4), PLUS_MINUS, reduction="none"),
    _case(hinge_loss, hinge_loss_loop, "kink at the margin", np.array([1.0, -1.0, 0.5]), np.array([1, -1, 1]),
          reduction="sum", gradients=[[0, 0, -1]]),
    _case(hinge_loss, hinge_loss_loop, "empty batch, sum", (0, 4), np.zeros((0, 4), np.int64), reduction="sum"),
]
