"""Curves of trainings, and bars that compare measurements."""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .fonts import draw_text
from .images import PALETTE
from .pyplot import import_matplotlib

COLORS = PALETTE[[5, 1, 3, 7, 2, 6]] / 255  # blue, orange, green, pink, light blue, red
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "os^DvP"
WIDTH, GAP = 990, 10  # pixels of the picture of a training, and between its images
HATCHES = (None, "//", "..", "xx", "\\\\")


def render_training(lines: list[dict], rows: Mapping[str, Sequence[np.ndarray]] | None = None) -> np.ndarray:
    """Plot losses, learning rate and validation against the step, from the lines of a metrics.jsonl, over images.

    rows: title -> images, uint8 (H, W, 3), such as predictions. Returns uint8 (H', W', 3).
    """
    import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    losses = [line for line in lines if "total" in line]
    checks = [line for line in lines if line.get("validation") is not None]
    figure = Figure(figsize=(9, 3.2), dpi=WIDTH / 9, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _plot_totals(left, losses)
    right.plot([line["step"] for line in losses], [line["lr"] for line in losses], color=COLORS[0])
    right.set(xlabel="step", ylabel="learning rate", title="learning rate")
    if checks:
        ax = right.twinx()
        ax.plot([line["step"] for line in checks], [line["validation"] for line in checks], ".--", color=COLORS[1])
        ax.set_ylabel("validation (dashed)", color=COLORS[1])
        ax.set_ylim(0, 1.03)
        right.set(title="learning rate and validation")
    canvas.draw()
    parts = [np.asarray(canvas.buffer_rgba())[..., :3]]
    parts += [_image_row(title, images) for title, images in (rows or {}).items() if len(images)]
    return np.concatenate(parts)


def _image_row(title: str, images: Sequence[np.ndarray]) -> np.ndarray:
    """Return a title and, below it, images side by side, each shrunk to its share of the width."""
    side = (WIDTH - GAP) // len(images) - GAP
    small = [Image.fromarray(image) for image in images]
    for image in small:
        image.thumbnail((side, side))
    row = Image.new("RGB", (WIDTH, max(image.height for image in small) + 3 * GAP), "white")
    draw_text(ImageDraw.Draw(row), (GAP, 0), title, 2 * GAP - 4, "black")
    for n, image in enumerate(small):
        row.paste(image, (GAP + n * (side + GAP), 2 * GAP))
    return np.asarray(row)


def _plot_totals(ax: Any, losses: Sequence[Mapping[str, Any]]) -> None:
    """Plot every loss by name, their total included unless there is only one."""
    every = dict.fromkeys(name for line in losses for name in line)
    names = [name for name in every if name not in ("step", "lr", "seconds", "memory")]
    if len(names) == 2:  # a single loss equals the sum
        names = ["total"]
    for name, color in zip(names, PALETTE[[5, 1, 2, 3, 6, 4, 7, 0]] / 255, strict=False):
        ax.plot([line["step"] for line in losses], [line.get(name, 0.0) for line in losses], color=color, label=name,
                lw=1.2)
    ax.set(xlabel="step", ylabel="loss", yscale="log", title="training loss")
    if len(names) > 1:
        ax.legend(fontsize=8)


def plot_losses(ax: Any, losses: Sequence[Mapping[str, float]], labels: Mapping[str, str], window: int = 20) -> None:
    """Plot the losses named in ``labels`` against the training step, as running means over ``window`` steps.

    losses: for each step, name -> value. labels: name -> its text in the legend. The window is at most a fifth of the
    steps.
    """
    window = min(window, max(len(losses) // 5, 1))
    for (name, label), color, style in zip(labels.items(), itertools.cycle(COLORS), itertools.cycle(STYLES)):
        means = np.convolve([step[name] for step in losses], np.ones(window) / window, "valid")
        ax.plot(means, linestyle=style, color=color, label=label)
    ax.set(xlabel="step", ylabel=f"loss (mean of {window} steps)" if window > 1 else "loss")
    ax.legend(fontsize=8)


def plot_lines(ax: Any, lines: Mapping[str, Any], **options: Any) -> None:
    """Plot lines that differ in color and style: label -> y, or (x, y). ``options`` go to plot."""
    for (label, line), color, style in zip(lines.items(), itertools.cycle(COLORS), itertools.cycle(STYLES)):
        points = line if isinstance(line, tuple) else (line,)
        ax.plot(*points, **{"linestyle": style, "color": color, "label": label, **options})
    ax.legend(fontsize=8)


def plot_means(ax: Any, x: Sequence[float], series: Mapping[str, Any], shift: float = 0.0, **options: Any) -> None:
    """Plot the mean of several runs at each x, with the standard deviation as an error bar.

    series: label -> values (points, runs). shift: how far each series stands to the right of the one before.
    ``options`` go to errorbar.
    """
    styles = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS))
    for n, ((label, values), (color, marker)) in enumerate(zip(series.items(), styles, strict=False)):
        values, at = np.asarray(values), np.asarray(x) + shift * (n - (len(series) - 1) / 2)
        ax.errorbar(at, values.mean(axis=1), values.std(axis=1),
                    **{"color": color, "marker": marker, "capsize": 3, "label": label, **options})
    if len(series) > 1:
        ax.legend(fontsize=8)


def plot_runs(ax: Any, runs: Mapping[str, Sequence[float]], color: Any = COLORS[0]) -> None:
    """Draw a horizontal bar up to the mean of each name's runs, and a dot for each run.

    color: one for all bars, or one each.
    """
    ax.barh(list(runs), [np.mean(values) for values in runs.values()], color=color, alpha=0.75)
    for i, values in enumerate(runs.values()):
        ax.plot(values, [i] * len(values), "k.", markersize=4)
    ax.set_ylim(len(runs) - 0.5, -0.5)  # the first name on top


def grouped_bars(ax: Any, groups: Sequence[str], series: Mapping[str, Sequence[float]],
                 errors: Mapping[str, Sequence[float]] | None = None, numbers: str | None = None) -> None:
    """Draw a group of bars for each name in ``groups``, with one bar for each of ``series``.

    series: label -> one value for each group. errors: the same for the error bars. numbers: the format of the value
    above each bar, such as "{:.2f}"; None writes no values.
    """
    width = 0.8 / len(series)
    for n, (label, values) in enumerate(series.items()):
        at = np.arange(len(groups)) + (n - (len(series) - 1) / 2) * width
        bars = ax.bar(at, values, 0.94 * width, yerr=None if errors is None else errors[label], label=label, capsize=2,
                      color=COLORS[n % len(COLORS)], hatch=HATCHES[n % len(HATCHES)], edgecolor="w")
        if numbers is not None:
            ax.bar_label(bars, [numbers.format(v) for v in values], fontsize=8)
    ax.set(xticks=range(len(groups)), xticklabels=groups)
    ax.legend(fontsize=8)
