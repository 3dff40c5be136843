"""The picture of a network, drawn from the network itself: what its forward pass does to the maps.

The network runs once on a blank picture, as for ``minicv summary``, and every operation is noted. Operations one after
the other that keep the size of the map become a block. A block that takes what an earlier one made, and not only what
the one before it made, has a skip: an arrow over the blocks between.
"""
from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from ..autograd import Function, no_grad, substitute
from ..nn import Module
from ..summary import Tracer, functions, traced
from .figures import PALETTE

KINDS = {  # of operations: what they are called, colour in the palette
    "conv": ("convolution", 2), "pool": ("pooling", 6), "up": ("upsampling", 3), "linear": ("fully connected", 4),
    "roi": ("regions of interest", 7), "join": ("maps joined", 1), "input": ("picture", 0),
}
OPERATIONS = {
    "Conv2d": "conv", "ConvTranspose2d": "up", "MaxPool2d": "pool", "AvgPool2d": "pool", "AdaptiveAvgPool2d": "pool",
    "AdaptiveMaxPool2d": "pool", "Interpolate": "up", "Nearest": "up", "MaxUnpool2d": "up", "UnpoolNearest": "up",
    "UnpoolBedOfNails": "up", "Linear": "linear", "MatMul": "linear", "RoIPool": "roi", "RoIAlign": "roi",
}


@dataclasses.dataclass
class Block:
    """Operations one after the other on maps of one size: their kinds, what they make, the blocks they take it from."""

    kinds: list[str]
    channels: int
    size: tuple[int, int]
    sources: set[int]

    @property
    def kind(self) -> str:
        """The kind that most of its operations are."""
        return Counter(self.kinds).most_common(1)[0][0]

    def words(self) -> str:
        """As in "2 conv, 1 up"."""
        return ", ".join(f"{n} {kind}" for kind, n in Counter(self.kinds).items())


class Follower(Tracer):
    """A tracer that puts the operations into blocks."""

    def __init__(self, model: Module):
        super().__init__(model)
        self.blocks: list[Block] = []
        self.maker: dict[int, int] = {}  # id of a map (kept alive by ``seen``): the block that made it

    def picture(self, size: tuple[int, int, int]) -> Any:
        x = super().picture(size)
        self.blocks, self.maker = [Block(["input"], size[0], size[1:], set())], {id(x.data): 0}
        return x

    def call(self, cls: type[Function], ctx: Function, *arrays: Any, **options: Any) -> Any:
        result = super().call(cls, ctx, *arrays, **options)
        y = result[0] if isinstance(result, tuple) else result
        sources = {self.maker[id(a)] for a in arrays if id(a) in self.maker}
        if id(y) in self.seen and sources:
            kind = OPERATIONS.get(cls.__name__) or ("join" if len(sources) > 1 else None)
            self.maker[id(y)] = self.place(kind, y.shape, sources) if kind else max(sources)
        return result

    def place(self, kind: str, shape: tuple[int, ...], sources: set[int]) -> int:
        """The block of an operation: the last one, if that has this size and nothing new comes in; else a new one."""
        size = shape[2:4] if len(shape) >= 4 else (1, 1)
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


@no_grad()
def blocks(model: Module, input_size: tuple[int, int, int]) -> list[Block]:
    """The blocks of a network for a picture (C, H, W); raises what the network raises for that size."""
    modes = [(module, module.training) for _, module in model.modules()]
    model.eval()
    follower = Follower(model)
    try:
        with substitute({cls: traced(cls, follower) for cls in functions()}):
            model(follower.picture(input_size))
    finally:
        for module, mode in modes:
            module.training = mode
    return follower.blocks


def describe(several: list[Block]) -> str:
    """The picture in words, for those who do not see it."""
    parts = [f"{i}: {b.words()}, {b.channels} x {b.size[0]} x {b.size[1]}" for i, b in enumerate(several)]
    skips = [f"{s} to {i}" for i, b in enumerate(several) for s in sorted(b.sources) if s < i - 1]
    return f"{len(several)} blocks. " + "; ".join(parts) + "." + (f" Skips: {', '.join(skips)}." if skips else "")


def draw_architecture(several: list[Block], title: str = "") -> Any:
    """Draw blocks from left to right and return the figure.

    A block is as high as the square root of its map's side and as wide as the logarithm of its channels, which stand
    above it; below it stands the side. The colour and the words in it say what it does.
    """
    import matplotlib.pyplot as plt
    largest = max(b.size[0] for b in several)
    heights = [max(2.4 * np.sqrt(b.size[0] / largest), 0.12) for b in several]
    widths = [0.12 + 0.05 * np.log2(b.channels) for b in several]
    lefts = np.concatenate([[0], np.cumsum([w + 0.42 for w in widths])])
    skips = [(s, i) for i, b in enumerate(several) for s in sorted(b.sources) if s < i - 1]
    rise = {pair: 1.75 + 0.16 * n for n, pair in enumerate(sorted(skips, key=lambda p: p[1] - p[0]))}
    top = max(rise.values(), default=1.6)
    figure, ax = plt.subplots(figsize=(min(max(lefts[-1] * 0.85, 5), 15), 1.0 + (top + 2.1) * 0.75))
    for i, (b, left, width, height) in enumerate(zip(several, lefts, widths, heights, strict=False)):
        ax.add_patch(plt.Rectangle((left, -height / 2), width, height, ec="0.25", lw=0.7,
                                   fc="w" if b.kind == "input" else PALETTE[KINDS[b.kind][1]] / 255))
        middle = left + width / 2
        ax.text(middle, height / 2 + 0.05, b.channels, ha="center", va="bottom", fontsize=7)
        side = f"{b.size[0]}" if b.size[0] == b.size[1] else f"{b.size[0]}x{b.size[1]}"
        ax.text(middle, -height / 2 - 0.05, side, ha="center", va="top", fontsize=7, color="0.35")
        ax.text(middle, -1.62, b.words(), ha="center", va="top", fontsize=7, rotation=90)
        for s in b.sources:
            if s == i - 1:
                ax.annotate("", (left, 0), (lefts[s] + widths[s], 0),
                            arrowprops={"arrowstyle": "-|>", "color": "0.2", "lw": 1, "shrinkA": 0, "shrinkB": 0,
                                        "mutation_scale": 7})
    for (s, i), y in rise.items():
        x0, x1 = lefts[s] + widths[s] / 2, lefts[i] + widths[i] / 2
        ax.plot([x0, x0, x1], [heights[s] / 2 + 0.28, y, y], color=PALETTE[5] / 255, lw=1.1, ls=(0, (4, 2)))
        ax.annotate("", (x1, heights[i] / 2 + 0.28), (x1, y), arrowprops={
            "arrowstyle": "-|>", "color": PALETTE[5] / 255, "lw": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7})
    used = [kind for kind in KINDS if kind != "input" and any(b.kind == kind for b in several)]
    handles = [plt.Rectangle((0, 0), 1, 1, fc=PALETTE[KINDS[kind][1]] / 255, ec="0.25", label=KINDS[kind][0])
               for kind in used]
    if skips:
        handles.append(plt.Line2D([], [], color=PALETTE[5] / 255, ls=(0, (4, 2)), label="skip or branch"))
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=7, frameon=False)
    ax.set(xlim=(-0.2, lefts[-1]), ylim=(-2.6, top + 0.15))
    ax.set_axis_off()
    ax.set_title(title, fontsize=9)
    return figure
