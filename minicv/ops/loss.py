"""Losses of classifiers: the cross entropy of scores or log-probabilities against classes or class probabilities.

    E = - sum_x w(x) log p_l(x)(x)          U-Net (Ronneberger et al., 2015), eq. (1) and sec. 3

p is the softmax over the classes, l(x) the true class of pixel x, w(x) its weight. (The paper prints eq. (1) without
the minus, as a quantity to maximize.)

As in PyTorch, ``reduction="mean"`` divides by the sum of the weights of the pixels that count. PyTorch has no pixel
weights; here they multiply the class weights, in numerator and denominator. So a constant weight map changes nothing,
the learning rate keeps its meaning, and ``reduction="sum"`` is eq. (1) itself.
"""
from __future__ import annotations

import numpy as np

from ..autograd import Tensor
from ..backend import Array, apply_mask, apply_weights, is_array, to_device, without_overflow, xp_of
from .arguments import as_number
from .case import Case
from .dtypes import astype
from .precision import Float16Safe
from .softmax import exp_and_sum_of_others


def cross_entropy_loop(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0,
                       pixel_weight=None):
    """``cross_entropy`` on plain arrays, pixel by pixel."""
    x = np.moveaxis(x, min(1, x.ndim - 1), -1)
    K, of_classes = x.shape[-1], target.dtype.kind != "f"
    probabilities = None if of_classes else np.moveaxis(target, min(1, target.ndim - 1), -1)
    loss, total = np.zeros(x.shape[:-1], x.dtype), 0.0
    for i in np.ndindex(loss.shape):
        if of_classes and target[i] == ignore_index:
            continue
        log_p = x[i] - np.log(np.exp(x[i]).sum())
        t = np.eye(K)[target[i]] if of_classes else probabilities[i]
        q = (1 - label_smoothing) * t + label_smoothing / K
        c = np.ones(K) if weight is None else weight
        w = 1.0 if pixel_weight is None else pixel_weight[i]
        loss[i] = -w * (c * q * log_p).sum()
        total += w * c[target[i]] if of_classes else w
    return _reduced_loop(loss, total, reduction)


def nll_loss_loop(x, target, weight=None, ignore_index=-100, reduction="mean"):
    """``nll_loss`` on plain arrays, pixel by pixel."""
    x = np.moveaxis(x, min(1, x.ndim - 1), -1)
    loss, total = np.zeros(target.shape, x.dtype), 0.0
    for i in np.ndindex(target.shape):
        if target[i] != ignore_index:
            w = 1.0 if weight is None else weight[target[i]]
            loss[i] = -w * x[i][target[i]]
            total += w
    return _reduced_loop(loss, total, reduction)


def _reduced_loop(loss, total, reduction):
    if reduction == "mean":
        return loss.sum() / total if total else np.array(np.nan)
    return loss.sum() if reduction == "sum" else loss


class CrossEntropy(Float16Safe):
    """loss = - sum_k q_k log p_k,   p = softmax(x),   q_k = v w_k ((1 - s) [k = t] + s / K)

    v is the weight of the pixel, or 0 where the target t is ignored; w_k is the weight of class k; s is the smoothing.
    """

    def forward(ctx, x, target, weight, pixel_weight, *, ignore_index, reduction, label_smoothing):
        xp, axis, s = xp_of(x), min(1, x.ndim - 1), label_smoothing
        K, counts = x.shape[axis], target != ignore_index  # (N, ...)
        t = target.astype(np.int64) * counts  # an ignored target reads class 0, with weight 0
        check_target_range("cross_entropy", t, K, ignore_index)
        classes = xp.arange(K).reshape(-1, *(1,) * (x.ndim - axis - 1))  # (K, 1, ...)
        v = counts.astype(x.dtype) if pixel_weight is None else pixel_weight * counts  # (N, ...)
        vw = xp.expand_dims(v, axis) * (1 if weight is None else weight.reshape(classes.shape))  # (N, K, ...)
        one_hot = (xp.expand_dims(t, axis) == classes).astype(x.dtype)
        q, total = vw * ((1 - s) * one_hot + s / K), (vw * one_hot).sum()
        z = apply_mask(x, (q != 0).any(axis=axis, keepdims=True))  # uncounted pixels may have any scores
        z = z - z.max(axis=axis, keepdims=True)
        log_p = z - xp.log1p(exp_and_sum_of_others(z, axis, keepdims=True)[1])
        ctx.save(log_p, q, total)
        ctx.axis, ctx.reduction = axis, reduction
        return reduce_loss(-apply_weights(log_p, q).sum(axis=axis), total, reduction)  # U-Net, eq. (1)

    def backward(ctx, gy):  # dloss/dx_k = p_k sum_j q_j - q_k = p_k (sum of the other q) - q_k (1 - p_k)
        (log_p, q, total), xp, axis = ctx.saved, xp_of(gy), ctx.axis
        others = q.sum(axis=axis, keepdims=True) - q
        g = reduce_loss_backward(gy, total, ctx.reduction)
        g = xp.expand_dims(g, axis) if ctx.reduction == "none" else g
        return apply_weights(g, xp.exp(log_p) * others + q * xp.expm1(log_p)), None, None, None


class SoftCrossEntropy(Float16Safe):
    """loss = - v sum_k w_k q_k log p_k,   q = (1 - s) t + s / K, t the class probabilities, v the pixel's weight"""

    def forward(ctx, x, t, weight, v, *, reduction, label_smoothing):
        xp, axis, s = xp_of(x), min(1, x.ndim - 1), label_smoothing
        K, per_class = x.shape[axis], (-1, *(1,) * (x.ndim - axis - 1))
        w = 1 if weight is None else weight.reshape(per_class)
        wq = w * ((1 - s) * t + s / K)
        v = xp.ones(x.shape[:axis] + x.shape[axis + 1:], x.dtype) if v is None else v
        z = apply_mask(x, xp.expand_dims(v != 0, axis))  # uncounted pixels may have any scores
        z = z - z.max(axis=axis, keepdims=True)
        log_p = z - xp.log1p(exp_and_sum_of_others(z, axis, keepdims=True)[1])
        total = v.sum()
        ctx.save(wq, log_p, w, v, total)
        ctx.axis, ctx.s, ctx.reduction = axis, s, reduction
        return reduce_loss(-apply_weights(apply_weights(log_p, wq).sum(axis=axis), v), total, reduction)

    def backward(ctx, gy):  # dloss/dx = v (p sum_k w_k q_k - w q) = v (p sum of the others - w q (1 - p))
        wq, log_p, w, v, total = ctx.saved
        xp, axis = xp_of(gy), ctx.axis
        g = xp.expand_dims(apply_weights(reduce_loss_backward(gy, total, ctx.reduction), v), axis)
        others = wq.sum(axis=axis, keepdims=True) - wq
        gx = (xp.exp(log_p) * others + wq * xp.expm1(log_p)) * g if ctx.needs_input_grad[0] else None
        gt = apply_weights(log_p, (ctx.s - 1) * w * g) if ctx.needs_input_grad[1] else None  # - v (1 - s) w log p
        return gx, gt, None, None


def cross_entropy(input: Tensor, target: Tensor | Array, weight: Tensor | Array | None = None, ignore_index: int = -100,
                  reduction: str = "mean", label_smoothing: float = 0.0,
                  pixel_weight: Tensor | Array | None = None) -> Tensor:
    """Cross entropy of scores (N, K), (N, K, d1, ...) or (K,) against class numbers (N,), (N, d1, ...) or ().

    The target may also be class probabilities: floats of the input's shape, which then receive a gradient, too.
    ``weight`` (K,) holds weights of the classes, ``pixel_weight`` (N, d1, ...) weights of the pixels; they receive
    none. Pixels whose target is ``ignore_index`` do not count, nor do those of weight 0: their loss and gradient are 0
    whatever their scores. ``label_smoothing`` in [0, 1] is the share of each target that is spread evenly over all
    classes (Szegedy et al., 2016, sec. 7). ``reduction`` is "none", (N, d1, ...), "sum", or "mean", which divides by
    the sum of the weights of the pixels that count (for class probabilities without the class weights). If no pixel
    counts, the mean is NaN and its gradient 0, as in PyTorch. Raises ``ValueError`` for shapes that do not fit and for
    a target that is not a class (checked on NumPy arrays only: a GPU would have to wait).
    """
    name, label_smoothing = "cross_entropy", as_number(label_smoothing, "cross_entropy(label_smoothing)")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}(label_smoothing={label_smoothing}) must lie in [0, 1]")
    target = target if isinstance(target, Tensor) else Tensor(target)
    if target.dtype.kind == "f" and target.shape == input.shape:
        if ignore_index >= 0:
            raise ValueError(f"{name}(ignore_index={ignore_index}): class probabilities have no class to ignore; give "
                             "such pixels a pixel_weight of 0")
        weight, pixel_weight = check_weights(name, input, weight, pixel_weight, reduction)
        return SoftCrossEntropy.apply(input, astype(target, input.dtype), weight, pixel_weight, reduction=reduction,
                                      label_smoothing=label_smoothing)
    target, weight, pixel_weight = check_classes(name, input, target, weight, pixel_weight,
                                                 ignore_index=ignore_index, reduction=reduction)
    return CrossEntropy.apply(input, target, weight, pixel_weight, ignore_index=ignore_index, reduction=reduction,
                              label_smoothing=label_smoothing)


class NLLLoss(Float16Safe):
    """loss = - a x_t, x the log-probabilities, a the weight of class t, or 0 where t is ignored"""

    def forward(ctx, x, target, weight, *, ignore_index, reduction):
        xp, axis, counts = xp_of(x), min(1, x.ndim - 1), target != ignore_index
        t = target.astype(np.int64) * counts
        check_target_range("nll_loss", t, x.shape[axis], ignore_index)
        a, at = counts.astype(x.dtype) if weight is None else weight[t] * counts, xp.expand_dims(t, axis)
        log_p, total = xp.take_along_axis(x, at, axis=axis).reshape(t.shape), a.sum()
        ctx.save(at == xp.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - axis - 1)), a, total)
        ctx.axis, ctx.reduction = axis, reduction
        return without_overflow(lambda log_p: reduce_loss(-apply_weights(log_p, a), total, reduction), log_p)

    def backward(ctx, gy):  # dloss/dx_t = -a
        (one_hot, a, total), xp = ctx.saved, xp_of(gy)
        gx = -apply_weights(reduce_loss_backward(gy, total, ctx.reduction), a)  # where the target is, along the classes
        return apply_mask(xp.expand_dims(gx, ctx.axis), one_hot), None, None


def nll_loss(input: Tensor, target: Tensor | Array, weight: Tensor | Array | None = None, ignore_index: int = -100,
             reduction: str = "mean") -> Tensor:
    """The second half of ``cross_entropy``, for results of ``log_softmax``. Arguments and errors are as there."""
    target, weight, _ = check_classes("nll_loss", input, target, weight, None, ignore_index=ignore_index,
                                      reduction=reduction)
    return NLLLoss.apply(input, target, weight, ignore_index=ignore_index, reduction=reduction)


# ---------------------------------------------------------------------------------------------------------
# Reductions and errors
# ---------------------------------------------------------------------------------------------------------
def reduce_loss(loss: Array, total: Array | float, reduction: str) -> Array:
    """The losses, their sum, or their sum divided by ``total``: the sum of their weights or their number, as a float.

    (Divided by an int of 65,536 or more, a float32 array becomes float64 in CuPy before 14.)
    """
    if reduction == "none":
        return loss
    return without_overflow(lambda loss: loss.sum() / total, loss) if reduction == "mean" else loss.sum()


def reduce_loss_backward(gy: Array, total: Array | float, reduction: str) -> Array:
    """The gradient of each loss, from that of ``reduce_loss``: one number for all, or of the losses' shape."""
    return gy / (total + (total == 0)) if reduction == "mean" else gy  # where nothing counts: 0, not NaN


def check_reduction(name: str, reduction: str) -> None:
    """Raise ``ValueError`` unless it is "none", "mean" or "sum"."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{name}(reduction={reduction!r}): use 'none', 'mean' or 'sum'")


def as_constant(where: str, value: Tensor | Array, dtype: np.dtype | None = None) -> Tensor:
    """A Tensor outside the graph, of this dtype. Raises ``ValueError`` for one that requires a gradient."""
    if isinstance(value, Tensor) and value.requires_grad:
        raise ValueError(f"{where} requires a gradient, but the loss gives it none; pass it as .detach()")
    data = value.data if isinstance(value, Tensor) else value if is_array(value) else Tensor(value).data
    return Tensor(data if dtype is None else data.astype(dtype, copy=False))


def check_classes(name: str, input: Tensor, target: Tensor | Array, weight: Tensor | Array | None,
                  pixel_weight: Tensor | Array | None, *, ignore_index: int,
                  reduction: str) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Check the arguments of a loss with class numbers; return target, weight and pixel_weight as constants."""
    weights = check_weights(name, input, weight, pixel_weight, reduction)
    target, shape = as_constant(f"{name}(target)", target), pixel_shape(input)
    if target.dtype.kind not in "iu":
        alternative = f", or class probabilities of input's shape {input.shape}" if name == "cross_entropy" else ""
        raise TypeError(f"{name}: target must be integer class numbers of shape {shape}{alternative}; got "
                        f"{target.dtype} {target.shape}; convert numbers with .astype('int64')")
    if target.shape != shape:
        raise ValueError(f"{name}: input {input.shape} needs a target of shape {shape}, got {target.shape}")
    if target.dtype == np.uint64:  # beyond int64 they would wrap around, perhaps to ignore_index
        target = Tensor(xp_of(target.data).minimum(target.data, np.iinfo(np.int64).max))
    if not isinstance(ignore_index, int | np.integer):
        raise TypeError(f"{name}(ignore_index={ignore_index!r}) must be an integer; -100, which is not a class, "
                        "ignores nothing")
    return target, *weights


def pixel_shape(input: Tensor) -> tuple[int, ...]:
    """The input's shape without the axis of the classes."""
    axis = min(1, input.ndim - 1)
    return input.shape[:axis] + input.shape[axis + 1:]


def check_weights(name: str, input: Tensor, weight: Tensor | Array | None, pixel_weight: Tensor | Array | None,
                  reduction: str) -> tuple[Tensor | None, Tensor | None]:
    """Check input, weights and reduction of a loss; return weight and pixel_weight as constants."""
    axis = min(1, input.ndim - 1)
    if input.dtype.kind != "f" or input.ndim < 1 or input.shape[axis] < 1:
        raise ValueError(f"{name}: input must be scores (N, K, ...), floats, of at least one class; got {input.dtype} "
                         f"{input.shape}")
    K, shape = input.shape[axis], pixel_shape(input)
    weight, pixel_weight = (None if value is None else as_constant(f"{name}({argument})", value, input.dtype)
                            for argument, value in (("weight", weight), ("pixel_weight", pixel_weight)))
    if weight is not None and weight.shape != (K,):
        raise ValueError(f"{name}: weight has shape {weight.shape}; input {input.shape} has {K} classes: ({K},)")
    if pixel_weight is not None and pixel_weight.shape != shape:
        raise ValueError(f"{name}: pixel_weight has shape {pixel_weight.shape}, but must have one number per "
                         f"pixel, {shape}")
    check_reduction(name, reduction)
    return weight, pixel_weight


def check_target_range(name: str, t: Array, K: int, ignore_index: int) -> None:
    """Raise ``ValueError`` for a class number below 0 or above K - 1, in NumPy arrays."""
    if type(t) is np.ndarray and t.size and not 0 <= t.min() <= t.max() < K:
        wrong = t.min() if t.min() < 0 else t.max()
        raise ValueError(f"{name}: target {wrong} is neither one of the {K} classes, 0 to {K - 1}, nor "
                         f"ignore_index={ignore_index}")


def _case(label, shape, target, op=cross_entropy, loop=cross_entropy_loop, **options):
    return Case(op, label, shape, target, loop=loop, call=on_device_of_input(op), **options)


def on_device_of_input(op):
    """The op for a Case: arrays among its options move to the device of the inputs."""
    def call(x, t, **options):
        return op(x, t, **{name: to_device(value, x.device) if is_array(value) else value
                           for name, value in options.items()})
    return call


def _nll(label, shape, target, **options):
    return _case(label, shape, target, nll_loss, nll_loss_loop, **options)


T = np.array([[0, 2, 1], [1, 1, 0]])  # (N, d1) = (2, 3)
VOID = np.array([[0, 255, 1], [1, 255, 0]], np.uint8)
PROBABILITIES = np.array([[[0.5, 0.0], [0.2, 1.0], [0.3, 0.0]], [[0.1, 0.3], [0.8, 0.3], [0.1, 0.4]]])
W3, W23 = np.array([0.5, 1.0, 3.0]), np.array([[1.0, 0.0, 2.5], [0.3, 4.0, 1.0]])

CASES = [
    _case("scores of images", (4, 5), np.array([0, 4, 2, 2])),
    _case("scores of pixels", (2, 3, 3), T),
    _case("(N, K, H, W)", (2, 3, 2, 3), np.arange(12).reshape(2, 2, 3) % 3),
    _case("one image without N", (4,), np.array(2)),
    _case("sum", (2, 3, 3), T, reduction="sum"),
    _case("no reduction", (2, 3, 3), T, reduction="none"),
    _case("class weights", (2, 3, 3), T, weight=W3),
    _case("class weights, no reduction", (2, 3, 3), T, weight=W3, reduction="none"),
    _case("ignore 255", (2, 3, 3), VOID, ignore_index=255, weight=W3),
    _case("all ignored, sum", (2, 3, 3), np.full((2, 3), -100), reduction="sum"),
    _case("weight map", (2, 3, 3), T, pixel_weight=W23),
    _case("weight map and everything", (2, 3, 3), VOID, ignore_index=255, weight=W3, pixel_weight=W23,
          label_smoothing=0.2),
    _case("smoothing, no reduction", (2, 3, 3), T, weight=W3, label_smoothing=0.1, reduction="none"),
    _case("smoothing all away", (2, 3, 3), T, label_smoothing=1.0),
    _case("probabilities", (2, 3, 2), PROBABILITIES),
    _case("probabilities of one image", (3,), PROBABILITIES[0, :, 0], reduction="sum"),
    _case("probabilities, weights, smoothing", (2, 3, 2), PROBABILITIES, weight=W3, pixel_weight=W23[:, :2],
          label_smoothing=0.2),
    _case("probabilities, class weights, no reduction", (2, 3, 2), PROBABILITIES, weight=W3, reduction="none"),
    _case("one class", (2, 1, 3), np.zeros((2, 3), np.int32)),
    _case("larger than one block", (2, 3, 128, 128), np.arange(2 * 128 * 128).reshape(2, 128, 128) % 3),
    _case("empty batch, sum", (0, 3, 2), np.zeros((0, 2), np.int64), reduction="sum"),
    _nll("log-probabilities of images", (4, 5), np.array([0, 4, 2, 2])),
    _nll("(N, K, H, W), class weights", (2, 3, 2, 3), np.arange(12).reshape(2, 2, 3) % 3, weight=W3),
    _nll("ignore 255, sum", (2, 3, 3), VOID, ignore_index=255, weight=W3, reduction="sum"),
    _nll("ignore 255, no reduction", (2, 3, 3), VOID, ignore_index=255, reduction="none"),
    _nll("one image without N", (4,), np.array(2)),
    _nll("empty batch, sum", (0, 3, 2), np.zeros((0, 2), np.int64), reduction="sum"),
]
