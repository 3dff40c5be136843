"""Draw a network from its forward pass: the operations and the sizes of the maps.

The network runs once on a blank image, as for ``minicv summary``, and every operation is recorded. Consecutive
operations that keep the size of the map form a block. A block that also uses the result of a block before the previous
one has a skip, drawn as an arrow over the blocks between. Residual connections inside a block are counted.
"""
from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from ..autograd import Function
from ..models.summary import Tracer
from ..nn import Module
from .images import PALETTE
from .pyplot import import_pyplot

KINDS = {  # of operations: label, index into the palette
    "conv": ("convolution", 2), "pool": ("pooling", 6), "up": ("upsampling", 3), "linear": ("fully connected", 4),
    "roi": ("regions of interest", 7), "join": ("maps joined", 1), "input": ("image", 0),
}
OPERATIONS = {
    "Conv2d": "conv", "ConvTranspose2d": "up", "MaxPool2d": "pool", "AvgPool2d": "pool", "AdaptiveAvgPool2d": "pool",
    "AdaptiveMaxPool2d": "pool", "Interpolate": "up", "Nearest": "up", "MaxUnpool2d": "up", "UnpoolNearest": "up",
    "UnpoolBedOfNails": "up", "Linear": "linear", "MatMul": "linear", "RoIPool": "roi", "RoIAlign": "roi",
}


@dataclasses.dataclass
class Block:
    """Consecutive operations on maps of one size: their kinds, the resulting map, and the blocks they read from.

    ``residual``: the number of residual additions. ``branches``: the number of parallel branches that are concatenated
    (as in Inception and ASPP), or 0.
    """

    kinds: list[str]
    channels: int
    size: tuple[int, int]
    sources: set[int]
    residual: int = 0
    branches: int = 0

    @property
    def kind(self) -> str:
        """The most frequent kind of its operations; of equally frequent ones, the later."""
        counts = Counter(self.kinds)
        return max(self.kinds, key=lambda kind: (counts[kind], self.kinds[::-1].index(kind) == 0))

    def words(self) -> str:
        """As in "2 conv, 1 up"."""
        parts = [f"{n} {kind}" for kind, n in Counter(self.kinds).items()]
        parts += [f"{self.branches} branches"] * bool(self.branches)
        return ", ".join(parts + [f"{self.residual} residual"] * bool(self.residual))


class BlockTracer(Tracer):
    """A tracer that groups the operations into blocks."""

    def __init__(self, model: Module):
        super().__init__(model)
        self.blocks: list[Block] = []
        self.maker: dict[int, int] = {}  # id of a map (kept alive by ``seen``): the block that made it

    def blank_image(self, size: tuple[int, int, int]) -> Any:
        x = super().blank_image(size)
        self.blocks, self.maker = [Block(["input"], size[0], size[1:], set())], {id(x.data): 0}
        return x

    def call(self, cls: type[Function], ctx: Function, *arrays: Any, **options: Any) -> Any:
        result = super().call(cls, ctx, *arrays, **options)
        y = result[0] if isinstance(result, tuple) else result
        sources = {self.maker[id(a)] for a in arrays if id(a) in self.maker}
        if id(y) in self.seen and sources:
            kind = OPERATIONS.get(cls.__name__) or ("join" if len(sources) > 1 else None)
            count = len(self.blocks)
            self.maker[id(y)] = here = self.place(kind, y.shape, sources) if kind else max(sources)
            makers = [self.maker[id(a)] for a in arrays if id(a) in self.maker]
            if cls.__name__ == "Add" and len(makers) == 2 and here < count:
                self.blocks[here].residual += 1
            elif cls.__name__ == "Concatenate":
                block, several = Counter(makers).most_common(1)[0]
                if several > 1:
                    self.blocks[block].branches = several
                if here < count:  # nothing else came in
                    self.blocks[here].channels = y.shape[1]
        return result

    def place(self, kind: str, shape: tuple[int, ...], sources: set[int]) -> int:
        """The block of an operation: the last one if it has this size and no other block is read, else a new one."""
        size = (shape[2], shape[3]) if len(shape) >= 4 else (1, 1)
        here, last = len(self.blocks) - 1, self.blocks[-1]
        if kind == "join" and size == last.size and len(sources - {here}) == 1 and here in sources \
                and sources - {here} <= last.sources:
            return here  # a residual connection around this block
        if here > 0 and size == last.size and sources <= last.sources | {here} and kind != "join":
            last.kinds.append(kind)
            last.channels = shape[1]
            return here
        self.blocks.append(Block([kind], shape[1], size, sources))
        return here + 1


def blocks(model: Module, input_size: tuple[int, int, int]) -> list[Block]:
    """The blocks of a network for an image (C, H, W). Raises what the network raises for that size."""
    tracer = BlockTracer(model)
    tracer.run(input_size)
    return in_branches(tracer.blocks)


def in_branches(several: list[Block]) -> list[Block]:
    """Reorder the blocks so that each branch is contiguous: a block is followed by one that reads it, if there is one.

    A network may compute the branches of a pyramid level by level; then two blocks of a branch can be merged.
    """
    order: list[int] = []
    while len(order) < len(several):
        ready = [i for i, b in enumerate(several) if i not in order and b.sources <= set(order)]
        order.append(min(ready, key=lambda i: (not order or order[-1] not in several[i].sources, i)))
    takers = Counter(s for b in several for s in b.sources)
    place: dict[int, int] = {}
    result: list[Block] = []
    for before, i in zip([None, *order], order, strict=False):
        b = several[i]
        if before and b.sources == {before} and takers[before] == 1 and b.size == result[-1].size \
                and "join" not in b.kinds:
            last = result[-1]
            result[-1] = dataclasses.replace(b, kinds=last.kinds + b.kinds, sources=last.sources,
                                             residual=last.residual + b.residual)
        else:
            result.append(dataclasses.replace(b, sources={place[s] for s in b.sources}))
        place[i] = len(result) - 1
    return result


def describe(several: list[Block]) -> str:
    """The drawing in words, for readers who cannot see it."""
    parts = [f"{i}: {b.words()}, {b.channels} x {b.size[0]} x {b.size[1]}" for i, b in enumerate(several)]
    skips = [f"{s} to {i}" for i, b in enumerate(several) for s in sorted(b.sources) if s < i - 1]
    return f"{len(several)} blocks. " + "; ".join(parts) + "." + (f" Skips: {', '.join(skips)}." if skips else "")


def draw_architecture(several: list[Block], title: str = "") -> Any:
    """Draw blocks from left to right and return the figure.

    The height of a block is the square root of its map's side, its width the logarithm of its channels. The channels
    are written above it, the side below. Its color and the words below it name its operations.
    """
    plt = import_pyplot()
    largest = max(b.size[0] for b in several)
    heights = [max(2.4 * np.sqrt(b.size[0] / largest), 0.12) for b in several]
    widths = [0.12 + 0.05 * np.log2(b.channels) for b in several]
    lefts = np.concatenate([[0], np.cumsum([w + 0.42 for w in widths])])
    skips = [(s, i) for i, b in enumerate(several) for s in sorted(b.sources) if s < i - 1]
    rise = {pair: 1.75 + 0.16 * n for n, pair in enumerate(sorted(skips, key=lambda p: p[1] - p[0]))}
    top = max(rise.values(), default=1.6)
    blue = {"arrowstyle": "-|>", "color": PALETTE[5] / 255, "lw": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    figure, ax = plt.subplots(figsize=(min(max(lefts[-1] * 0.85, 5), 15), 1.0 + (top + 2.1) * 0.75))
    for i, (b, left, width, height) in enumerate(zip(several, lefts, widths, heights, strict=False)):
        ax.add_patch(plt.Rectangle((left, -height / 2), width, height, ec="0.25", lw=0.7,
                                   fc="w" if b.kind == "input" else PALETTE[KINDS[b.kind][1]] / 255))
        middle = left + width / 2
        ax.text(middle, height / 2 + 0.05, b.channels, ha="center", va="bottom", fontsize=7)
        side = f"{b.size[0]}" if b.size[0] == b.size[1] else f"{b.size[0]}x{b.size[1]}"
        ax.text(middle, -height / 2 - 0.05, side, ha="center", va="top", fontsize=6 if "x" in side else 7, color="0.35")
        ax.text(middle, -1.62, b.words().replace(", ", "\n"), ha="center", va="top", fontsize=6.5)
        if b.residual:  # a small arrow over the block
            low, high = height / 2 + 0.24, height / 2 + 0.42
            ax.plot([left, left, left + width], [low, high, high], color=PALETTE[5] / 255, lw=1.1, ls=(0, (4, 2)))
            ax.annotate("", (left + width, low), (left + width, high), arrowprops=blue)
            ax.text(middle, high + 0.04, f"x {b.residual}", ha="center", va="bottom", fontsize=6, color=blue["color"])
        for s in b.sources:
            if s == i - 1:
                ax.annotate("", (left, 0), (lefts[s] + widths[s], 0), arrowprops={**blue, "color": "0.2", "lw": 1})
    # (block, arrow) -> x: the arrows at a block stand side by side, so that none cross
    ends: dict[tuple[int, tuple[int, int]], float] = {}
    for k in range(len(several)):
        here = sorted((p for p in rise if p[1] == k), key=lambda p: rise[p]) + sorted(
            (p for p in rise if p[0] == k), key=lambda p: -rise[p])
        ends |= {(k, pair): lefts[k] + widths[k] * (n + 1) / (len(here) + 1) for n, pair in enumerate(here)}
    for (s, i), y in rise.items():
        x0, x1 = ends[s, (s, i)], ends[i, (s, i)]
        low = heights[s] / 2 + (0.62 if several[s].residual else 0.28)
        ax.plot([x0, x0, x1], [low, y, y], color=PALETTE[5] / 255, lw=1.1, ls=(0, (4, 2)))
        low = heights[i] / 2 + (0.62 if several[i].residual else 0.28)
        ax.annotate("", (x1, low), (x1, y), arrowprops=blue)
    used = [kind for kind in KINDS if kind != "input" and any(b.kind == kind for b in several)]
    handles = [plt.Rectangle((0, 0), 1, 1, fc=PALETTE[KINDS[kind][1]] / 255, ec="0.25", label=KINDS[kind][0])
               for kind in used]
    if skips or any(b.residual for b in several):
        handles.append(plt.Line2D([], [], color=PALETTE[5] / 255, ls=(0, (4, 2)), label="skip or branch"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=7, frameon=False)
    ax.set(xlim=(-0.2, lefts[-1]), ylim=(-2.4, top + 0.15))
    ax.set_axis_off()
    ax.set_title(title, fontsize=9)
    return figure
