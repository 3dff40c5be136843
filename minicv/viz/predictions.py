"""Render a network's predictions on the image itself, without a figure, as sharp as the image."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ..data.sample import IGNORE
from .boxes import class_color, overlay_masks
from .fonts import draw_text, legible, text_size
from .images import PALETTE, text_color, to_rgb
from .segmentation import class_colors

MIN_LEGEND_WIDTH = 260  # pixels
LEGEND_ROWS = 32  # of a column of classes
BACKGROUND = ("background", "membrane", "gap", "unlabeled", "void")  # classes that are not tinted


def letter_size(picture: Image.Image) -> int:
    """The height of letters in pixels; it grows with the image, since large images are viewed scaled down."""
    return max(12, min(picture.size) // 45)


def shortened(text: str, size: int, width: int) -> str:
    """The text, cut to ``width`` pixels with an ellipsis."""
    if text_size(text, size)[0] <= width:
        return text
    shorter = (text[:n] + "…" for n in range(len(text) - 1, 0, -1))
    return next((some for some in shorter if text_size(some, size)[0] <= width), "")


def enlarged(rgb: np.ndarray, scale: int) -> Image.Image:
    """An image (H, W, 3), enlarged ``scale`` times."""
    return Image.fromarray(np.ascontiguousarray(rgb.repeat(scale, axis=0).repeat(scale, axis=1)))


def label_colors(class_names: Sequence[str]) -> tuple[np.ndarray, bool]:
    """Return the colors of the classes, uint8 (K, 3), and whether the first one is not tinted."""
    K = len(class_names)
    bare = K <= 2 or class_names[0].lower() in BACKGROUND
    return PALETTE[1 + np.arange(-1, K - 1) % (len(PALETTE) - 1)] if bare else class_colors(class_names), bare


def tint_labels(image: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Return an image (C, H, W) with its classes (H, W) tinted, void nearly white: uint8 (H, W, 3)."""
    colors, bare = label_colors(class_names)
    rgb, void = to_rgb(image).astype(np.float32), labels == IGNORE
    tinted = 0.55 * rgb + 0.45 * colors[np.where(void, 0, labels)]
    rgb = np.where((labels >= bare)[..., None], tinted, rgb)
    return np.where(void[..., None], 0.3 * rgb + 0.7 * 255, rgb).astype(np.uint8)


def render_segmentation(image: np.ndarray, labels: np.ndarray, class_names: Sequence[str],
                        scale: int = 1) -> np.ndarray:
    """Render an image (C, H, W) with its classes (H, W) tinted, enlarged ``scale`` times, over a legend.

    Returns uint8 (H', W', 3). The legend lists the classes that occur by falling share of the pixels. A class 0 named
    background, or similar, and the first of two classes are not tinted.
    """
    K, (colors, bare) = len(class_names), label_colors(class_names)
    picture = enlarged(tint_labels(image, labels, class_names), scale)
    size, names = letter_size(picture), legible(class_names)
    width, gap = max(picture.width, MIN_LEGEND_WIDTH), size // 2
    shares = np.bincount(labels.ravel(), minlength=K) / labels.size
    entries, x, y = [], gap, picture.height + gap
    for k in np.argsort(-shares, kind="stable")[:np.count_nonzero(shares)]:
        text = shortened(f"{names[k]} {shares[k]:.1%}", size, width - 4 * gap - size)
        wide, high = text_size(text, size)
        if x > gap and x + size + gap + wide > width - gap:
            x, y = gap, y + high + gap
        entries.append((x, y, text, None if bare and k == 0 else tuple(colors[k].tolist())))
        x += size + gap + wide + 2 * gap
    canvas = Image.new("RGB", (width, y + high + gap), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    for x, y, text, color in entries:
        draw.rectangle((x, y + (high - size) // 2, x + size, y + (high + size) // 2), fill=color, outline="black")
        draw_text(draw, (x + size + gap, y), text, size, "black")
    return np.asarray(canvas)


def render_legend(class_names: Sequence[str], colors: np.ndarray, size: int = 16) -> np.ndarray:
    """Render the number, color and name of every class, in columns: uint8 (H, W, 3). colors: uint8 (>= K, 3)."""
    names, gap, K = legible(class_names), size // 2, len(class_names)
    columns = -(-K // LEGEND_ROWS)
    rows = -(-K // columns)
    texts = [f"{k} {shortened(name, size, 20 * size)}" for k, name in enumerate(names)]
    high = text_size("0", size)[1] + gap
    column = 2 * size + 4 * gap + max(text_size(text, size)[0] for text in texts)
    canvas = Image.new("RGB", (columns * column, rows * high + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for k, text in enumerate(texts):
        x, y = k // rows * column + gap, k % rows * high + gap
        draw.rectangle((x, y, x + 2 * size, y + high - gap - 1), fill=tuple(colors[k].tolist()), outline="black")
        draw_text(draw, (x + 2 * size + gap, y), text, size, "black")
    return np.asarray(canvas)


def render_detections(image: np.ndarray, found: Any, class_names: Sequence[str], scale: int = 1) -> np.ndarray:
    """Render an image (C, H, W) with detections, enlarged ``scale`` times: uint8 (scale H, scale W, 3).

    found: Detections, or a DetectionSample. Above every box stand its class, if there are several, and its score; masks
    are tinted. Without detections the image says so.
    """
    picture = enlarged(to_rgb(image) if found.masks is None else overlay_masks(image, found.masks, found.labels),
                       scale)
    draw, size, names = ImageDraw.Draw(picture), letter_size(picture), legible(class_names)
    scores = getattr(found, "scores", None)
    if scores is not None and not len(scores):
        place_text(picture, draw, (0, 0), "nothing found", size=size, background=(255, 255, 255))
    for r in range(len(found.boxes))[::-1]:  # the best last, on top
        color = tuple((255 * class_color(found.labels[r])).astype(int).tolist())
        x1, y1, x2, y2 = (np.asarray(found.boxes[r], float) * scale).round().astype(int).tolist()
        x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="white")
        draw.rectangle((x1, y1, x2, y2), outline=color, width=max(scale, 1 + min(picture.size) // 400))
        words = [names[int(found.labels[r])]] if len(names) > 1 or scores is None else []
        text = " ".join([*words, *([] if scores is None else [f"{scores[r]:.2f}"])])
        place_text(picture, draw, (x1, y1), text, size=size, background=color)
    return np.asarray(picture)


def place_text(picture: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, *, size: int,
               background: tuple[int, ...]) -> None:
    """Write a text above the corner (x, y) of a box, or below it if there is no room above."""
    text = shortened(text, size, picture.width - 4)
    wide, high = text_size(text, size)
    x = min(max(corner[0], 0), max(picture.width - wide - 4, 0))
    y = corner[1] - high if corner[1] >= high else max(corner[1], 0)
    y = min(y, max(picture.height - high, 0))
    draw.rectangle((x, y, x + wide + 3, y + high - 1), fill=background)
    draw_text(draw, (x + 2, y), text, size, text_color(np.array(background) / 255))
