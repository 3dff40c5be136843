"""Figure 1 of the U-Net paper, for any U-Net."""
from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from .images import PALETTE
from .pyplot import import_pyplot

MADE_BY = {"conv": (5, "conv 3x3, ReLU"), "pool": (6, "max pool 2x2"), "up": (3, "up-conv 2x2"),
           "head": (7, "conv 1x1")}  # index into the palette, label


class FeatureMap(NamedTuple):
    """A feature map: its level (0 is the top), side, channels, and the operation that made it.

    ``made_by`` is "input", "conv", "pool", "up" or "head"; the first ``copied`` channels come from the skip connection.
    """

    level: int
    side: int
    channels: int
    made_by: str
    copied: int = 0


def feature_maps(net: Any, side: int) -> list[FeatureMap]:
    """The feature maps of a U-Net (``minicv.models``) for an input of this side, in the order of computation."""
    channels, maps, skips = net.in_channels, [FeatureMap(0, side, net.in_channels, "input")], []

    def two_convs(level, two, side):
        for conv in (two.conv1, two.conv2):
            side -= conv.weight.shape[2] - 1 if net.lost else 0  # valid: removes a border
            maps.append(FeatureMap(level, side, conv.weight.shape[0], "conv"))
        return side, maps[-1].channels

    for level, two in enumerate(net.contract):
        if level:
            side //= 2
            maps.append(FeatureMap(level, side, channels, "pool"))
        side, channels = two_convs(level, two, side)
        skips.append(channels)
    for level, up, two in zip(range(net.depth - 1, -1, -1), net.up, net.expand, strict=True):
        side *= 2
        maps.append(FeatureMap(level, side, skips[level] + up.weight.shape[1], "up", copied=skips[level]))
        side, channels = two_convs(level, two, side)
    return [*maps, FeatureMap(0, side, net.head.weight.shape[0], "head")]


def draw_unet(maps: Sequence[FeatureMap], ax: Any = None) -> Any:
    """Draw feature maps, given in the order of computation, as a U (U-Net, Fig. 1); return the axes.

    The height of a box is the square root of the map's side, its width the logarithm of the channels. The channels are
    written above it, the side below. Raises ``ValueError`` for an unknown operation.
    """
    plt = import_pyplot()
    unknown = {m.made_by for m in maps} - {"input", *MADE_BY}
    if unknown:
        raise ValueError(f"draw_unet: unknown made_by {sorted(unknown)}; use 'input', {', '.join(map(repr, MADE_BY))}")
    if ax is None:
        ax = plt.figure(figsize=(11, 5.6)).add_axes((0, 0, 1, 1))
    colors, largest = PALETTE / 255, max(m.side for m in maps)
    boxes: list[tuple[float, float, float, float]] = []
    middle, floor = {}, 0.0  # each box: left, right, low, high
    for level in sorted({m.level for m in maps}):  # the middle of each level, below the boxes of the level above
        height = 2.2 * np.sqrt(max(m.side for m in maps if m.level == level) / largest)
        middle[level] = floor - height / 2
        floor -= height + 1.1
    for m in maps:
        width, height = 0.1 + 0.045 * np.log2(m.channels), 2.2 * np.sqrt(m.side / largest)
        copied = width * m.copied / m.channels
        left = boxes[-1][1] + 0.6 if boxes else 0.0
        if m.made_by in ("pool", "up"):  # its new part stands below or above the map that it comes from
            left = (boxes[-1][0] + boxes[-1][1]) / 2 - (width + copied) / 2
        low = middle[m.level] - height / 2
        ax.add_patch(plt.Rectangle((left, low), width, height, fc=colors[2], ec="0.25", lw=0.6))
        if m.copied:
            ax.add_patch(plt.Rectangle((left, low), copied, height, fc="w", ec="0.25", lw=0.6))
        ax.text(left + width / 2, low + height + 0.06, m.channels, ha="center", va="bottom", fontsize=8)
        ax.text(left + width / 2, low - 0.06, m.side, ha="center", va="top", fontsize=8, color="0.35")
        boxes.append((left, left + width, low, low + height))

    def arrow(start, end, color, **style):
        ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.3, "shrinkA": 0,
                                                "shrinkB": 0, "mutation_scale": 8, **style})

    skips = {}
    for (a, box_a), (b, box_b) in pairwise(zip(maps, boxes, strict=True)):
        color, x = colors[MADE_BY[b.made_by][0]], (box_a[0] + box_a[1]) / 2
        if b.made_by == "pool":
            skips[a.level] = box_a[1]
            arrow((x, box_a[2] - 0.3), (x, box_b[3] + 0.32), color)
        elif b.made_by == "up":
            arrow((x, box_a[3] + 0.34), (x, box_b[2] - 0.28), color)
            arrow((skips[b.level], middle[b.level]), (box_b[0], middle[b.level]), "0.55", linestyle=(0, (4, 2)))
        else:
            arrow((box_a[1], middle[a.level]), (box_b[0], middle[a.level]), color)
    words = [*((colors[c], name) for c, name in MADE_BY.values()), ("0.55", "copy and crop")]
    lines = [plt.Line2D([], [], color=c, lw=2, label=name) for c, name in words]
    ax.legend(handles=lines, loc="lower left", fontsize=8, frameon=False)
    ax.set(xlim=(-0.2, boxes[-1][1] + 0.2), ylim=(floor + 0.5, 0.4))
    ax.set_axis_off()
    return ax
