"""Label maps side by side, and confusion matrices, in colors that color-blind people can tell apart.

No palette has more than eight or nine such colors, so large regions also carry the number of their class.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from .fonts import legible, set_fonts
from .images import PALETTE, text_color, to_rgb
from .pyplot import import_pyplot

VOID = np.array([255, 255, 255], np.uint8)
BLACK, ORANGE, SKY, _, YELLOW, _, VERMILION, PINK = PALETTE.tolist()
GREEN, BLUE, GRAY, BROWN, PURPLE = (0, 120, 85), (0, 90, 178), (190, 190, 190), (110, 60, 40), (90, 20, 110)
NATURAL = (  # the colors that a reader expects in CamVid and in street scenes, still distinct for all eyes
    {"sky": SKY, "building": ORANGE, "pole": BLACK, "road": GRAY, "pavement": YELLOW, "tree": GREEN, "sign": VERMILION,
     "fence": BROWN, "car": BLUE, "pedestrian": PINK, "bicyclist": PURPLE},
    {"ground": YELLOW, "water": SKY, "road": GRAY, "tree": GREEN, "house": ORANGE, "car": VERMILION, "boat": BLUE,
     "pole": BLACK, "sign": PINK})


def class_colors(classes: int | Sequence[str]) -> np.ndarray:
    """Colors for a number of classes, or for classes of these names: uint8 (K, 3).

    They are the palette, then lighter, then darker, and then repeat. Names in NATURAL have their own colors.
    """
    for colors in NATURAL:
        if not isinstance(classes, int) and set(classes) <= set(colors):
            return np.array([colors[name] for name in classes], np.uint8)
    palette = PALETTE[[2, 1, 3, 7, 5, 6, 4, 0]].astype(float)  # each differs clearly from the one before
    shades = np.concatenate([palette, 0.5 * palette + 127, 0.55 * palette + 20])  # black: gray, nearly black
    count = classes if isinstance(classes, int) else len(classes)
    return shades[np.arange(count) % len(shades)].astype(np.uint8)


def color_labels(labels: np.ndarray, colors: np.ndarray, ignore_index: int | None = 255) -> np.ndarray:
    """Color the classes (H, W) by ``colors`` (K, 3): uint8 (H, W, 3); void is white. Raises ``ValueError`` if K is too
    small."""
    labels = np.asarray(labels)
    void = labels == ignore_index if ignore_index is not None else np.zeros(labels.shape, bool)
    classes = np.where(void, 0, labels)
    if classes.size and not 0 <= classes.min() <= classes.max() < len(colors):
        raise ValueError(f"color_labels: classes {classes.min()} to {classes.max()}, but {len(colors)} colors")
    return np.where(void[..., None], VOID, np.asarray(colors, np.uint8)[classes])


def segmentation_sheet(images: Sequence[np.ndarray], label_maps: Mapping[str, Sequence[np.ndarray]],
                     class_names: Sequence[str], colors: np.ndarray | None = None, *, size: float = 2.4,
                     ignore_index: int | None = 255, smallest: float = 0.012, with_images: bool = True) -> Any:
    """A figure with a row per image: the image and its label maps; a legend below.

    images: (C, H, W) in [0, 1]. label_maps: title -> a label map (H, W) for each image, for example the truth and the
    predictions of networks. colors: (K, 3); None takes class_colors. size: width of an image in inches. smallest:
    regions of at least this share of the image carry the number of their class. with_images=False leaves the images
    out. Raises ``ValueError`` unless every image has a label map of its size.
    """
    plt = import_pyplot()
    for title, maps in label_maps.items():
        if [m.shape for m in maps] != [image.shape[-2:] for image in images]:
            raise ValueError(f"segmentation_sheet: {title!r} needs a label map of its size for each image, got "
                             f"{[m.shape for m in maps]} for images {[image.shape[-2:] for image in images]}")
    colors = class_colors(class_names) if colors is None else np.asarray(colors, np.uint8)
    titles = ["image", *label_maps] if with_images else list(label_maps)
    columns, rows = len(titles), len(images)
    heights = [size * image.shape[1] / image.shape[2] for image in images]
    lines = -(-(len(class_names) + 1) // _per_line(size * columns, class_names))  # of the legend
    below = 0.19 * lines + 0.12
    total = sum(heights) + 0.06 * rows + 0.25 + below
    figure = plt.figure(figsize=(size * columns, total))
    top = total - 0.25
    for i, (image, height) in enumerate(zip(images, heights, strict=True)):
        top -= height + 0.06
        for j, title in enumerate(titles):
            place = (size * j + 0.03) / (size * columns), top / total, (size - 0.06) / (size * columns), height / total
            ax = figure.add_axes(place)
            ax.set_axis_off()
            if i == 0:
                ax.set_title(title, fontsize=9, pad=3)
            if with_images and j == 0:
                ax.imshow(to_rgb(image), interpolation="nearest")
            else:
                labels = label_maps[title][i]
                ax.imshow(color_labels(labels, colors, ignore_index), interpolation="nearest")
                _number(ax, labels, colors, smallest, ignore_index)
    draw_legend(figure, class_names, colors, -(-(len(class_names) + 1) // lines))
    set_fonts(figure)
    return figure


def draw_legend(figure: Any, class_names: Sequence[str], colors: np.ndarray, columns: int) -> None:
    """Draw the classes with their numbers and colors at the bottom of a figure."""
    from matplotlib.patches import Patch
    patches = [Patch(facecolor=color / 255, edgecolor="0.3", linewidth=0.5, label=f"{k} {name}")
               for k, (name, color) in enumerate(zip(legible(class_names), np.asarray(colors), strict=True))]
    patches.append(Patch(facecolor="w", edgecolor="0.3", linewidth=0.5, label="void"))
    figure.legend(handles=patches, loc="lower center", ncols=min(columns, len(patches)), fontsize=8, frameon=False,
                  handlelength=1.2, handleheight=0.9, columnspacing=1.2, labelspacing=0.3, borderaxespad=0.1)


def _per_line(width: float, class_names: Sequence[str]) -> int:
    """How many entries of the legend fit into this width in inches."""
    return max(1, int(width / (0.5 + 0.065 * max(map(len, class_names)))))


def _number(ax: Any, labels: np.ndarray, colors: np.ndarray, smallest: float, ignore_index: int | None) -> None:
    """Write the class of each large region where the region is widest."""
    for k in np.unique(labels):
        if k == ignore_index:
            continue
        pieces, _ = ndimage.label(labels == k)
        for piece in np.flatnonzero(np.bincount(pieces.ravel())[1:] >= smallest * labels.size) + 1:
            depth = ndimage.distance_transform_edt(np.pad(pieces == piece, 1))[1:-1, 1:-1]  # the border is an edge
            y, x = np.unravel_index(depth.argmax(), depth.shape)
            ax.text(x, y, str(k), ha="center", va="center", fontsize=7, color=text_color(colors[k] / 255))


def draw_confusion_matrix(matrix: np.ndarray, class_names: Sequence[str], ax: Any = None, title: str = "") -> Any:
    """Draw a confusion matrix (K, K), rows truth, columns prediction; return the axes.

    The numbers are percent of the row, that is of the pixels of a class. Beside them stand the class's share of all
    pixels and its IU. Raises ``ValueError`` if names and matrix do not fit.
    """
    plt = import_pyplot()
    n, K = np.asarray(matrix, float), len(class_names)
    if n.shape != (K, K) or not n.sum() > 0:
        raise ValueError(f"draw_confusion_matrix: needs pixels, and {K} x {K} numbers for {K} names, got {n.shape}")
    t, right = n.sum(axis=1), n.diagonal()
    union = t + n.sum(axis=0) - right
    percent = np.divide(100 * n, t[:, None], out=np.zeros_like(n), where=t[:, None] > 0)
    if ax is None:
        ax = plt.figure(figsize=(0.42 * K + 2.6, 0.36 * K + 1.3), layout="constrained").gca()
    ax.imshow(percent, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
    for (i, j), value in np.ndenumerate(percent):
        if value >= 0.5:
            ax.text(j, i, f"{value:.0f}", ha="center", va="center", fontsize=7, color="k" if value > 50 else "w")
    for i in range(K):
        iu = f"{100 * right[i] / union[i]:.0f}" if union[i] else "-"
        for x, text in ((K + 0.3, f"{100 * t[i] / t.sum():.1f}"), (K + 1.6, iu)):
            ax.text(x, i, text, ha="center", va="center", fontsize=8, clip_on=False)
    for x, text in ((K + 0.3, "pixels\n%"), (K + 1.6, "IU\n%")):
        ax.text(x, -0.75, text, ha="center", va="bottom", fontsize=8, clip_on=False)
    names = legible(class_names)
    ax.set_xticks(range(K), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    ax.set_yticks(range(K), names, fontsize=8)
    ax.set(xlabel="prediction", ylabel="truth")
    ax.set_title(title, fontsize=9, loc="left")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    set_fonts(ax)
    return ax
