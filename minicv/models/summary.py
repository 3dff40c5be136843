"""The layers of a network: output shape, parameters, work and receptive field of each.

The model runs once, and every operation that it applies is recorded. For slow operations, only the shape of the result
is computed.

Receptive field, layer by layer along each axis, for a kernel of k taps, d apart, moved by s:

    r += (k - 1) d j        pixels of the image that one output depends on; summed up: Araujo et al. (2019), eq. (2)
    j *= s                  jump: distance in the image between the fields of two neighboring outputs

That holds while all positions of a map have fields of the same size. After upsampling they do not, so the code below
follows the first and the last pixel that each position depends on. The field is the largest distance between the two;
where branches meet (skips, inception), it covers the fields of all of them. Near the border it extends beyond the
image, into padding. "clean" counts the rows (x columns, if they differ) of a map that no padding reaches.

MACs are the multiply-accumulates of convolutions and matrix products; a count of FLOPs is twice that.
"""
from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import EllipsisType
from typing import Any

import numpy as np

from ..autograd import Function, Tensor, no_grad, substitute
from ..backend import Array, xp, xp_of
from ..nn import Module, evaluating
from ..ops.adaptive_pool import AdaptiveAvgPool2d, AdaptiveMaxPool2d, adaptive_bins
from ..ops.avg_pool import AvgPool2d
from ..ops.conv import Conv2d, ConvTranspose2d
from ..ops.interpolate import Interpolate, Nearest
from ..ops.linear import Linear, MatMul
from ..ops.max_pool import MaxPool2d
from ..ops.pad import Pad
from ..ops.roi import RoIAlign, RoIPool
from ..ops.shape import GetItem, Permute, Reshape
from ..ops.unpool import MaxUnpool2d, UnpoolBedOfNails, UnpoolNearest


@dataclass
class Axis:
    """One axis of a map. Position a depends on the pixels ``begin[a]`` to ``end[a]``; ``clean[a]``: not on padding."""

    begin: np.ndarray
    end: np.ndarray
    clean: np.ndarray
    jump: Fraction

    @property
    def field(self) -> int:
        """Return the receptive field in pixels of the position with the largest one."""
        return int((self.end - self.begin).max(initial=-1)) + 1

    def through(self, first: Array, last: Array, step: Fraction | int) -> Axis:
        """Return the axis of the next map; its position a depends on positions first[a] to last[a], ``step`` apart."""
        first, last = np.asarray(first), np.asarray(last)
        f, l = (v.clip(0, len(self.clean) - 1) for v in (first, last))
        before, after = (v * self.jump.numerator // self.jump.denominator for v in (first - f, last - l))  # in pixels
        return Axis(self.begin[f] + before, self.end[l] + after,
                    self.clean[f] & self.clean[l] & (f == first) & (l == last), self.jump * step)

    def whole(self) -> Axis:
        """Return the axis of a single number that depends on the whole map."""
        n = len(self.clean)
        return self.through([0], [n - 1], n)


@dataclass
class Row:
    """One layer: ``name`` in the model ("" if it has no parameters), ``op``, shape (C, H, W) of the result.

    ``axes`` are those of H and W; () if their fields are unknown. ``field``, ``jump`` and ``clean`` (a count) sum them
    up.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    axes: tuple[Axis, ...]

    field = property(lambda self: tuple(a.field for a in self.axes))
    jump = property(lambda self: tuple(a.jump for a in self.axes if len(self.shape) == 3))
    clean = property(lambda self: tuple(int(a.clean.sum()) for a in self.axes))


@dataclass
class Summary:
    """All rows and the totals: parameters of the model, MACs for one image, shape and axes of the output."""

    rows: list[Row]
    parameters: int
    macs: int
    output: tuple[int, ...]
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        head = ("layer", "operation", "output", "parameters", "MACs", "field", "jump", "clean")
        lines = [(r.name, r.op, "x".join(map(str, r.shape)), f"{r.parameters:,}" if r.parameters else "",
                  f"{r.macs:,}" if r.macs else "", *map(format_axes, (r.field, r.jump, r.clean))) for r in self.rows]
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        table = ["  ".join(f"{v:<{w}}" if i < 3 else f"{v:>{w}}" for i, (v, w) in
                           enumerate(zip(line, widths, strict=True))).rstrip() for line in [head, *lines]]
        unused = self.parameters - sum(r.parameters for r in self.rows)
        training = f" ({unused:,} of them in layers that only training runs)" if unused else ""
        return "\n".join([
            *table,
            f"total: {self.parameters:,} parameters{training}, {self.macs:,} MACs (multiply-accumulates; a FLOP count "
            "is twice that)",
            "field and jump in pixels of the input; clean: rows of the map that no padding reaches"])


def format_axes(values: tuple) -> str:
    """Return one number if both axes agree, else height x width; a fraction as 1/2."""
    return "x".join(map(str, values if len(set(values)) > 1 else values[:1]))


def summarize(model: Module, input_size: tuple[int, int, int]) -> Summary:
    """Run the model in evaluation mode on one blank image (C, H, W) and record every layer.

    A layer is an operation that has parameters or changes the shape. Raises what the model raises for that size.
    """
    tracer = Tracer(model)
    output = tracer.run(input_size)
    shape, axes = (output.shape[1:], tracer.seen[id(output.data)][1]) if isinstance(output, Tensor) else ((), ())
    return Summary(tracer.rows, model.num_parameters(), sum(row.macs for row in tracer.rows), shape, axes)


def receptive_radius(model: Module, input_size: tuple[int, int, int]) -> int:
    """Return the distance in pixels from an output to the farthest pixel that it depends on, for images (C, H, W).

    The output has the input's size. Pooling over the whole map, on which every output depends, is left out.
    """
    tracer = LocalTracer(model)
    output = tracer.run(input_size)
    axes = tracer.seen[id(output.data)][1]
    return max(int(max((at - a.begin).max(), (a.end - at).max())) for a in axes for at in [np.arange(len(a.begin))])


def all_functions(base: type[Function] = Function) -> Iterator[type[Function]]:
    """Yield the class of every operation."""
    for cls in base.__subclasses__():
        yield cls
        yield from all_functions(cls)


def traced(cls: type[Function], tracer: Tracer) -> Any:
    """Return a stand-in for a class: it makes the class's calls, each with the tracer as its forward."""
    def new() -> Function:
        ctx: Any = cls()
        ctx.forward = functools.partial(tracer.call, cls, ctx)
        return ctx
    return new


class Tracer:
    """Follow the maps of one run. A map is an array that takes no memory: one zero, broadcast to the map's shape."""

    def __init__(self, model: Module):
        self.model = model
        self.rows: list[Row] = []
        self.names = {id(p.data): (name.rpartition(".")[0], p.size) for name, p in model.named_parameters()}
        self.like = next((p.data for p in model.parameters()), xp().zeros(0, np.float32))
        self.seen: dict[int, tuple[Array, tuple[Axis, ...]]] = {}  # by id; with the array, so that the id stays its own

    @no_grad()
    def run(self, input_size: tuple[int, int, int]) -> Any:
        """Return the model's output for a blank image (C, H, W), in evaluation mode, with every operation recorded."""
        with evaluating(self.model), substitute({cls: traced(cls, self) for cls in all_functions()}):
            return self.model(self.blank_image(input_size))

    def blank(self, shape: tuple[int, ...], dtype: Any, axes: tuple[Axis, ...]) -> Array:
        module = xp_of(self.like)
        array = module.broadcast_to(module.zeros((), dtype), shape)
        self.seen[id(array)] = array, axes
        return array

    def blank_image(self, size: tuple[int, int, int]) -> Tensor:
        axes = tuple(Axis(np.arange(n), np.arange(n), np.ones(n, bool), Fraction(1)) for n in size[1:])
        return Tensor(self.blank((1, *size), self.like.dtype, axes))

    def call(self, cls: type[Function], ctx: Function, *arrays: Any, **options: Any) -> Any:
        """Record an operation and return a blank result, in place of ``cls.forward``."""
        maps = [(a, self.seen[id(a)][1]) for a in arrays if id(a) in self.seen]
        if not maps:  # of weights alone
            return cls.forward(ctx, *arrays, **options)
        if cls in SHAPES:
            shape, others = SHAPES[cls](arrays, options), []
        else:
            result = cls.forward(ctx, *arrays, **options)
            first, *others = result if isinstance(result, tuple) else (result,)
            shape = first.shape
        axes = self.follow(cls, maps, arrays, options, shape)
        owned = [self.names.pop(id(a)) for a in arrays if id(a) in self.names]  # counted once, if shared
        macs = MACS[cls](arrays, shape) if cls in MACS else 0
        if owned or macs or (shape != maps[0][0].shape and cls not in REORDERING):
            self.rows.append(Row(owned[0][0] if owned else "", describe(cls, arrays, options), shape[1:],
                                 parameters=sum(size for _, size in owned), macs=macs, axes=axes))
        y = self.blank(shape, arrays[0].dtype, axes)
        if options.get("return_indices"):
            others = [self.blank(shape, np.int64, axes)]
        return (y, *others) if others else y

    def follow(self, cls: type[Function], maps: list, arrays: tuple, options: dict, shape: tuple) -> tuple[Axis, ...]:
        """Return the axes of the result; () if its fields are unknown."""
        before = join_axes([axes for _, axes in maps])
        if cls in DEPENDENCIES:
            touched = DEPENDENCIES[cls](arrays, options, shape) if before and len(shape) == arrays[0].ndim == 4 else ()
            return tuple(a.through(*t) for a, t in zip(before, touched, strict=False))
        if cls in REORDERING or (len(shape) == 4 and shape[2:] == tuple(len(a.clean) for a in before)):
            return before
        if len(shape) < 4 or shape[2:] == (1, 1):
            return tuple(a.whole() for a in before)
        return ()


class LocalTracer(Tracer):
    """A tracer that takes a pooled map for a constant, because it belongs to the image, not to a position in it."""

    def call(self, cls: type[Function], ctx: Function, *arrays: Any, **options: Any) -> Any:
        if cls not in (AdaptiveAvgPool2d, AdaptiveMaxPool2d):
            return super().call(cls, ctx, *arrays, **options)
        return xp_of(self.like).zeros(SHAPES[cls](arrays, options), self.like.dtype)


def join_axes(several: list[tuple[Axis, ...]]) -> tuple[Axis, ...]:
    """Return the axes of a map that combines several maps position by position: fields cover theirs, clean if all are.

    Returns () if a map's axes are unknown, or if maps differ in size and are not a single number.
    """
    result = []
    for axes in zip(*several, strict=False):
        if len({len(a.clean) for a in axes} - {1}) > 1:
            return ()
        begin, end, clean = (functools.reduce(f, arrays) for f, arrays in (
            (np.minimum, [a.begin for a in axes]), (np.maximum, [a.end for a in axes]),
            (np.logical_and, [a.clean for a in axes])))
        result.append(Axis(begin, end, clean, max(axes, key=lambda a: len(a.clean)).jump))
    return tuple(result)


# ---------------------------------------------------------------------------------------------------------
# What the operations do: shapes of those that are not run, MACs, and which positions depend on which
# ---------------------------------------------------------------------------------------------------------
def _map_size(arrays: tuple, options: dict) -> tuple[int, ...]:
    x, w = arrays[:2]
    return x.shape[0], w.shape[0], *options["out_size"]


SHAPES: dict[type[Function], Callable[[tuple, dict], tuple[int, ...]]] = {
    Conv2d: _map_size,
    ConvTranspose2d: lambda a, o: (a[0].shape[0], a[1].shape[1] * o["groups"], *o["out_size"]),
    Linear: lambda a, o: (*a[0].shape[:-1], len(a[1])),
    **dict.fromkeys((MaxPool2d, AvgPool2d, AdaptiveMaxPool2d, AdaptiveAvgPool2d, MaxUnpool2d),
                    lambda a, o: (*a[0].shape[:2], *o["out_size"])),
}
MACS: dict[type[Function], Callable[[tuple, tuple], int]] = {
    Conv2d: lambda a, shape: math.prod(shape) * math.prod(a[1].shape[1:]),  # each output: C/groups KH KW taps
    ConvTranspose2d: lambda a, shape: a[0].size * math.prod(a[1].shape[1:]),  # each input: O/groups KH KW
    Linear: lambda a, shape: math.prod(shape) * a[1].shape[1],
    MatMul: lambda a, shape: math.prod(shape) * a[0].shape[-1],
}


def _windows(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Convolution and pooling: position a depends on positions s a - p, s a - p + d, ... s a - p + d (k - 1)."""
    for out, k, s, p, d in zip(shape[2:], *options["windows"], strict=True):
        first = s * np.arange(out) - p
        yield first, first + d * (k - 1), s


def _adaptive(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Adaptive pooling: each output has its own bin."""
    for n, out in zip(arrays[0].shape[2:], shape[2:], strict=True):
        first, end = np.transpose(adaptive_bins(n, out))
        yield first, end - 1, Fraction(n, out)


def _transposed(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Transposed convolution: position o depends on each a with o = s a - p + d i for a tap i."""
    for out, k, s, p, d in zip(shape[2:], *options["windows"], strict=True):
        a = [[(o + p - d * i) // s for i in range(k) if (o + p - d * i) % s == 0] or [0] for o in range(out)]
        yield [min(each) for each in a], [max(each) for each in a], Fraction(1, s)


def _cropped(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Slices of a map's rows and columns; unknown for other indices."""
    index = options["index"] if isinstance(options["index"], tuple) else (options["index"],)
    if not all(isinstance(part, slice | EllipsisType) for part in index):
        return
    if Ellipsis not in index:
        index = (*index, Ellipsis)
    at = index.index(Ellipsis)
    index = (*index[:at], *[slice(None)] * (5 - len(index)), *index[at + 1:])
    for part, n in zip(index[2:], arrays[0].shape[2:], strict=True):
        taken = np.arange(n)[part]
        yield taken, taken, part.step or 1


def _regions(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Bins of boxes, which may lie anywhere on the map."""
    for n, out in zip(arrays[0].shape[2:], shape[2:], strict=True):
        yield np.zeros(out, int), np.full(out, n - 1), Fraction(n, out)


def _padded(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Rows and columns around a map; copies of its own rows count as padding."""
    for out, (before, _) in zip(shape[2:], options["widths"][2:], strict=True):
        at = np.arange(out) - before
        yield at, at, 1


def _weighted(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Interpolation by matrices of weights (out, in)."""
    for matrix, n in zip((options["rows"], options["columns"]), arrays[0].shape[2:], strict=True):
        some = matrix != 0
        yield some.argmax(1), n - 1 - some[:, ::-1].argmax(1), Fraction(n, len(matrix))


def _copied(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Nearest neighbor: the position that each output copies."""
    for at, n in zip((options["rows"], options["columns"]), arrays[0].shape[2:], strict=True):
        yield at, at, Fraction(n, len(at))


def _unpooled(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Unpooling: the position of an output's block."""
    for n, out in zip(arrays[0].shape[2:], shape[2:], strict=True):
        at = np.arange(out) * n // out
        yield at, at, Fraction(n, out)


DEPENDENCIES: dict[type[Function], Callable[[tuple, dict, tuple], Iterator[tuple]]] = {
    Conv2d: _windows, MaxPool2d: _windows, AvgPool2d: _windows, AdaptiveMaxPool2d: _adaptive,
    AdaptiveAvgPool2d: _adaptive, ConvTranspose2d: _transposed, GetItem: _cropped, Pad: _padded,
    Interpolate: _weighted, Nearest: _copied, MaxUnpool2d: _unpooled, UnpoolBedOfNails: _unpooled,
    UnpoolNearest: _unpooled, RoIPool: _regions, RoIAlign: _regions,
}
REORDERING = {Reshape, Permute}  # the same numbers in another order


def describe(cls: type[Function], arrays: tuple, options: dict) -> str:
    """Return a text such as "conv2d 3x3, stride 2, padding 1", without default values."""
    name = re.sub(r"(?<=[a-zI])(?=[A-Z][a-z])", "_", cls.__name__).lower()
    if "windows" not in options:
        return name
    values = {**options["windows"]._asdict(), "groups": (options.get("groups", 1),)}
    parts = [f"{name} {'x'.join(map(str, values['kernel']))}"]
    for what, usual in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
        if set(values[what]) != {usual}:
            parts.append(f"{what} {format_axes(tuple(values[what]))}")
    return ", ".join(parts)
