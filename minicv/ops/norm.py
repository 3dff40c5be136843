"""Batch normalisation, and the local response normalisation of AlexNet.

Ioffe and Szegedy, "Batch Normalization" (2015), algorithm 1: each channel is brought to mean 0 and variance 1 over the
batch and all pixels, then to a learned mean and scale:

    y = (x - mean) / sqrt(var + eps) * weight + bias

PyTorch's conventions: the biased variance (divided by P, the number of pixels) normalises. The running averages, which
stand in for mean and variance in evaluation, move by ``momentum`` towards each batch's mean and unbiased variance
(divided by P - 1).

Krizhevsky et al. (2012), sec. 3.3, n neighbouring channels inhibit each other:

    b_i = a_i / (k + alpha/n sum_j a_j^2)^beta,      j from i - n/2 to i + (n-1)/2, where there is a channel

The division of alpha by n is PyTorch's (and Caffe's); the paper has none, so its alpha = 1e-4 with n = 5 is 5e-4 here.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import Array, device_of, is_array, parallel, to_device, xp_of
from .arguments import check_floats, number
from .case import Case
from .precision import Wide, sum_rows
from .rows import blocks_of, channelwise, from_rows, rows_of


def batch_norm_loop(x, weight, bias, running_mean=None, running_var=None, training=False, momentum=0.1, eps=1e-5):
    """``batch_norm`` on plain arrays, channel by channel; changes the running averages in place, too."""
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
# Batch normalisation
# ---------------------------------------------------------------------------------------------------------
def moments(rows: Array, near_zero: Array) -> tuple[Array, Array, Array]:
    """A rough mean of each column of (P, C), how far the mean lies from it, and the biased variance, each (C,).

    E[x^2] - E[x]^2 would lose all digits of float32 where the mean is 4000 standard deviations. So the sums are of
    distances from a rough mean, that of some 256 rows from all over the batch; ``near_zero`` receives the distances.
    The matrix is read once. The mean itself has fewer digits than its distance from the rough one: 1e6 + 0.03 rounds.
    """
    xp, (P, C) = xp_of(rows), rows.shape
    sample = rows[::-(-P // 256)]
    rough = sum_rows(sample) / len(sample)

    def sums(x, d, rough):
        xp.subtract(x, rough, out=d)
        return sum_rows(d.reshape(-1, C)), sum_rows((d * d).reshape(-1, C))
    shift, square = (sum(s) / P for s in zip(*channelwise(sums, [rows, near_zero], [rough]), strict=True))
    return rough, shift, xp.maximum(square - shift * shift, 0)


class BatchNorm(Wide):
    """y = (x - mean) * a + b,   a = weight / sqrt(var + eps)"""

    def forward(ctx, x, w, b, *, running_mean, running_var, training, momentum, eps, group=None):
        xp, rows = xp_of(x), rows_of(x)  # (P, C)
        P, C = rows.shape
        y = xp.empty_like(rows)
        if training and P:
            rough, shift, var = moments(rows, y)
            if overflows(var, rows) and not group:  # the square of 1e20: so everything in float64
                rows = rows.astype(np.float64)
                y = xp.empty_like(rows)
                rough, shift, var = moments(rows, y)
            mean = rough + shift
            if group:  # mean and variance of the whole batch, of which this process has P values per channel
                own, total = mean, int(group.sum(np.array([P]))[0])
                mean = group.sum(own * (P / total))
                var = group.sum((var + (own - mean) ** 2) * (P / total))
                P, shift = total, mean - rough
            if running_mean is not None:
                running_mean += momentum * (mean - running_mean)
                running_var += momentum * (var * (P / (P - 1)) - running_var)
        elif training:
            rough, shift, var = xp.zeros(C, x.dtype), 0, xp.ones(C, x.dtype)
        else:
            rough, shift, var = running_mean.astype(x.dtype), 0, running_var.astype(x.dtype)
        inv = 1 / xp.sqrt(var + eps)
        a = inv if w is None else w * inv
        b = xp.zeros(C, x.dtype) if b is None else b

        def normalise(x, y, a, b):
            xp.multiply(x, a, out=y)
            y += b

        def centre(x, y, mean):
            xp.subtract(x, mean, out=y)
        if training and P:  # y = (x - rough) a - shift a + b
            channelwise(normalise, [y, y], [a, b - shift * a])
        elif type(x) is np.ndarray and (abs(rough * inv) < 16).all():  # b - mean a loses 4 bits of a deviation at most
            channelwise(normalise, [rows, y], [a, b - rough * a])
        else:
            channelwise(centre, [rows, y], [rough])
            channelwise(normalise, [y, y], [a, b])
        ctx.save(rows, rough, shift, inv, a)
        ctx.training, ctx.shape_in, ctx.group, ctx.P = training, x.shape, group, P
        return from_rows(y.astype(x.dtype, copy=False), x.shape)

    def backward(ctx, gy):
        rows, rough, shift, inv, a = ctx.saved
        xp, P, C, g, gx = xp_of(gy), ctx.P, rows.shape[1], rows_of(gy), xp_of(gy).empty_like(rows)

        def sums(x, g, d, rough):
            xp.subtract(x, rough, out=d)
            return sum_rows(g.reshape(-1, C)), sum_rows((g * d).reshape(-1, C))
        zero = xp.zeros(C, rows.dtype)
        gb, gd = (sum(s, zero) for s in zip((zero, zero), *channelwise(sums, [rows, g, gx], [rough]), strict=True))
        gw = (gd - shift * gb) * inv  # sum gy (x - mean) / sqrt(var + eps)
        if overflows(abs(gw), rows):  # the sum before the division: so everything in float64
            ctx.saved = (rows.astype(np.float64), *ctx.saved[1:])
            return ctx.backward(gy)
        if ctx.needs[0] and ctx.training:
            # Mean and var are functions of x, too: they undo what moves a whole channel, or scales it.
            # gx = a (gy - mean(gy) - xn mean(gy xn)),   xn = (x - mean) / sqrt(var + eps)
            every_gw, every_gb = (ctx.group.sum(g) for g in (gw, gb)) if ctx.group else (gw, gb)

            def inputs(g, gx, minus_k, a, c):  # gx, now x - rough, becomes a (gy - k (x - rough)) + c
                gx *= minus_k
                gx += g
                gx *= a
                gx += c
            minus_k = -inv * every_gw / max(P, 1)
            channelwise(inputs, [g, gx], [minus_k, a, -a * (every_gb / max(P, 1) + minus_k * shift)])
        elif ctx.needs[0]:
            channelwise(lambda g, gx, a: xp.multiply(g, a, out=gx), [g, gx], [a])
        gx = from_rows(gx, ctx.shape_in)
        return tuple(g.astype(gy.dtype, copy=False) if needed else None
                     for g, needed in zip((gx, gw, gb), ctx.needs, strict=True))


def overflows(result: Array, x: Array) -> bool:
    """Whether a positive result of x in float32 is not finite. On NumPy arrays only: a GPU would have to wait."""
    return type(x) is np.ndarray and x.dtype == np.float32 and x.size > 0 and not result.max() < np.inf


def batch_norm(input: Tensor, running_mean: Tensor | Array | None, running_var: Tensor | Array | None,
               weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False, momentum: float = 0.1,
               eps: float = 1e-5, group: Any = None) -> Tensor:
    """Normalise each channel of (N, C, ...), then scale by ``weight`` (C,) and shift by ``bias`` (C,).

    In training by the batch's own mean and variance. ``running_mean`` and ``running_var``, arrays or Tensors (C,), move
    by the share ``momentum`` towards them: they are changed in place, as nothing else in ``minicv.ops`` is. Both may
    be None. In evaluation by ``running_mean`` and ``running_var``. Raises ``ValueError`` for shapes that do not fit,
    and in training for one value per channel, which has no variance. ``group`` (``training.Group``): the batch is
    spread over its processes, and normalised as one. Ioffe and Szegedy (2015), algorithm 1.
    """
    name, shape = "batch_norm", input.shape
    check_floats(name, input=input, weight=weight, bias=bias)
    if len(shape) < 2:
        raise ValueError(f"{name}: input must be (N, C, ...), got {shape}")
    C = shape[1]
    running_mean, running_var = (running_array(name, argument, value, input) for argument, value in (
        ("running_mean", running_mean), ("running_var", running_var)))
    if training and input.size * (group.size if group else 1) == C > 0:
        raise ValueError(f"{name}(training=True): input {shape} has one value per channel, which has no variance; use "
                         "a larger batch, or training=False")
    if (running_mean is None) != (running_var is None) or (running_mean is None and not training):
        raise ValueError(f"{name}: running_mean and running_var must both be given; only training can do without both")
    arguments = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    for argument, value in arguments.items():
        if value is not None and value.shape != (C,):
            raise ValueError(f"{name}: {argument} has shape {value.shape}; input {shape} has {C} channels: ({C},)")
    return BatchNorm.apply(input, weight, bias, running_mean=running_mean, running_var=running_var,
                           training=bool(training), momentum=number(momentum, "batch_norm(momentum)"),
                           eps=number(eps, "batch_norm(eps)"), group=group)


def running_array(name: str, argument: str, value: Tensor | Array | None, input: Tensor) -> Array | None:
    """The array to update: floats, where input lies, outside any graph."""
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
# Local response normalisation
# ---------------------------------------------------------------------------------------------------------
class LocalResponseNorm(Wide):
    """b = a d^-beta,   d = k + alpha/n sum of a^2 over the window"""

    def forward(ctx, x, *, size, alpha, beta, k):
        a = rows_of(x)  # (P, C)
        b, d = LocalResponseNorm.respond(a, size, alpha, beta, k)
        if overflows(d, a):  # the square of 1e20: so everything in float64
            a = a.astype(np.float64)
            b, d = LocalResponseNorm.respond(a, size, alpha, beta, k)
        ctx.save(a, d)
        ctx.size, ctx.alpha, ctx.beta, ctx.shape_in = size, alpha, beta, x.shape
        return from_rows(b.astype(x.dtype, copy=False), x.shape)

    @staticmethod
    def respond(a, size, alpha, beta, k):
        """b and d."""
        xp, b, d = xp_of(a), xp_of(a).empty_like(a), xp_of(a).empty_like(a)

        def block(a, b, d):  # (B, C)
            d[...] = k + alpha / size * channel_sums(a * a, size // 2, (size - 1) // 2)
            b[...] = a * xp.exp(-beta * xp.log(d))  # 5 times as fast as d ** -beta
        in_blocks(block, a, b, d)
        return b, d

    def backward(ctx, gy):  # ga_i = gb_i d_i^-beta - 2 beta alpha/n a_i sum of gb_j a_j d_j^(-beta-1) over windows of i
        a, d = ctx.saved
        xp, size, beta, ga = xp_of(gy), ctx.size, ctx.beta, xp_of(gy).empty_like(a)

        def block(a, d, gb, ga):
            direct = gb * xp.exp(-beta * xp.log(d))
            of_windows = channel_sums(direct * a / d, (size - 1) // 2, size // 2)
            ga[...] = direct - 2 * beta * ctx.alpha / size * a * of_windows
        in_blocks(block, a, d, rows_of(gy), ga)
        return from_rows(ga.astype(gy.dtype, copy=False), ctx.shape_in)


def channel_sums(m: Array, before: int, after: int) -> Array:
    """The sum of each channel of (P, C), of up to ``before`` channels before it and ``after`` behind it.

    Rows lie one after the other with zeros between, so one long addition moves all of them by a channel.
    """
    P, C = m.shape
    before, after = min(before, C), min(after, C)
    lines = xp_of(m).zeros((P, before + C + after), m.dtype)
    lines[:, before:before + C] = m
    lines = lines.reshape(-1)
    total = lines.copy()
    for k in range(1, before + after + 1):
        total[:-k] += lines[k:]
    return total.reshape(P, -1)[:, :C]


def in_blocks(work, *matrices: Array) -> None:
    """Call ``work`` for blocks of rows of (P, C) matrices, by several threads."""
    parallel(lambda span: work(*(m[span] for m in matrices)), blocks_of(matrices[0]))


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """Divide each channel of (N, C, ...) by (k + alpha/size * the squares of ``size`` channels around it) ** beta.

    Shape kept. Raises ``ValueError`` for a size below 1 or an input without channels. Krizhevsky et al. (2012), sec.
    3.3, with the paper's alpha multiplied by size.
    """
    check_floats("local_response_norm", input=input)
    if input.ndim < 2:
        raise ValueError(f"local_response_norm: input must be (N, C, ...), got {input.shape}")
    if not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"local_response_norm(size={size!r}): the channels in a window, an integer of at least 1")
    alpha, beta, k = (number(v, "local_response_norm(alpha, beta, k)") for v in (alpha, beta, k))
    return LocalResponseNorm.apply(input, size=int(size), alpha=alpha, beta=beta, k=k)


def _batch_norm(label, x, weight, bias, running=True, away=0.0, **options):
    """Every call gets its own copy of the running averages, on the inputs' device."""
    C = x[1]
    mean, var = (np.linspace(-1, 1, C) + away, np.linspace(0.5, 2, C)) if running else (None, None)

    def call(x, w, b, **options):
        averages = (None if v is None else to_device(v.copy(), x.device) for v in (mean, var))
        return batch_norm(x, *averages, w, b, **options)

    def loop(x, w, b, **options):
        return batch_norm_loop(x, w, b, *(None if v is None else v.copy() for v in (mean, var)), **options)
    return Case(batch_norm, label, x, weight, bias, loop=loop, call=call, **options)


def _trained(label, shape, **options):
    """Evaluation after a training step on other numbers: the running averages have moved, and count."""
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
