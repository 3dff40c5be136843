"""A data set in one figure: its first images with boxes, masks and labels, and its numbers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.augment.detection import resize
from ..data.generated.shape_images import ShapeImage
from ..data.sample import DetectionSample, Sample
from ..data.statistics import BINS, Statistics, as_sample
from .boxes import class_color, draw_boxes, draw_image, overlay_masks
from .fonts import legible, set_fonts
from .images import PALETTE
from .predictions import label_colors, tint_labels
from .pyplot import import_matplotlib

WIDTH, COLUMNS = 12.8, 4  # inches; images beside each other
LONGEST = 640  # pixels of the longer side of an image as it is drawn
MOST_NAMED = 8  # objects of an image beside which their class is written
MOST_CLASSES = 20  # in the chart
CHANNELS = {1: ("0.35",), 3: ("#d55e00", "#009e73", "#0072b2")}  # gray; red, green, blue


def draw_dataset(samples: Sequence[Any], numbers: Statistics, class_names: Sequence[str], title: str) -> Any:
    """Draw items of a data set above charts of its numbers; return the figure, which no window shows."""
    import_matplotlib()
    from matplotlib.figure import Figure
    columns = min(COLUMNS, len(samples))
    rows = -(-len(samples) // columns)
    aspect = float(np.median([s.image.shape[1] / s.image.shape[2] for s in samples]))
    above = rows * (WIDTH / columns * np.clip(aspect, 0.3, 1.6) + 0.25)
    shown = min(len(class_names), MOST_CLASSES)
    below = max(3.0, 0.22 * shown + 1.1)
    figure = Figure(figsize=(WIDTH, above + below + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=12)
    parts: Any = figure.subfigures(2, 1, height_ratios=(above, below))
    top, bottom = parts
    axes = top.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(samples):]:
        ax.set_axis_off()
    for ax, sample in zip(axes, samples, strict=False):
        draw_sample(ax, sample, class_names)
    left, *right = bottom.subplots(1, 4, width_ratios=(1.5, 1, 1, 1))
    draw_class_counts(left, numbers, class_names)
    draw_image_sizes(right[0], numbers.sizes)
    draw_object_sizes(right[1], numbers)
    draw_values(right[2], numbers)
    set_fonts(figure)
    return figure


def draw_sample(ax: Any, item: Any, class_names: Sequence[str]) -> None:
    """Draw an item of any data set: its image with the labels, masks or boxes in the colors of their classes."""
    sample = as_sample(item)
    H, W = sample.image.shape[1:]
    step = -(-max(H, W) // LONGEST)
    title = f"{shorten(sample.name)}, {W} x {H}"
    if isinstance(sample, ShapeImage):
        draw_image(ax, sample.image[:, ::step, ::step], f"{class_names[sample.label]}\n{title}")
    elif isinstance(sample, Sample):
        draw_image(ax, tint_labels(sample.image[:, ::step, ::step], sample.label[::step, ::step], class_names), title)
    else:
        draw_objects(ax, small(sample, step), class_names, title)


def small(sample: DetectionSample, step: int) -> DetectionSample:
    """Return a sample at 1 / ``step`` of its size."""
    H, W = sample.image.shape[1:]
    return sample if step == 1 else resize(sample, (-(-H // step), -(-W // step)))


def draw_objects(ax: Any, sample: DetectionSample, class_names: Sequence[str], title: str) -> None:
    """Draw the boxes and masks of a sample, dashed if difficult or a crowd; the classes' names if there are few."""
    rgb = sample.image if sample.masks is None else overlay_masks(sample.image, sample.masks, sample.labels.tolist())
    draw_image(ax, rgb, title)
    left_out = np.asarray(sample.difficult) | np.asarray(sample.crowd)
    names = legible(class_names) if len(sample.labels) <= MOST_NAMED and len(class_names) > 1 else None
    for chosen, style in ((~left_out, "-"), (left_out, ":")):
        some = sample.select(chosen)
        draw_boxes(ax, some.boxes, some.labels.tolist(),
                   None if names is None else [names[k] for k in some.labels], style=style,
                   width=1.2 if sample.masks is None else 0.5)


def draw_class_counts(ax: Any, numbers: Statistics, class_names: Sequence[str]) -> None:
    """Draw a bar for each class in its color; of more than ``MOST_CLASSES``, the most frequent ones."""
    shares = numbers.counts / max(numbers.counts.sum() + numbers.void, 1)
    order = np.arange(len(class_names)) if len(class_names) <= MOST_CLASSES else np.argsort(
        -numbers.counts, kind="stable")[:MOST_CLASSES]
    names = legible(class_names)
    colors: Any = [class_color(k) for k in order]
    named = [(shorten(names[k]), shares[k], f"{numbers.counts[k]:,}") for k in order]
    if numbers.unit == "pixels":
        palette, bare = label_colors(class_names)
        colors = ["w" if bare and k == 0 else palette[k] / 255 for k in order]
        named = [(name, share, f"{share:.1%}") for name, share, _ in named]
        if numbers.void:
            share = numbers.void / (numbers.counts.sum() + numbers.void)
            named, colors = [*named, ("void", share, f"{share:.1%}")], [*colors, "w"]
    bars = ax.barh(range(len(named)), [share for _, share, _ in named], color=colors, edgecolor="0.3", linewidth=0.6)
    for bar, (_, _, count) in zip(bars, named, strict=True):
        ax.annotate(count, (bar.get_width(), bar.get_y() + bar.get_height() / 2), (3, 0), va="center", fontsize=8,
                    textcoords="offset points")
    rest = len(class_names) - len(order)
    ax.set_title(f"{numbers.unit} of each class" + (f" (and {rest} more)" if rest else ""), fontsize=9)
    ax.set_yticks(range(len(named)), [name for name, _, _ in named])
    ax.set(ylim=(max(len(named), 4) - 0.4, -0.6), xlim=(0, 1.25 * max(shares.max(), 1e-9)), xticks=[])
    ax.tick_params(labelsize=8, length=0)
    ax.spines[["top", "right", "bottom"]].set_visible(False)


def draw_image_sizes(ax: Any, sizes: np.ndarray) -> None:
    """Draw a dot for each size (H, W) of images, its area the number of images."""
    found, counts = np.unique(sizes, axis=0, return_counts=True)
    ax.scatter(found[:, 1], found[:, 0], s=12 + 200 * counts / counts.sum(), color=PALETTE[5] / 255, alpha=0.6)
    if len(found) == 1:
        ax.text(0.5, 0.06, f"all {found[0, 1]} x {found[0, 0]}", transform=ax.transAxes, ha="center", fontsize=8)
    longest = 1.15 * sizes.max()
    ax.plot((0, longest), (0, longest), color="0.8", lw=0.8, zorder=0)
    ax.set(xlim=(0, longest), ylim=(0, longest), aspect="equal")
    label(ax, "sizes of images", "width, pixels", "height, pixels")


def draw_object_sizes(ax: Any, numbers: Statistics) -> None:
    """Draw how many objects, or regions, have a side of each length; dotted, COCO's borders of 32 and 96 pixels."""
    what = "objects" if numbers.unit == "objects" else "regions of one class"
    label(ax, f"sizes of {what}", "square root of the area, pixels", what)
    sides = numbers.object_sizes[numbers.object_sizes > 0]
    if not len(sides):
        ax.set_axis_off()
        return
    low, high = np.log2(max(sides.min(), 1)) - 0.1, np.log2(sides.max()) + 0.1
    ax.hist(sides, bins=2 ** np.linspace(low, high, 30), color=PALETTE[1] / 255)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:.0f}")
    for border in (32, 96):
        if 2**low < border < 2**high:
            ax.axvline(border, color="0.3", ls=":", lw=1)


def draw_values(ax: Any, numbers: Statistics) -> None:
    """Draw the share of pixels with each value, for each channel."""
    label(ax, "values of the pixels", "0: black, 1: white", "share of pixels")
    shares, edges = numbers.values / numbers.values.sum(axis=1, keepdims=True), np.linspace(0, 1, BINS + 1)
    gray = len(shares) == 1 or (shares == shares[0]).all()
    for row, color in zip(shares[:1] if gray else shares, CHANNELS[1 if gray else 3], strict=False):
        ax.stairs(row, edges, color=color, fill=gray, lw=1.2)
    words = f"mean {numbers.mean.mean():.2f}\ndeviation {numbers.deviation.mean():.2f}"
    ax.text(0.97, 0.96, words, transform=ax.transAxes, ha="right", va="top", fontsize=8)
    ax.set(xlim=(0, 1), ylim=(0, 1.2 * shares.max()))


def label(ax: Any, title: str, x: str, y: str) -> None:
    """Write the title and labels of a chart."""
    ax.set_title(title, fontsize=9)
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)
    ax.tick_params(labelsize=7)


def shorten(name: str, most: int = 26) -> str:
    """Return a name with its middle left out if it is longer than ``most`` letters.

    >>> shorten("2007_000001"), shorten("a" * 20 + "b" * 20, 11)
    ('2007_000001', 'aaaaa…bbbbb')
    """
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"
