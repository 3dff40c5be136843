"""Every op of minicv computed by PyTorch instead: the same model code, weights and graph, on another library.

    with substitute(TABLE):
        loss = model(x)          # forward by PyTorch
    loss.backward()              # and backward

``TABLE`` maps each Function class of ``minicv.ops`` to one whose forward hands the arrays to PyTorch, without a copy
and channels-last where they are, and whose backward asks PyTorch's own autograd. ``OURS`` lists those that PyTorch has
no operator for. Import it where ``tests.oracle.require("torch")`` has passed.
"""
from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType

import numpy as np
import torch
import torch.nn.functional as TF

from minicv.autograd import Function
from minicv.ops.activation import LeakyReLU, ReLU, Sigmoid, Tanh
from minicv.ops.adaptive_pool import AdaptiveAvgPool2d, AdaptiveMaxPool2d
from minicv.ops.avg_pool import AvgPool2d
from minicv.ops.conv import Conv2d, ConvTranspose2d
from minicv.ops.dropout import Dropout
from minicv.ops.dtypes import AsType
from minicv.ops.elementwise import Abs, Add, Div, Exp, Log, Mul, Neg, Pow, Sqrt, Sub
from minicv.ops.interpolate import Interpolate, Nearest, hat_weights, source_positions
from minicv.ops.linear import Linear, MatMul
from minicv.ops.loss import CrossEntropy, NLLLoss, SoftCrossEntropy
from minicv.ops.loss_elementwise import BinaryCrossEntropyWithLogits, HingeLoss, MSELoss, SmoothL1Loss
from minicv.ops.max_pool import MaxPool2d
from minicv.ops.norm import BatchNorm, LocalResponseNorm
from minicv.ops.pad import Pad
from minicv.ops.reduce import Amax, Amin, Mean, Sum
from minicv.ops.roi import RoIAlign, RoIPool
from minicv.ops.selection import Clamp, Maximum, Minimum, Where
from minicv.ops.shape import Concatenate, Expand, Flip, GetItem, Permute, Reshape
from minicv.ops.softmax import LogSoftmax, Softmax
from minicv.ops.unpool import MaxUnpool2d, UnpoolBedOfNails, UnpoolNearest

WITHOUT_ROI = "PyTorch has no such operator on the CPU; its own tests hold it against a version in PyTorch's arithmetic"
OURS: dict[type[Function], str] = {RoIPool: WITHOUT_ROI, RoIAlign: WITHOUT_ROI}
TABLE: dict[type[Function], type[Function]] = {}


def to_torch(array: np.ndarray) -> torch.Tensor:
    """The same memory as a PyTorch tensor; a copy where PyTorch cannot take it: read-only, or going backwards."""
    if not array.flags.writeable or min(array.strides, default=0) < 0:
        array = array.copy(order="K")
    return torch.from_numpy(array)


class TorchFunction(Function):
    """A Function whose mathematics is ``expression``, of PyTorch tensors; of several results the first counts."""

    expression: Callable

    def forward(ctx, *arrays, **options):
        tensors = [None if a is None else to_torch(a) for a in arrays]
        for tensor, need in zip(tensors, ctx.needs_input_grad, strict=True):
            if need:
                tensor.requires_grad_()
        with torch.enable_grad():
            result = type(ctx).expression(*tensors, **options)
        results = result if isinstance(result, tuple) else (result,)
        ctx.save(tensors, results[0])
        out = tuple(r.detach().numpy() for r in results)
        return out if len(out) > 1 else out[0]

    def backward(ctx, gy):
        tensors, y = ctx.saved
        wanted = [t for t, need in zip(tensors, ctx.needs_input_grad, strict=True) if need]
        found = iter(torch.autograd.grad(y, wanted, to_torch(gy), materialize_grads=True))
        return tuple(next(found).numpy() if need else None for need in ctx.needs_input_grad)


def twin_of(*functions: type[Function]):
    """Make a PyTorch expression the twin of these Functions: its arguments are those of their ``forward``."""
    def note(expression):
        for function in functions:
            twin = type(f"Torch{function.__name__}", (TorchFunction,), {"expression": staticmethod(expression)})
            TABLE[function] = twin
        return expression
    return note


# ---------------------------------------------------------------------------------------------------------
# Elementwise
# ---------------------------------------------------------------------------------------------------------
for _function, _expression in {
    Add: torch.add, Sub: torch.sub, Mul: torch.mul, Div: torch.div, Maximum: torch.maximum, Minimum: torch.minimum,
    Neg: torch.neg, Exp: torch.exp, Log: torch.log, Sqrt: torch.sqrt, Abs: torch.abs, MatMul: torch.matmul,
    Linear: TF.linear, ReLU: torch.relu, Sigmoid: torch.sigmoid, Tanh: torch.tanh, Clamp: torch.clamp,
}.items():
    twin_of(_function)(_expression)


@twin_of(Pow)
def _(x, *, p):
    return torch.pow(x, p)


@twin_of(Dropout)
def _(x, *, mask, scale):
    return torch.where(to_torch(mask), x * scale, 0)


@twin_of(AsType)
def _(x, *, dtype):
    return x.to(getattr(torch, dtype.name))


@twin_of(Where)
def _(a, b, *, condition):
    return torch.where(to_torch(condition), a, b)


@twin_of(LeakyReLU)
def _(x, *, slope):
    return TF.leaky_relu(x, slope)


# ---------------------------------------------------------------------------------------------------------
# Reductions and shapes. PyTorch takes an empty list of axes for all of them: only a number has none here.
# ---------------------------------------------------------------------------------------------------------
@twin_of(Sum)
def _(x, *, over, keepdim):
    return torch.sum(x, dim=over, keepdim=keepdim)


@twin_of(Mean)
def _(x, *, over, keepdim):
    return torch.mean(x, dim=over, keepdim=keepdim) if over else x.clone()


@twin_of(Amax)
def _(x, *, over, keepdim):
    return torch.amax(x, dim=over, keepdim=keepdim)


@twin_of(Amin)
def _(x, *, over, keepdim):
    return torch.amin(x, dim=over, keepdim=keepdim)


@twin_of(Reshape)
def _(x, *, shape):
    return x.reshape(shape)


@twin_of(Permute)
def _(x, *, dims):
    return x.permute(dims)


@twin_of(Expand)
def _(x, *, size):
    return x.expand(size)


@twin_of(Flip)
def _(x, *, dims):
    return torch.flip(x, dims)


@twin_of(Concatenate)
def _(*xs, dim):
    return torch.cat(xs, dim)


@twin_of(GetItem)
def _(x, *, index):
    parts = index if isinstance(index, tuple) else (index,)
    if all(isinstance(p, int | EllipsisType | None) or (isinstance(p, slice) and (p.step or 1) > 0) for p in parts):
        return x[index]
    places = np.arange(x.numel()).reshape(x.shape)[index]  # PyTorch has no slices that go backwards
    return x.reshape(-1)[torch.from_numpy(np.asarray(places).ravel())].reshape(places.shape)


@twin_of(Pad)
def _(x, *, widths, mode, value):
    if mode == "constant":
        return TF.pad(x, [n for pair in reversed(widths) for n in pair], value=value)
    for axis, pair in enumerate(widths):  # TF.pad mirrors images only
        source = np.pad(np.arange(x.shape[axis]), pair, mode="reflect" if mode == "reflect" else "edge")
        x = x.index_select(axis, torch.from_numpy(source))
    return x


# ---------------------------------------------------------------------------------------------------------
# Convolution and pooling
# ---------------------------------------------------------------------------------------------------------
@twin_of(Conv2d)
def _(x, w, b, *, windows, out_size, groups):
    _, stride, padding, dilation = windows
    after = [s * (o - 1) + d * (k - 1) + 1 - n - p
             for o, n, k, s, p, d in zip(out_size, x.shape[2:], *windows, strict=True)]
    symmetric = all(p - s < a <= p for a, p, s in zip(after, padding, stride, strict=True))
    if not symmetric:  # "same" with an even kernel
        x = TF.pad(x, (padding[1], after[1], padding[0], after[0]))
    return TF.conv2d(x, w, b, stride, padding if symmetric else 0, dilation, groups)


@twin_of(ConvTranspose2d)
def _(x, w, b, *, windows, out_size, groups):
    rest = [o - (s * (n - 1) + d * (k - 1) + 1 - 2 * p)
            for o, n, k, s, p, d in zip(out_size, x.shape[2:], *windows, strict=True)]
    _, stride, padding, dilation = windows
    return TF.conv_transpose2d(x, w, b, stride, padding, rest, groups, dilation)


def rounds_up(x, windows, out_size) -> bool:
    """Whether the number of windows is that of ``ceil_mode``."""
    return any(o != (n + 2 * p - d * (k - 1) - 1) // s + 1
               for o, n, k, s, p, d in zip(out_size, x.shape[2:], *windows, strict=True))


@twin_of(MaxPool2d)
def _(x, *, windows, out_size, return_indices):
    return TF.max_pool2d(x, *windows, rounds_up(x, windows, out_size), return_indices)


@twin_of(AvgPool2d)
def _(x, *, windows, out_size, divisor):
    sums = TF.avg_pool2d(x, *windows[:3], rounds_up(x, windows, out_size), divisor_override=1)
    return sums / torch.from_numpy(np.asarray(divisor)).to(x.dtype).reshape(divisor.shape[:2])


@twin_of(AdaptiveAvgPool2d)
def _(x, *, out_size):
    return TF.adaptive_avg_pool2d(x, out_size)


@twin_of(AdaptiveMaxPool2d)
def _(x, *, out_size, return_indices):
    return TF.adaptive_max_pool2d(x, out_size, return_indices)


@twin_of(UnpoolNearest)
def _(x, *, scale):
    return x.repeat_interleave(scale[0], 2).repeat_interleave(scale[1], 3)


@twin_of(UnpoolBedOfNails)
def _(x, *, scale):
    nail = torch.zeros(scale, dtype=x.dtype)
    nail[0, 0] = 1
    return torch.kron(x, nail)


@twin_of(MaxUnpool2d)
def _(x, indices, *, out_size):
    # PyTorch's result for indices that occur twice depends on its threads: the first ones go elsewhere and are cut off
    planes = indices.flatten(2)
    ordered, order = planes.sort(dim=-1, stable=True)
    again = ordered[..., :-1] == ordered[..., 1:]  # the same index comes once more
    later = torch.zeros_like(planes, dtype=torch.bool).scatter(2, order[..., :-1], again)
    places = torch.where(later, out_size[0] * out_size[1], planes)
    y = torch.zeros(*x.shape[:2], out_size[0] * out_size[1] + 1, dtype=x.dtype).scatter(2, places, x.flatten(2))
    return y[..., :-1].reshape(*x.shape[:2], *out_size)


@twin_of(Interpolate)
def _(x, *, rows, columns):
    sizes = list(zip(x.shape[2:], (len(rows), len(columns)), strict=True))
    for aligned in (False, True):
        matrices = [hat_weights(source_positions(n, o, None, "bilinear", aligned), n) for n, o in sizes]
        if all(map(np.allclose, matrices, (rows, columns))):
            return TF.interpolate(x, (len(rows), len(columns)), mode="bilinear", align_corners=aligned)
    rows, columns = (torch.from_numpy(m).to(x.dtype) for m in (rows, columns))  # a scale that is not the true ratio
    return rows @ x @ columns.T


@twin_of(Nearest)
def _(x, *, rows, columns):
    return x.index_select(2, torch.from_numpy(rows)).index_select(3, torch.from_numpy(columns))


# ---------------------------------------------------------------------------------------------------------
# Normalization, softmax, losses
# ---------------------------------------------------------------------------------------------------------
@twin_of(BatchNorm)
def _(x, w, b, *, running_mean, running_var, training, momentum, eps, group=None):  # alone in its group
    averages = [None if a is None else torch.from_numpy(a) for a in (running_mean, running_var)]  # updated in place
    return TF.batch_norm(x, *averages, w, b, training and x.numel() > 0, momentum, eps)


@twin_of(LocalResponseNorm)
def _(x, *, size, alpha, beta, k):
    y = TF.local_response_norm(x[:, :, None] if x.ndim == 2 else x, size, alpha, beta, k)
    return y.reshape(x.shape)


@twin_of(Softmax)
def _(x, *, dim):
    return TF.softmax(x, dim)


@twin_of(LogSoftmax)
def _(x, *, dim):
    return TF.log_softmax(x, dim)


@twin_of(CrossEntropy)
def _(x, target, weight, pixel_weight, *, ignore_index, reduction, label_smoothing):
    target, options = target.long(), {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    if pixel_weight is None:
        return TF.cross_entropy(x, target, weight, reduction=reduction, **options)
    losses = pixel_weight * TF.cross_entropy(x, target, weight, reduction="none", **options)
    if reduction != "mean":
        return losses.sum() if reduction == "sum" else losses
    counts = target != ignore_index
    of_class = torch.ones_like(pixel_weight) if weight is None else weight[torch.where(counts, target, 0)]
    return losses.sum() / (pixel_weight * of_class * counts).sum()


@twin_of(SoftCrossEntropy)
def _(x, target, weight, pixel_weight, *, reduction, label_smoothing):
    if pixel_weight is None:
        return TF.cross_entropy(x, target, weight, reduction=reduction, label_smoothing=label_smoothing)
    losses = pixel_weight * TF.cross_entropy(x, target, weight, reduction="none", label_smoothing=label_smoothing)
    return losses if reduction == "none" else losses.sum() / (pixel_weight.sum() if reduction == "mean" else 1)


@twin_of(NLLLoss)
def _(x, target, weight, *, ignore_index, reduction):
    return TF.nll_loss(x, target.long(), weight, ignore_index=ignore_index, reduction=reduction)


@twin_of(BinaryCrossEntropyWithLogits)
def _(x, t, weight, pos_weight, *, reduction):
    return TF.binary_cross_entropy_with_logits(x, t, weight, pos_weight=pos_weight, reduction=reduction)


@twin_of(SmoothL1Loss)
def _(x, t, *, reduction, beta):
    return TF.smooth_l1_loss(x, t, reduction=reduction, beta=beta)


@twin_of(MSELoss)
def _(x, t, *, reduction):
    return TF.mse_loss(x, t, reduction=reduction)


@twin_of(HingeLoss)
def _(x, y, *, reduction):
    losses = torch.relu(1 - y * x)
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()
