"""Small maps drawn pixel by pixel, with their numbers, and windows, bins and boxes on them.

Coordinates are continuous: pixel (i, j) reaches from i to i + 1 and from j to j + 1.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .boxes import box_patch
from .images import PALETTE

BIN_COLORS = PALETTE[[3, 5, 1, 7]] / 255  # green, blue, orange, pink: neighboring bins differ

Span = tuple[float, float]  # begin and end


def draw_pixels(ax: Any, values: Any, title: str = "", numbers: bool = False, **options: Any) -> None:
    """Draw a map (H, W) in gray, or pale with each number in its pixel; ``options`` go to imshow."""
    values = np.asarray(values, float)
    (H, W), pale = values.shape, {"cmap": "Greys", "vmin": 0, "vmax": 2.5 * max(values.max(), 1e-9)}
    colors = pale if numbers else {"cmap": "gray"}
    ax.imshow(values, **{"interpolation": "nearest", "extent": (0, W, H, 0), **colors, **options})
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)
    for (i, j), v in np.ndenumerate(values) if numbers else ():
        ax.text(j + 0.5, i + 0.5, f"{v:g}", ha="center", va="center", fontsize=8, color="0.65" if v == 0 else "k")


def draw_bin(ax: Any, rows: Span, columns: Span, color: Any, inset: float = 0.05, width: float = 2.2) -> None:
    """Draw a frame around the rows and columns [begin, end), ``inset`` pixels inside."""
    (y1, y2), (x1, x2) = rows, columns
    ax.add_patch(box_patch((x1 + inset, y1 + inset, x2 - inset, y2 - inset), fill=False, edgecolor=color,
                           linewidth=width, clip_on=False))


def draw_bins(ax: Any, rows: Sequence[Span], columns: Sequence[Span], maxima_of: np.ndarray | None = None,
              inset: float = 0.06, nested: float = 0.0) -> None:
    """Draw a grid of bins in four colors, each ``nested`` pixels further inside, so that overlaps show.

    With the map ``maxima_of``, a ring marks the maximum in each bin; later rings are larger.
    """
    for n, (r, c) in enumerate((r, c) for r in rows for c in columns):
        color = BIN_COLORS[n % 4]
        draw_bin(ax, r, c, color, inset + nested * (n % 4))
        if maxima_of is not None:
            part = maxima_of[slice(*r), slice(*c)]
            i, j = np.unravel_index(part.argmax(), part.shape)
            ax.scatter(c[0] + j + 0.5, r[0] + i + 0.5, s=330 + 110 * n, facecolors="none", edgecolors=[color],
                       linewidths=1.8)


def draw_row_shift(ax: Any, width: int, height: int, kernel: int, tap: tuple[int, int]) -> None:
    """Draw which pixels of a row-major image two taps of a kernel meet: (0, 0) in blue, ``tap`` in orange.

    Each half pixel carries the number of its output row, or a cross where the window wraps around the right border.
    """
    outputs, shift = width - kernel + 1, tap[0] * width + tap[1]
    for row in range((height - kernel) * width + outputs):
        wraps = row % width >= outputs
        for pixel, color, left in ((row, PALETTE[5], 0.0), (row + shift, PALETTE[6], 0.5)):
            x, y = pixel % width + left, pixel // width
            ax.add_patch(box_patch((x, y, x + 0.5, y + 1), color=color / 255, alpha=0.25 if wraps else 0.9))
            ax.text(x + 0.25, y + 0.5, "x" if wraps else row, ha="center", va="center", fontsize=8,
                    color="k" if wraps else "w")
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=range(width + 1), yticks=range(height + 1), aspect="equal",
           title=f"output row r: pixel r (blue),\nand with tap {tap} pixel r + {shift} (orange)")
    ax.grid(color="0.5", linewidth=0.8)
    ax.tick_params(labelbottom=False, labelleft=False, length=0)
