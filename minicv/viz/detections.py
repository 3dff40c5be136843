"""Detections and true objects in one drawing, without the image: hits, false alarms and misses."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..data.sample import DetectionSample
from ..detection import Detections
from ..metrics.detection import match_detections
from .boxes import box_patch, class_color
from .fonts import legible, set_fonts
from .pyplot import import_pyplot

PALE, DARK = 0.3, 0.7  # the opacity of true objects, and the brightness of the outlines of detections
WIDTH, DASHES, HATCH = 1.3, (0, (3, 1.5)), "////"
CROSS: dict[str, Any] = {"marker": "x", "markeredgecolor": "k", "markersize": 5.5, "markeredgewidth": 1.4}


def detection_sheet(truths: Sequence[DetectionSample], found: Mapping[str, Sequence[Detections]],
                class_names: Sequence[str], titles: Sequence[str] | None = None, size: float = 3.4,
                threshold: float = 0.5) -> Any:
    """A figure with a row per detector and a column per image, see ``draw_detections``, and a legend below.

    found: name of a detector -> its detections in each image. titles: of the images. size: width of an image in inches.
    Raises ``ValueError`` unless there are detections for every image.
    """
    plt = import_pyplot()
    for name, each in found.items():
        if len(each) != len(truths):
            raise ValueError(f"detection_sheet: {name!r} needs detections in each of {len(truths)} images, got "
                             f"{len(each)}")
    heights = [size * truth.image.shape[1] / truth.image.shape[2] for truth in truths]
    figure, axes = plt.subplots(len(found), len(truths), squeeze=False, layout="compressed",
                                figsize=(size * len(truths) + 0.3, (max(heights) + 0.25) * len(found) + 0.75))
    for i, (name, each) in enumerate(found.items()):
        for n, (ax, truth, some) in enumerate(zip(axes[i], truths, each, strict=True)):
            right, false, missed = draw_detections(ax, some, truth, threshold)
            above = f"{titles[n]}\n" if titles is not None and i == 0 else ""
            ax.set_title(f"{above}{right} found, {false} false, {missed} missed", fontsize=9, pad=3)
        axes[i, 0].set_ylabel(name, fontsize=10, fontweight="bold")
    entries = legend(class_names)
    lines = -(-len(entries) // 5)
    figure.legend(handles=entries, loc="outside lower center", ncols=-(-len(entries) // lines), fontsize=9,
                  frameon=False)
    set_fonts(figure)
    return figure


def draw_detections(ax: Any, found: Detections, truth: DetectionSample, threshold: float = 0.5) -> tuple[int, int, int]:
    """Draw objects filled and detections outlined, in the color of their class.

    Returns the numbers of hits, false alarms and misses, which ``match_detections`` finds at the IoU ``threshold``.
    False alarms are dashed and crossed out, misses hatched. Masks are drawn if both sides have them, else boxes.
    Difficult objects and crowds are left out.
    """
    truth = truth.for_training()
    of = match_detections(found, truth, threshold)
    missed = np.setdiff1d(np.arange(len(truth.labels)), of)
    H, W = truth.image.shape[1:]
    ax.set(xlim=(0, W), ylim=(H, 0), xticks=[], yticks=[], aspect="equal", facecolor="w")
    shapes: tuple[Any, Any] = (truth.masks, found.masks)
    if truth.masks is None or found.masks is None:
        shapes = truth.boxes, found.boxes
    for g, label in enumerate(truth.labels):
        hatch = HATCH if g in missed else None
        _object(ax, shapes[0][g], class_color(label), hatch)
    for d, label in enumerate(found.labels):
        _outline(ax, shapes[1][d], DARK * class_color(label), of[d] >= 0)
        if of[d] < 0:
            x1, y1, x2, y2 = found.boxes[d]
            ax.plot((x1 + x2) / 2, (y1 + y2) / 2, linestyle="", **CROSS)
    return int((of >= 0).sum()), int((of < 0).sum()), len(missed)


def _object(ax: Any, shape: np.ndarray, color: np.ndarray, hatch: str | None) -> None:
    """Fill a box (4,) or a mask (H, W); ``hatch`` is drawn in dark gray."""
    if shape.ndim == 1:
        ax.add_patch(box_patch(shape, facecolor=(*color, PALE), edgecolor="0.25", linewidth=0, hatch=hatch))
    else:
        ax.contourf(*_grid(shape), levels=[0.5, 2], colors=[(*color, PALE)], hatches=[hatch])


def _outline(ax: Any, shape: np.ndarray, color: np.ndarray, right: bool) -> None:
    style = "-" if right else DASHES
    if shape.ndim == 1:
        ax.add_patch(box_patch(shape, fill=False, edgecolor=color, linewidth=WIDTH, linestyle=style))
    elif shape.any():
        ax.contour(*_grid(shape), levels=[0.5], colors=[color], linewidths=WIDTH, linestyles=[style])


def _grid(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixel centers of a mask (H, W) with an empty border, and its values."""
    H, W = mask.shape
    return np.arange(-0.5, W + 1), np.arange(-0.5, H + 1), np.pad(mask, 1).astype(float)


def legend(class_names: Sequence[str]) -> list[Any]:
    """The legend entries for the colors, fillings, lines and crosses of ``draw_detections``."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    colors: list[Any] = [class_color(k) for k in range(len(class_names))]
    gray: Any = np.full(3, 0.5)
    false: dict[str, Any] = {"linestyle": DASHES, **CROSS}
    return [*(Patch(facecolor=(*color, PALE), edgecolor=DARK * color, linewidth=WIDTH, label=name)
              for name, color in zip(legible(class_names), colors, strict=True)),
            Patch(facecolor=(*gray, PALE), label="filled: true object"),
            Patch(fill=False, edgecolor=DARK * gray, linewidth=WIDTH, label="outlined: detection"),
            Patch(facecolor=(*gray, PALE), edgecolor="0.25", linewidth=0, hatch=HATCH, label="hatched: missed"),
            Line2D([], [], color=DARK * gray, linewidth=WIDTH, **false, label="dashed, crossed: false alarm")]
