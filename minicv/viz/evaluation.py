"""What an evaluation found, drawn: precision-recall curves, AP by IoU, and the errors on an image."""
from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..data.augment.detection import resize_image
from ..data.sample import IGNORE, DetectionSample, Sample
from ..metrics.detection_analysis import JudgedImage
from ..metrics.detection_errors import KINDS, LOCATION, RIGHT, UNCOUNTED
from .curves import COLORS, STYLES
from .fonts import draw_text, legible, set_fonts, text_size
from .images import text_color, to_rgb
from .predictions import enlarged, letter_size, tint_labels

LONGEST = 900  # pixels of the longer side of an image in a report
MOST_CURVES = 8  # with a color and a name each
RIGHT_COLOR = (0, 158, 115)
KIND_COLORS = {"class": (204, 121, 167), "location": (230, 159, 0), "both": (150, 90, 60), "duplicate": (86, 180, 233),
               "background": (0, 90, 178), "missed": (213, 94, 0)}
KIND_WORDS = {"class": "wrong class", "location": "loose", "both": "loose and wrong class", "duplicate": "double",
              "background": "nothing there", "missed": "missed"}
WRONG = np.array([213, 94, 0], np.float32)


def draw_precision_recall(ax: Any, curves: Mapping[str, np.ndarray], title: str) -> None:
    """Draw the precision of each class at 101 recalls, and the mean of the classes in black.

    Up to ``MOST_CURVES`` classes have a color each. Of more, the three with the least area have, the others are gray.
    """
    recall, areas = np.linspace(0, 1, 101), {name: float(curve.mean()) for name, curve in curves.items()}
    named = list(curves) if len(curves) <= MOST_CURVES else sorted(areas, key=lambda name: areas[name])[:3]
    styles = zip(itertools.cycle(COLORS), itertools.cycle(STYLES))
    for name in curves.keys() - named:
        ax.plot(recall, curves[name], color="0.8", lw=0.7)
    for name, shown in zip(curves, legible(list(curves)), strict=True):
        if name in named:
            color, style = next(styles)
            ax.plot(recall, curves[name], color=color, linestyle=style, lw=1.3, label=f"{shown} {areas[name]:.2f}")
    if len(curves) > 1:
        mean = np.mean(list(curves.values()), axis=0)
        ax.plot(recall, mean, color="k", lw=2, label=f"mean {mean.mean():.2f}")
    if curves:
        ax.legend(fontsize=8, loc="lower left")
    ax.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="recall", ylabel="precision")
    ax.set_title(title, fontsize=10)
    set_fonts(ax)


def draw_ap_by_iou(ax: Any, thresholds: Sequence[float], values: Mapping[str, Sequence[float]]) -> None:
    """Draw average precision against the IoU that a right detection needs."""
    for (name, line), color, marker in zip(values.items(), COLORS, "os", strict=False):
        ax.plot(thresholds, line, color=color, marker=marker, ms=4, label=name)
    if len(values) > 1:
        ax.legend(fontsize=8)
    ax.set(xlim=(0.48, 0.97), ylim=(0, 1.03), xlabel="IoU that counts as found", ylabel="average precision")
    ax.set_title("by IoU", fontsize=10)


def error_marks(judged: JudgedImage, truth: DetectionSample, class_names: Sequence[str]) -> list[tuple[str, np.ndarray,
                                                                                                    str]]:
    """Return (kind, box, words) for each error in an image, detections by falling score, then missed objects."""
    marks, verdicts = [], judged.verdicts
    for d in np.argsort(-judged.found.scores, kind="stable"):
        k, g = verdicts.kind[d], verdicts.about[d]
        if k in (RIGHT, UNCOUNTED):
            continue
        words = f"{class_names[judged.found.labels[d]]} {judged.found.scores[d]:.2f}"
        if KINDS[k] == "class":
            words += f" is {class_names[truth.labels[g]]}"
        marks.append((KINDS[k], judged.found.boxes[d], words))
    marks += [("missed", truth.boxes[g], class_names[truth.labels[g]]) for g in np.flatnonzero(verdicts.missed)]
    return marks


def render_errors(truth: DetectionSample, judged: JudgedImage, class_names: Sequence[str]) -> np.ndarray:
    """Render an image with right detections in thin green, and numbered errors in the colors of ``KIND_COLORS``.

    The number is that of ``error_marks``. Errors of location have the box of the object beside theirs, thin. A large
    image is reduced to ``LONGEST`` pixels, a small one enlarged a whole number of times: uint8 (H, W, 3).
    """
    H, W = truth.image.shape[1:]
    times = max(1, LONGEST // max(H, W))
    factor = min(LONGEST / max(H, W), float(times))
    reduced = resize_image(truth.image, (max(1, round(H * factor)), max(1, round(W * factor)))) if factor < 1 else None
    picture = enlarged(to_rgb(truth.image if reduced is None else reduced), times)
    draw, size = ImageDraw.Draw(picture), letter_size(picture)
    verdicts = judged.verdicts
    for d in np.flatnonzero(verdicts.kind == RIGHT):
        outline(draw, judged.found.boxes[d] * factor, RIGHT_COLOR, 2)
    for d in np.flatnonzero(verdicts.kind == LOCATION):
        outline(draw, truth.boxes[verdicts.about[d]] * factor, KIND_COLORS["location"], 1)
    marks = error_marks(judged, truth, class_names)
    for kind, box, _ in marks:
        outline(draw, box * factor, KIND_COLORS[kind], 3)
    for n, (kind, box, _) in enumerate(marks, 1):
        wide, high = text_size(str(n), size)
        x = int(min(max(box[0] * factor, 0), picture.width - wide - 4))
        y = int(min(max(box[1] * factor - high, 0), picture.height - high))
        draw.rectangle((x, y, x + wide + 3, y + high - 1), fill=KIND_COLORS[kind])
        draw_text(draw, (x + 2, y), str(n), size, text_color(np.array(KIND_COLORS[kind]) / 255))
    return np.asarray(picture)


def outline(draw: ImageDraw.ImageDraw, box: np.ndarray, color: tuple[int, int, int], width: int) -> None:
    """Draw a box (x1, y1, x2, y2) in pixels of the picture, with a white line around one of three pixels or more."""
    x1, y1, x2, y2 = np.asarray(box, float).round().astype(int).tolist()
    x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)
    if width > 2:
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="white")
    draw.rectangle((x1, y1, x2, y2), outline=color, width=width)


def render_label_errors(sample: Sample, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Render an image, its truth, its labels (H, W), and the wrong pixels in red, beside each other: uint8 (H', W', 3).

    Void pixels are nearly white in all but the image.
    """
    H, W = sample.image.shape[1:]
    factor = min(LONGEST / 2 / max(H, W), 1.0)
    size = max(1, round(H * factor)), max(1, round(W * factor))
    y, x = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, (H, W), strict=True))
    image, truth, given = resize_image(sample.image, size), sample.label[y[:, None], x], labels[y[:, None], x]
    void = truth == IGNORE
    gray = to_rgb(np.broadcast_to(image.mean(axis=0), (3, *size))).astype(np.float32)
    wrong = np.where((given != truth)[..., None], 0.25 * gray + 0.75 * WRONG, 0.6 * gray + 90)
    wrong[void] = 0.3 * gray[void] + 0.7 * 255
    panels = [to_rgb(image), tint_labels(image, truth, class_names),
              tint_labels(image, np.where(void, IGNORE, given), class_names), wrong.astype(np.uint8)]
    times = max(1, LONGEST // 4 // max(size))
    gap = np.full((size[0] * times, 6, 3), 255, np.uint8)
    shown = [np.asarray(Image.fromarray(np.ascontiguousarray(p)).resize((size[1] * times, size[0] * times),
                                                                        Image.Resampling.NEAREST)) for p in panels]
    return np.concatenate([part for panel in shown for part in (panel, gap)][:-1], axis=1)


def color_text(color: Sequence[int]) -> str:
    """Return the style of a mark in this color, for HTML."""
    return f"background: rgb({' '.join(map(str, color))}); color: {text_color(np.asarray(color) / 255)}"
