"""What a network is made of: each layer's output, parameters, work, and how much of the picture it sees.

The numbers come from the model itself: it runs once, and every operation that it applies is noted. Of operations that
would take long, only the shapes of the results are computed.

Receptive field, layer by layer along each axis, for a kernel of k taps, d apart, moved by s:

    r += (k - 1) d j        pixels of the picture that one output depends on; summed up: Araujo et al. (2019), eq. (2)
    j *= s                  jump: how far apart in the picture two neighbouring outputs look

That holds while all positions of a map see equally much. After upsampling they do not, so what is followed here is the
first and the last pixel that each position depends on; the field is the largest distance, and where branches meet
(skips, inception) it reaches around all of theirs. Near the border it reaches beyond the picture: there an output
depends on padding instead. "clean" counts the rows (x columns, if they differ) of a map that no padding reaches.

MACs are multiply-accumulates, of convolutions and matrix products only; a count of FLOPs is twice that.
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
    """One axis of a map. Position a depends on the pixels ``begin[a]`` to ``end[a]``; ``clean[a]``: on no padding."""

    begin: np.ndarray
    end: np.ndarray
    clean: np.ndarray
    jump: Fraction

    @property
    def field(self) -> int:
        """The receptive field in pixels, of the position that sees most."""
        return int((self.end - self.begin).max(initial=-1)) + 1

    def through(self, first: Array, last: Array, step: Fraction | int) -> Axis:
        """The axis of the next map, whose position a is made of positions first[a] to last[a], ``step`` apart."""
        first, last = np.asarray(first), np.asarray(last)
        f, l = (v.clip(0, len(self.clean) - 1) for v in (first, last))
        beyond = ((v * self.jump.numerator // self.jump.denominator) for v in (first - f, last - l))
        return Axis(self.begin[f] + next(beyond), self.end[l] + next(beyond),
                    self.clean[f] & self.clean[l] & (f == first) & (l == last), self.jump * step)

    def whole(self) -> Axis:
        """The axis of a single number made of the whole map."""
        n = len(self.clean)
        return self.through([0], [n - 1], n)


@dataclass
class Row:
    """One line: ``name`` of the layer in the model ("" if it has no parameters), ``op``, (C, H, W) of the result.

    ``axes`` are H and W; () where it is not known what they see. ``field``, ``jump`` and ``clean`` (how many positions
    are) sum them up.
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
    """All rows, and the totals: parameters of the model, MACs of one picture, shape and axes of the output."""

    rows: list[Row]
    parameters: int
    macs: int
    output: tuple[int, ...]
    axes: tuple[Axis, ...]

    def __str__(self) -> str:
        head = ("layer", "operation", "output", "parameters", "MACs", "field", "jump", "clean")
        lines = [(r.name, r.op, "x".join(map(str, r.shape)), f"{r.parameters:,}" if r.parameters else "",
                  f"{r.macs:,}" if r.macs else "", text(r.field), text(r.jump), text(r.clean)) for r in self.rows]
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


def text(values: tuple) -> str:
    """One number if both axes agree, else height x width; fractions as 1/2."""
    return "x".join(map(str, values if len(set(values)) > 1 else values[:1]))


@no_grad()
def summarize(model: Module, input_size: tuple[int, int, int]) -> Summary:
    """Run the model in evaluation mode on one blank picture (C, H, W) and note every layer.

    A layer is an operation that has parameters or changes the shape. Raises what the model raises for that size.
    """
    tracer = Tracer(model)
    with evaluating(model), substitute({cls: traced(cls, tracer) for cls in functions()}):
        output = model(tracer.picture(input_size))
    shape, axes = (output.shape[1:], tracer.seen[id(output.data)][1]) if isinstance(output, Tensor) else ((), ())
    return Summary(tracer.rows, model.num_parameters(), sum(row.macs for row in tracer.rows), shape, axes)


@no_grad()
def reach(model: Module, input_size: tuple[int, int, int]) -> int:
    """How many pixels away from an output the furthest pixel lies on which it depends, for images (C, H, W).

    The output has the input's size. Pooling over the whole map, which every output depends on, is left out.
    """
    tracer = LocalTracer(model)
    with evaluating(model), substitute({cls: traced(cls, tracer) for cls in functions()}):
        output = model(tracer.picture(input_size))
    axes = tracer.seen[id(output.data)][1]
    return max(int(max((at - a.begin).max(), (a.end - at).max())) for a in axes for at in [np.arange(len(a.begin))])


def functions(base: type[Function] = Function) -> Iterator[type[Function]]:
    """Every operation there is."""
    for cls in base.__subclasses__():
        yield cls
        yield from functions(cls)


def traced(cls: type[Function], tracer: Tracer) -> Any:
    """In place of the class: makes its calls, each with a forward that asks the tracer."""
    def new() -> Function:
        ctx = cls()
        ctx.forward = functools.partial(tracer.call, cls, ctx)
        return ctx
    return new


class Tracer:
    """Follows the maps of one run. A map is an array that takes no memory: one zero, broadcast to the map's shape."""

    def __init__(self, model: Module):
        self.rows: list[Row] = []
        self.names = {id(p.data): (name.rpartition(".")[0], p.size) for name, p in model.named_parameters()}
        self.like = next((p.data for p in model.parameters()), xp().zeros(0, np.float32))
        self.seen: dict[int, tuple[Array, tuple[Axis, ...]]] = {}  # by id; with the array, so that the id stays its own

    def blank(self, shape: tuple[int, ...], dtype: Any, axes: tuple[Axis, ...]) -> Array:
        module = xp_of(self.like)
        array = module.broadcast_to(module.zeros((), dtype), shape)
        self.seen[id(array)] = array, axes
        return array

    def picture(self, size: tuple[int, int, int]) -> Tensor:
        axes = tuple(Axis(np.arange(n), np.arange(n), np.ones(n, bool), Fraction(1)) for n in size[1:])
        return Tensor(self.blank((1, *size), self.like.dtype, axes))

    def call(self, cls: type[Function], ctx: Function, *arrays: Array | None, **options: Any) -> Any:
        """In place of ``cls.forward``: note the operation and give a blank result."""
        maps = [(a, self.seen[id(a)][1]) for a in arrays if id(a) in self.seen]
        if not maps:  # of weights alone
            return cls.forward(ctx, *arrays, **options)
        if cls in SHAPES:
            shape, others = SHAPES[cls](arrays, options), ()
        else:
            result = cls.forward(ctx, *arrays, **options)
            first, *others = result if isinstance(result, tuple) else (result,)
            shape = first.shape
        axes = self.follow(cls, maps, arrays, options, shape)
        owned = [self.names.pop(id(a)) for a in arrays if id(a) in self.names]  # counted once, if shared
        macs = MACS[cls](arrays, shape) if cls in MACS else 0
        if owned or macs or (shape != maps[0][0].shape and cls not in MOVING):
            self.rows.append(Row(owned[0][0] if owned else "", describe(cls, arrays, options), shape[1:],
                                 sum(size for _, size in owned), macs, axes))
        y = self.blank(shape, arrays[0].dtype, axes)
        if options.get("return_indices"):
            others = (self.blank(shape, np.int64, axes),)
        return (y, *others) if others else y

    def follow(self, cls: type[Function], maps: list, arrays: tuple, options: dict, shape: tuple) -> tuple[Axis, ...]:
        """The axes of the result; () where what it sees is not known."""
        before = joined([axes for _, axes in maps])
        if cls in TOUCHED:
            touched = TOUCHED[cls](arrays, options, shape) if before and len(shape) == arrays[0].ndim == 4 else ()
            return tuple(a.through(*t) for a, t in zip(before, touched, strict=False))
        if cls in MOVING or (len(shape) == 4 and shape[2:] == tuple(len(a.clean) for a in before)):
            return before
        if len(shape) < 4 or shape[2:] == (1, 1):
            return tuple(a.whole() for a in before)
        return ()


class LocalTracer(Tracer):
    """A tracer to which a pooled map is a constant: it belongs to the image, not to a place in it."""

    def call(self, cls: type[Function], ctx: Function, *arrays: Array | None, **options: Any) -> Any:
        if cls not in (AdaptiveAvgPool2d, AdaptiveMaxPool2d):
            return super().call(cls, ctx, *arrays, **options)
        return xp_of(self.like).zeros(SHAPES[cls](arrays, options), self.like.dtype)


def joined(several: list[tuple[Axis, ...]]) -> tuple[Axis, ...]:
    """The axes of a map made of several maps, position by position: a field around all theirs, clean where all are.

    () if a map's axes are not known, or maps differ in size and are not a single number.
    """
    together = []
    for axes in zip(*several, strict=False):
        if len({len(a.clean) for a in axes} - {1}) > 1:
            return ()
        begin, end, clean = (functools.reduce(f, arrays) for f, arrays in (
            (np.minimum, [a.begin for a in axes]), (np.maximum, [a.end for a in axes]),
            (np.logical_and, [a.clean for a in axes])))
        together.append(Axis(begin, end, clean, max(axes, key=lambda a: len(a.clean)).jump))
    return tuple(together)


# ---------------------------------------------------------------------------------------------------------
# What the operations do: the shapes of those that are not run, their MACs, and which positions make up which
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
    """Convolution and pooling: position a takes taps s a - p, s a - p + d, ... s a - p + d (k - 1)."""
    for out, k, s, p, d in zip(shape[2:], *options["windows"], strict=True):
        first = s * np.arange(out) - p
        yield first, first + d * (k - 1), s


def _adaptive(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Adaptive pooling: each output has its own bin."""
    for n, out in zip(arrays[0].shape[2:], shape[2:], strict=True):
        first, end = np.transpose(adaptive_bins(n, out))
        yield first, end - 1, Fraction(n, out)


def _transposed(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Position o takes every input a with o = s a - p + d i for one of the taps i."""
    for out, k, s, p, d in zip(shape[2:], *options["windows"], strict=True):
        a = [[(o + p - d * i) // s for i in range(k) if (o + p - d * i) % s == 0] or [0] for o in range(out)]
        yield [min(each) for each in a], [max(each) for each in a], Fraction(1, s)


def _cropped(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Slices of a map's rows and columns; nothing is known of other indices."""
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
    """Rows and columns around a map; copies of its own rows count as padding, too."""
    for out, (before, _) in zip(shape[2:], options["widths"][2:], strict=True):
        at = np.arange(out) - before
        yield at, at, 1


def _weighted(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Interpolation by matrices of weights, (out, in) each."""
    for matrix, n in zip((options["rows"], options["columns"]), arrays[0].shape[2:], strict=True):
        some = matrix != 0
        yield some.argmax(1), n - 1 - some[:, ::-1].argmax(1), Fraction(n, len(matrix))


def _chosen(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Nearest neighbour: the position that each output copies."""
    for at, n in zip((options["rows"], options["columns"]), arrays[0].shape[2:], strict=True):
        yield at, at, Fraction(n, len(at))


def _unpooled(arrays: tuple, options: dict, shape: tuple) -> Iterator[tuple]:
    """Unpooling: the position that an output's block was made from."""
    for n, out in zip(arrays[0].shape[2:], shape[2:], strict=True):
        at = np.arange(out) * n // out
        yield at, at, Fraction(n, out)


TOUCHED: dict[type[Function], Callable[[tuple, dict, tuple], Iterator[tuple]]] = {
    Conv2d: _windows, MaxPool2d: _windows, AvgPool2d: _windows, AdaptiveMaxPool2d: _adaptive,
    AdaptiveAvgPool2d: _adaptive, ConvTranspose2d: _transposed, GetItem: _cropped, Pad: _padded,
    Interpolate: _weighted, Nearest: _chosen, MaxUnpool2d: _unpooled, UnpoolBedOfNails: _unpooled,
    UnpoolNearest: _unpooled, RoIPool: _regions, RoIAlign: _regions,
}
MOVING = {Reshape, Permute}  # the same numbers in another order


def describe(cls: type[Function], arrays: tuple, options: dict) -> str:
    """As in "conv2d 3x3, stride 2, padding 1"; what is usual is left out."""
    name = re.sub(r"(?<=[a-zI])(?=[A-Z][a-z])", "_", cls.__name__).lower()
    if "windows" not in options:
        return name
    values = {**options["windows"]._asdict(), "groups": (options.get("groups", 1),)}
    parts = [f"{name} {'x'.join(map(str, values['kernel']))}"]
    for what, usual in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)):
        if set(values[what]) != {usual}:
            parts.append(f"{what} {text(tuple(values[what]))}")
    return ", ".join(parts)
