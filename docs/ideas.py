"""Draw the pictures of "How it is fast" and "Memory layout": one function each, called by ``pages.py`` at each build.

Every function returns a figure as wide as a page. The text is dark, because the site shows pictures on white in both
themes.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicv.fast.normalization import moments
from minicv.ops.interpolate import hat_weights
from minicv.viz.pyplot import import_pyplot

WIDTH, FONT = 7.4, 9  # inches, points
BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY = "#8fc1e3", "#f4b183", "#9fd8b4", "#cbb2e0", "#f7e08b", "#cfe8f5"
GRAY, INK = "#e4e4e4", "#222222"
PIXELS = [BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY]


def canvas(height: float, x: float, y: float) -> tuple[Any, Any]:
    """Return a figure as wide as a page, and its axes: 0..x and 0..y, downwards, without a frame."""
    plt = import_pyplot()
    figure, ax = plt.subplots(figsize=(WIDTH, height), layout="constrained")
    ax.set(xlim=(-0.2, x + 0.2), ylim=(y + 0.2, -0.2), aspect="equal")
    ax.axis("off")
    return figure, ax


def cell(ax: Any, x: float, y: float, color: str, text: object = "", width: float = 1, height: float = 1,
         size: float = FONT) -> None:
    """Draw a framed box with its upper left corner at (x, y)."""
    ax.add_patch(import_pyplot().Rectangle((x, y), width, height, fc=color, ec=INK, lw=0.7))
    ax.text(x + width / 2, y + height / 2, str(text), ha="center", va="center", fontsize=size, color=INK)


def strip(ax: Any, x: float, y: float, colors: Sequence[str], texts: Sequence[object], size: float = FONT) -> None:
    """Draw boxes side by side."""
    for k, (color, text) in enumerate(zip(colors, texts, strict=True)):
        cell(ax, x + k, y, color, text, size=size)


def words(ax: Any, x: float, y: float, text: str, align: str = "center", size: float = FONT) -> None:
    ax.text(x, y, text, ha=align, va="center", fontsize=size, color=INK)


def arrow(ax: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1, "shrinkA": 0, "shrinkB": 0})


def layout() -> Any:
    """A feature map in both memory orders."""
    figure, ax = canvas(1.75, 23, 4.4)
    words(ax, 0, 0.9, "NCHW", "left")
    words(ax, 0, 3.3, "channels-last", "left")
    for c in range(3):
        words(ax, 5 + 6 * c + 3, -0.05, f"channel {c}")
    for k in range(18):
        c, p = divmod(k, 6)
        cell(ax, 5 + k, 0.5, PIXELS[p], f"{c}")
        p, c = divmod(k, 3)
        cell(ax, 5 + k, 2.8, PIXELS[p], f"{c}")
    for p in range(6):
        words(ax, 5 + 3 * p + 1.5, 4.25, f"pixel {p}")
    return figure


def shifted() -> Any:
    """One tap is one product with the shifted matrix of pixels."""
    figure, ax = canvas(4.4, 27, 17.2)
    width, shift = 4, 5
    for p in range(16):
        row, column = divmod(p, width)
        cell(ax, 1.4 * column, 4 + 1.4 * row, BLUE if min(row, column) >= 1 else GRAY, p, 1.4, 1.4)
    words(ax, 2.8, 2.3, "a map of 4 x 4 pixels:\ntap (1, 1) of a 2 x 2 kernel\nreads the blue ones")
    words(ax, 13.5, -0.1, "its matrix:\none row per pixel")
    for p in range(16):
        used = p >= shift
        wraps = used and (p - shift) % width == width - 1
        for c in range(3):
            cell(ax, 12 + c, 1.1 + p, (ORANGE if wraps else BLUE) if used else GRAY)
        words(ax, 11.6, 1.6 + p, str(p), "right", 8)
    arrow(ax, (10, 1.1), (10, 1.1 + shift))
    words(ax, 9.6, 1.1 + shift / 2, "shift:\n1 W + 1\n= 5 rows", "right")
    words(ax, 16.2, 9, "@", size=14)
    for i in range(3):
        for o in range(4):
            cell(ax, 17.2 + o, 7.5 + i, YELLOW)
    words(ax, 19.2, 6.6, "w[1, 1]\n(C, O)")
    words(ax, 22.1, 9, "=", size=14)
    for p in range(11):
        for o in range(4):
            cell(ax, 23 + o, 4 + p, ORANGE if p % width == width - 1 else GREEN)
    words(ax, 25, 2.9, "added to y,\none row per output")
    words(ax, 25, 16.4, "orange: rows that wrap around\nthe border, cut off at the end")
    return figure


def winograd() -> Any:
    """Four products give two rows of outputs."""
    figure, ax = canvas(2.7, 26, 9.2)
    products = ["(d0 − d2)  g0", "(d1 + d2)  (g0 + g1 + g2) / 2", "(d2 − d1)  (g0 − g1 + g2) / 2", "(d1 − d3)  g2"]
    uses = [(0, 2), (1, 2), (1, 2), (1, 3)]
    words(ax, 1.75, 0, "rows of the input")
    words(ax, 12, 0, "four products of rows and weights")
    words(ax, 23, 0, "rows of the output")
    for k in range(4):
        y = 0.9 + 2.1 * k
        cell(ax, 0, y, BLUE, f"d{k}", 3.5, 1.4)
        cell(ax, 7.5, y, YELLOW, f"m{k} = {products[k]}", 9, 1.4)
        for d in uses[k]:
            ax.plot([3.5, 7.5], [0.9 + 2.1 * d + 0.7, y + 0.7], color=INK, lw=0.8)
    for k, (text, used) in enumerate([("y0 = m0 + m1 + m2", (0, 1, 2)), ("y1 = m1 − m2 − m3", (1, 2, 3))]):
        y = 2 + 3.2 * k
        cell(ax, 20, y, GREEN, text, 6, 1.4)
        for m in used:
            ax.plot([16.5, 20], [0.9 + 2.1 * m + 0.7, y + 0.7], color=INK, lw=0.8)
    return figure


def patches() -> Any:
    """Windows that tile a map become the rows of a matrix."""
    figure, ax = canvas(2.0, 25, 6.6)
    for p in range(16):
        row, column = divmod(p, 4)
        cell(ax, column * 1.2, 1.3 + row * 1.2, PIXELS[row // 2 * 2 + column // 2], p, 1.2, 1.2)
    words(ax, 2.4, 0.3, "2 x 2 windows, stride 2")
    arrow(ax, (5.6, 3.7), (7.4, 3.7))
    for k in range(4):
        first = k // 2 * 8 + k % 2 * 2
        for t, p in enumerate([first, first + 1, first + 4, first + 5]):
            cell(ax, 8.2 + 1.4 * t, 1.7 + k, PIXELS[k], p, 1.4, 1)
    words(ax, 11, 0.3, "one row per window")
    words(ax, 14.7, 3.7, "@", size=14)
    for i in range(4):
        for o in range(3):
            cell(ax, 15.7 + o, 1.7 + i, YELLOW)
    words(ax, 17.2, 0.3, "weight")
    words(ax, 19.7, 3.7, "=", size=14)
    for i in range(4):
        for o in range(3):
            cell(ax, 20.7 + o, 1.7 + i, PIXELS[i])
    words(ax, 22.2, 0.3, "all of y")
    return figure


def depthwise() -> Any:
    """A row of pixels is one long vector, and its weights are another."""
    figure, ax = canvas(3.3, 25, 10.8)
    colors = [BLUE, ORANGE, GREEN]
    words(ax, 15, 0, "pixels 0, 1, 2, ..., three channels each", size=FONT)
    for j in range(3):
        y = 0.7 + 2.6 * j
        words(ax, 0, y + 0.5, f"tap {j}: pixels from {j}", "left")
        strip(ax, 8, y, colors * 5, [f"{k // 3 + j}" for k in range(15)])
        words(ax, 7.6, y + 1.65, "times the weights", "right", 8)
        strip(ax, 8, y + 1.1, [YELLOW] * 15, [f"w{j}" for _ in range(15)], 8)
        words(ax, 23.9, y + 1, "+" if j < 2 else "=", size=14)
    strip(ax, 8, 8.9, colors * 5, [f"y{k // 3}" for k in range(15)], 8)
    words(ax, 0, 9.4, "outputs 0, 1, 2, ...", "left")
    words(ax, 15.5, 10.5, "each color is a channel; its weights repeat for every pixel", size=8)
    return figure


def pooling() -> Any:
    """Maxima of columns come first, then their maximum; phases put pixels a stride apart side by side."""
    figure, ax = canvas(3.0, 27, 10.2)
    for p in range(9):
        row, column = divmod(p, 3)
        cell(ax, column, 2 + row, [BLUE, ORANGE, GREEN][column])
    words(ax, 1.5, 0.6, "9 pixels\nof a window")
    arrow(ax, (3.3, 3.5), (4.5, 3.5))
    for column in range(3):
        cell(ax, 4.8 + column, 3, [BLUE, ORANGE, GREEN][column], "max", size=7)
    words(ax, 6.3, 0.9, "3 maxima,\neach shared by\n3 windows")
    arrow(ax, (8.1, 3.5), (9.3, 3.5))
    cell(ax, 9.5, 3, YELLOW, "max", size=7)
    words(ax, 4.9, 6.9, "3 + 3 comparisons\ninstead of 3 x 3")
    strip(ax, 15.5, 0.5, [BLUE, ORANGE] * 4, range(8))
    words(ax, 15.1, 1, "pixels", "right")
    strip(ax, 15.5, 2.9, [BLUE] * 4, [0, 2, 4, 6])
    words(ax, 15.1, 3.4, "phase 0", "right")
    strip(ax, 21, 2.9, [ORANGE] * 4, [1, 3, 5, 7])
    words(ax, 25.2, 3.4, "phase 1", "left")
    for t, (numbers, color, text) in enumerate([([0, 2, 4], BLUE, "phase 0"), ([1, 3, 5], ORANGE, "phase 1"),
                                                ([2, 4, 6], BLUE, "phase 0, shifted by one")]):
        strip(ax, 15.5, 5.3 + 1.4 * t, [color] * 3, numbers)
        words(ax, 15.1, 5.8 + 1.4 * t, f"tap {t}", "right")
        words(ax, 18.9, 5.8 + 1.4 * t, text, "left")
    words(ax, 20, 9.9, "stride 2: within a phase, the pixels of a tap are neighbors")
    return figure


def rough_mean() -> Any:
    """The measured error of the variance in float32, against the distance of the mean from zero."""
    plt = import_pyplot()
    figure, ax = plt.subplots(figsize=(WIDTH, 2.9), layout="constrained")
    rng, far = np.random.default_rng(0), 10.0 ** np.arange(0, 5.1, 0.5)
    x = rng.standard_normal((4096, 8))
    errors = {"E[x²] − E[x]²": [], "distances from a rough mean": []}
    for mean in far:
        rows = (x + mean).astype(np.float32)
        true = rows.astype(np.float64).var(axis=0)
        naive = (rows * rows).mean(axis=0) - rows.mean(axis=0) ** 2
        for variance, found in zip((naive, moments(rows, np.empty_like(rows))[2]), errors.values(), strict=True):
            found.append(np.max(abs(variance - true) / true))
    for (label, found), color, marker in zip(errors.items(), ("#c55a11", "#1f6fa8"), "os", strict=True):
        ax.loglog(far, np.maximum(found, 1e-9), color=color, marker=marker, ms=4, label=label)
    ax.axhline(1, color=INK, lw=0.7, ls=":")
    ax.text(1, 1.4, "no correct digit left", fontsize=FONT, color=INK, va="bottom")
    ax.set_xlabel("mean of a channel, in standard deviations", fontsize=FONT)
    ax.set_ylabel("relative error of the variance", fontsize=FONT)
    ax.set_ylim(1e-8, 1e7)
    ax.tick_params(labelsize=FONT)
    ax.legend(fontsize=FONT, frameon=False, loc="upper left")
    return figure


def transposed() -> Any:
    """A block of pixels by classes is transposed into classes by pixels."""
    figure, ax = canvas(2.2, 25, 7.2)
    colors = [BLUE, ORANGE, GREEN]
    for p in range(6):
        for k in range(3):
            cell(ax, 3.5 + k, 0.8 + p, colors[k])
            cell(ax, 12 + 1.6 * p, 2 + 1.3 * k, colors[k], width=1.6, height=1.3)
        words(ax, 3.2, 1.3 + p, f"pixel {p}", "right")
    words(ax, 5, 0.1, "3 classes")
    arrow(ax, (7.6, 3.8), (9.4, 3.8))
    for k in range(3):
        words(ax, 11.7, 2.65 + 1.3 * k, f"class {k}", "right")
    words(ax, 16.8, 1.2, "pixels side by side")
    words(ax, 22.2, 3.95, "one long\noperation\nper class", "left")
    words(ax, 5, 7.2, "many sums of 3 numbers")
    words(ax, 16.8, 6.7, "3 sums of many numbers")
    return figure


def banded() -> Any:
    """The matrix that doubles 12 pixels, and its blocks that are multiplied."""
    plt = import_pyplot()
    figure, ax = plt.subplots(figsize=(WIDTH, 3.9), layout="constrained")
    size = 12
    matrix = hat_weights(np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1), size)
    ax.imshow(matrix, cmap="Blues", vmin=0, vmax=1.3, aspect="equal")
    for start in range(0, 2 * size, 8):
        used = np.flatnonzero(matrix[start:start + 8].any(axis=0))
        ax.add_patch(plt.Rectangle((used[0] - 0.5, start - 0.5), len(used), 8, fill=False, ec="#c55a11", lw=2))
        ax.text(size + 0.3, start + 3.5, f"rows {start} to {start + 7} use pixels {used[0]} to {used[-1]}",
                fontsize=FONT, va="center", color=INK)
    ax.set_xlabel("pixel of the input", fontsize=FONT)
    ax.set_ylabel("pixel of the output", fontsize=FONT)
    ax.set(xticks=range(0, size, 2), yticks=range(0, 2 * size, 4))
    ax.tick_params(labelsize=FONT)
    return figure


def all_boxes() -> Any:
    """The sample points of all boxes are one row of numbers; each box has a small matrix."""
    figure, ax = canvas(3.5, 27, 12.2)
    plt = import_pyplot()
    boxes = [(0.4, 1.6, 3, 2.4, BLUE), (2.4, 3.4, 5, 3.4, ORANGE), (5.6, 1.2, 2, 5, GREEN)]
    ax.add_patch(plt.Rectangle((0, 0.8), 8.4, 6.6, fc="white", ec=INK, lw=0.7))
    for k, (x, y, w, h, color) in enumerate(boxes):
        ax.add_patch(plt.Rectangle((x, y), w, h, fc=color, ec=INK, lw=1, alpha=0.75))
        words(ax, x + 0.5, y + 0.5, f"{k}")
    words(ax, 4.2, 0.2, "boxes on a map")
    words(ax, 18.5, 0.2, "positions of the sample points of all boxes, in one row")
    colors = [color for *_, color in boxes for _ in range(6)]
    for k, color in enumerate(colors):
        cell(ax, 9.8 + 0.95 * k, 0.9, color, width=0.95)
    words(ax, 18.5, 2.7, "their weights, summed by box, bin and pixel (one bincount)")
    for k, pixels in enumerate((3, 5, 2)):
        for row in range(3):
            for column in range(pixels):
                near = abs((row + 0.5) * pixels / 3 - column - 0.5) < 1
                cell(ax, 10.4 + (0, 5, 12)[k] + column, 3.4 + row, boxes[k][4] if near else "white")
    words(ax, 18.5, 7.3, "one matrix (bins, pixels) per box")
    for x, text, width, color in ((2.2, "A", 2.6, BLUE), (6.2, "the box's pixels", 8.2, GRAY), (15.8, "B'", 2.6, BLUE),
                                  (20.4, "bins of the box", 6.2, YELLOW)):
        cell(ax, x, 9.2, color, text, width, 2)
    for x, text in ((5.5, "@"), (15.1, "@"), (19.4, "=")):
        words(ax, x, 10.2, text, size=13)
    return figure


def threads() -> Any:
    """Two threads take the chunks of an array in turn."""
    figure, ax = canvas(2.0, 27, 6.8)
    for k in range(8):
        cell(ax, 0, 0.6 + 0.75 * k, PIXELS[k % 6], f"{k}", 4.5, 0.75, 8)
    words(ax, 2.25, 0, "an array in chunks")
    arrow(ax, (5, 3.6), (6.6, 3.6))
    words(ax, 7, 2.4, "thread 1", "left")
    words(ax, 7, 4.8, "thread 2", "left")
    ends = [10.4, 10.4]
    for k, length in enumerate([3.4, 4.1, 3.5, 3.4, 4.4, 3.6, 3.5, 3.6]):
        thread = int(np.argmin(ends))
        cell(ax, ends[thread], 1.7 + 2.4 * thread, PIXELS[k % 6], k, length, 1.4)
        ends[thread] += length
    arrow(ax, (10.4, 6.4), (26.6, 6.4))
    words(ax, 18.5, 6.9, "time: a thread that is done takes the next chunk", size=8)
    return figure


PICTURES: dict[str, Callable[[], Any]] = {f"idea_{draw.__name__}": draw for draw in (
    layout, shifted, winograd, patches, depthwise, pooling, rough_mean, transposed, banded, all_boxes, threads)}
