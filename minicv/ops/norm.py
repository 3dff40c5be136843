"""Batch normalization, and the local response normalization of AlexNet.

Ioffe and Szegedy, "Batch Normalization" (2015), algorithm 1: normalize each channel to mean 0 and variance 1 over the
batch and all pixels, then scale and shift it by learned numbers:

    y = (x - mean) / sqrt(var + eps) * weight + bias

As in PyTorch, the biased variance (divided by P, the number of pixels) normalizes. In evaluation running averages
replace mean and variance; in training they move by the fraction ``momentum`` towards each batch's mean and unbiased
variance (divided by P - 1).

Krizhevsky et al. (2012), sec. 3.3: n neighboring channels inhibit each other,

    b_i = a_i / (k + alpha/n sum_j a_j^2)^beta,      j from i - n/2 to i + (n-1)/2, channels outside left out

Dividing alpha by n follows PyTorch (and Caffe); the paper does not, so its alpha = 1e-4 with n = 5 is 5e-4 here.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import Array, device_of, is_array, to_device, xp_of
from .arguments import as_number, check_floats
from .case import Case
from .precision import Float16Safe


def batch_norm_loop(x, weight, bias, running_mean=None, running_var=None, training=False, momentum=0.1, eps=1e-5):
    """``batch_norm`` on plain arrays, channel by channel; also updates the running averages in place."""
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        a, P = x[:, c], x[:, c].size
        if training and P:
            mean = a.sum() / P
            var = ((a - mean) ** 2).sum() / P
            if running_mean is not None:
                running_mean[c] += momentum * (mean - running_mean[c])
                running_var[c] += momentum * (var * P / (P - 1) - running_var[c])
        else:
            mean, var = (0, 1) if training else (running_mean[c], running_var[c])
        y[:, c] = (a - mean) / np.sqrt(var + eps)
        y[:, c] = y[:, c] * (1 if weight is None else weight[c]) + (0 if bias is None else bias[c])
    return y


def local_response_norm_loop(x, size, alpha=1e-4, beta=0.75, k=1.0):
    """``local_response_norm`` on a plain array, channel by channel."""
    y, C = np.empty_like(x), x.shape[1]
    for i in range(C):
        near = [x[:, j] ** 2 for j in range(max(0, i - size // 2), min(C, i + (size - 1) // 2 + 1))]
        y[:, i] = x[:, i] / (k + alpha / size * sum(near)) ** beta
    return y


# ---------------------------------------------------------------------------------------------------------
# Batch normalization
# ---------------------------------------------------------------------------------------------------------
class BatchNorm(Float16Safe):
    """y = w xn + b,   xn = (x - mean) / sqrt(var + eps),   for each channel"""

    def forward(ctx, x, w, b, *, running_mean, running_var, training, momentum, eps, group=None):
        xp, dtype, P = xp_of(x), x.dtype, x.size // max(x.shape[1], 1)
        x = xp.moveaxis(x, 1, -1).astype(np.float64)  # (N, H, W, C); float32 fails for a mean of 4000 deviations
        ctx.pixels, ctx.training, ctx.group = tuple(range(x.ndim - 1)), training, group
        every = group.sum if group else (lambda own: own)  # sums over the processes that share the batch
        P = int(every(np.array([P]))[0]) if group else P
        if training and P:
            mean = every(x.sum(axis=ctx.pixels)) / P  # (C,)
            var = every(((x - mean) ** 2).sum(axis=ctx.pixels)) / P
            if running_mean is not None:
                running_mean += momentum * (mean - running_mean)
                running_var += momentum * (var * (P / (P - 1)) - running_var)
        else:  # also for an empty batch, which has no mean
            mean, var = (0, xp.ones(x.shape[-1])) if training else (running_mean, running_var.astype(np.float64))
        inv = 1 / xp.sqrt(var + eps)
        xn, a = (x - mean) * inv, inv if w is None else w * inv
        ctx.save(xn, a)
        ctx.P = P
        y = (xn if w is None else w * xn) + (0 if b is None else b)
        return xp.moveaxis(y, -1, 1).astype(dtype)

    def backward(ctx, gy):
        (xn, a), xp, g = ctx.saved, xp_of(gy), xp_of(gy).moveaxis(gy, 1, -1).astype(np.float64)
        gw, gb = (g * xn).sum(axis=ctx.pixels), g.sum(axis=ctx.pixels)  # (C,)
        if ctx.training:  # mean and var depend on x, too: moving or scaling a whole channel changes nothing
            every_gw, every_gb = (ctx.group.sum(v) for v in (gw, gb)) if ctx.group else (gw, gb)
            g = g - (every_gb + xn * every_gw) / max(ctx.P, 1)
        return tuple(v.astype(gy.dtype) for v in (xp.moveaxis(a * g, -1, 1), gw, gb))


def batch_norm(input: Tensor, running_mean: Tensor | Array | None, running_var: Tensor | Array | None,
               weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
               eps: float = 1e-5, group: Any = None) -> Tensor:
    """Normalize each channel of (N, C, ...), then scale by ``weight`` (C,) and shift by ``bias`` (C,).

    Training uses the batch's own mean and variance, and moves ``running_mean`` and ``running_var``, arrays or Tensors
    (C,), by the fraction ``momentum`` towards them, in place (nothing else in ``minicv.ops`` is changed in place); both
    may be None. Evaluation uses ``running_mean`` and ``running_var``. With ``group`` (``training.ProcessGroup``) the
    batch is spread over the group's processes, and normalized as one. Raises ``ValueError`` for shapes that do not fit,
    and in training for a single value per channel, which has no variance. Ioffe and Szegedy (2015), algorithm 1.
    """
    name, shape = "batch_norm", input.shape
    check_floats(name, input=input, weight=weight, bias=bias)
    if len(shape) < 2:
        raise ValueError(f"{name}: input must be (N, C, ...), got {shape}")
    C = shape[1]
    running_mean, running_var = (running_average(name, argument, value, input) for argument, value in (
        ("running_mean", running_mean), ("running_var", running_var)))
    if training and input.size * (group.size if group else 1) == C > 0:
        raise ValueError(f"{name}(training=True): input {shape} has a single value per channel, which has no variance; "
                         "use a larger batch, or training=False")
    if (running_mean is None) != (running_var is None) or (running_mean is None and not training):
        raise ValueError(f"{name}: give both running_mean and running_var, or in training neither")
    arguments = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for argument, value in arguments.items():
        if value is not None and value.shape != (C,):
            raise ValueError(f"{name}: {argument} has shape {value.shape}; input {shape} has {C} channels: ({C},)")
    return BatchNorm.apply(input, weight, bias, running_mean=running_mean, running_var=running_var,
                           training=bool(training), momentum=as_number(momentum, "batch_norm(momentum)"),
                           eps=as_number(eps, "batch_norm(eps)"), group=group)


def running_average(name: str, argument: str, value: Tensor | Array | None, input: Tensor) -> Array | None:
    """Check a running average; return its array, of floats on the input's device."""
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ValueError(f"{name}: {argument} requires a gradient, but is updated in place; pass it as .detach()")
        value = value.data
    if value is None:
        return None
    if not is_array(value) or value.dtype.kind != "f":
        raise TypeError(f"{name}: {argument} must be an array or a Tensor of floats, got "
                        f"{getattr(value, 'dtype', type(value).__name__)}")
    if device_of(value) != input.device:
        raise TypeError(f"{name}: input lies on {input.device}, {argument} on {device_of(value)}")
    return value


# ---------------------------------------------------------------------------------------------------------
# Local response normalization
# ---------------------------------------------------------------------------------------------------------
class LocalResponseNorm(Float16Safe):
    """b_i = a_i d_i^-beta,   d_i = k + alpha/n sum_j a_j^2"""

    def forward(ctx, a, *, size, alpha, beta, k):
        dtype, a = a.dtype, a.astype(np.float64)  # of 1e20 the square is no float32
        d = k + alpha / size * channel_sums(a * a, size // 2, (size - 1) // 2)
        ctx.save(a, d)
        ctx.size, ctx.alpha, ctx.beta = size, alpha, beta
        return (a * d ** -beta).astype(dtype)

    def backward(ctx, gb):  # ga_j = gb_j d_j^-beta - 2 beta alpha/n a_j sum_i gb_i a_i d_i^(-beta - 1)
        (a, d), n, beta = ctx.saved, ctx.size, ctx.beta
        direct = gb * d ** -beta
        inhibited = channel_sums(direct * a / d, (n - 1) // 2, n // 2)  # over all i whose window holds j
        return (direct - 2 * beta * ctx.alpha / n * a * inhibited).astype(gb.dtype)


def channel_sums(x: Array, before: int, after: int) -> Array:
    """For each channel of (N, C, ...), the sum of ``before`` channels before it, itself, and ``after`` behind it."""
    C = x.shape[1]
    before, after = min(before, C), min(after, C)
    x = xp_of(x).pad(x, [(0, 0), (before, after)] + [(0, 0)] * (x.ndim - 2))
    return sum(x[:, k:k + C] for k in range(before + after + 1))


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide each channel of (N, C, ...) by (k + alpha/size * sum of squares of ``size`` channels around it) ** beta.

    Raises ``ValueError`` for a size below 1 or an input without channels. Krizhevsky et al. (2012), sec.
    3.3, with the paper's alpha multiplied by size.
    """
    check_floats("local_response_norm", input=input)
    if input.ndim < 2:
        raise ValueError(f"local_response_norm: input must be (N, C, ...), got {input.shape}")
    if not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"local_response_norm(size={size!r}): the channels in a window, an integer of at least 1")
    alpha, beta, k = (as_number(v, "local_response_norm(alpha, beta, k)") for v in (alpha, beta, k))
    return LocalResponseNorm.apply(input, size=int(size), alpha=alpha, beta=beta, k=k)


def _batch_norm(label, x, weight, bias, running=True, away=0.0, **options):
    """A case whose calls get their own copies of the running averages, on the inputs' device."""
    C = x[1]
    mean, var = (np.linspace(-1, 1, C) + away, np.linspace(0.5, 2, C)) if running else (None, None)

    def call(x, w, b, **options):
        averages = (None if v is None else to_device(v.copy(), x.device) for v in (mean, var))
        return batch_norm(x, *averages, w, b, **options)

    def loop(x, w, b, **options):
        return batch_norm_loop(x, w, b, *(None if v is None else v.copy() for v in (mean, var)), **options)
    return Case(batch_norm, label, x, weight, bias, loop=loop, call=call, **options)


def _trained(label, shape, **options):
    """A case of evaluation after a training step on other numbers, which has moved the running averages."""
    first, C = np.arange(4.0 * shape[1]).reshape(4, shape[1]) ** 2, shape[1]

    def call(x, **options):
        mean, var = (to_device(v, x.device) for v in (np.zeros(C), np.ones(C)))
        batch_norm(Tensor(to_device(first, x.device)), mean, var, training=True, **options)
        return batch_norm(x, mean, var, **options)

    def loop(x, **options):
        mean, var = np.zeros(C), np.ones(C)
        batch_norm_loop(first, None, None, mean, var, training=True, **options)
        return batch_norm_loop(x, None, None, mean, var, **options)
    return Case(batch_norm, label, shape, loop=loop, call=call, **options)


def _lrn(label, shape, **options):
    return Case(local_response_norm, label, shape, loop=local_response_norm_loop, **options)


CASES = [
    _batch_norm("training", (2, 3, 4, 5), (3,), (3,), training=True),
    _batch_norm("evaluation", (2, 3, 4, 5), (3,), (3,)),
    _batch_norm("training, matrix", (7, 4), (4,), (4,), training=True),
    _batch_norm("evaluation, means of 100 deviations", (2, 3, 4, 5), (3,), (3,), away=100.0),
    _batch_norm("evaluation of one value", (1, 4), (4,), (4,)),
    _batch_norm("training without running averages", (3, 2, 2, 2), (2,), (2,), running=False, training=True),
    _batch_norm("training without weight and bias", (3, 2, 3), None, None, training=True, eps=0.1),
    _batch_norm("weight only", (3, 2, 3, 1), (2,), None, training=True),
    _batch_norm("bias only", (3, 2, 3, 1), None, (2,), momentum=0.5),
    _trained("evaluation after training", (2, 3, 2), momentum=0.3),
    _batch_norm("larger than one block, rows left over", (3, 5, 101, 67), (5,), (5,), training=True),
    _batch_norm("empty batch, training", (0, 2, 3, 3), (2,), (2,), training=True),
    _batch_norm("empty batch, evaluation", (0, 2, 3, 3), (2,), (2,)),
    _lrn("5 channels of 8", (2, 8, 3, 2), size=5, alpha=2.0, k=2.0),
    _lrn("even window", (1, 6, 2, 3), size=4, alpha=1.0),
    _lrn("window wider than the channels", (2, 3, 2), size=9, alpha=3.0, beta=0.5),
    _lrn("one channel", (3, 4), size=1, alpha=1.0, beta=1.0),
    _lrn("larger than one block", (2, 8, 96, 90), size=5, alpha=1.0),
    _lrn("empty batch", (0, 4, 2, 2), size=3),
]
