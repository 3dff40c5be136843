"""What a network found in an image, written on the image itself: no figure is made, so it is as sharp as the image."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from .boxes import class_color, overlay_masks
from .fonts import draw_text, legible, text_size
from .images import PALETTE, to_rgb
from .segmentation import class_colors

NARROW = 260  # pixels that a line of the legend has at least
REST = ("background", "membrane", "gap", "unlabeled", "void")  # classes that are left as they are


def letter_size(picture: Image.Image) -> int:
    """The height of letters in pixels: an image of 4000 pixels is looked at from farther away than one of 400."""
    return max(12, min(picture.size) // 45)


def shortened(text: str, size: int, width: int) -> str:
    """The text, or as much of its beginning as is not wider than ``width`` pixels, and an ellipsis."""
    if text_size(text, size)[0] <= width:
        return text
    shorter = (text[:n] + "…" for n in range(len(text) - 1, 0, -1))
    return next((some for some in shorter if text_size(some, size)[0] <= width), "")


def enlarged(rgb: np.ndarray, scale: int) -> Image.Image:
    """An image (H, W, 3), each pixel ``scale`` x ``scale`` pixels."""
    return Image.fromarray(np.ascontiguousarray(rgb.repeat(scale, axis=0).repeat(scale, axis=1)))


def render_segmentation(image: np.ndarray, labels: np.ndarray, class_names: Sequence[str],
                        scale: int = 1) -> np.ndarray:
    """An image (C, H, W) with its classes (H, W) tinted, ``scale`` times as large, over a legend: uint8 (H', W', 3).

    The legend has the classes that occur, with their share of the pixels, the largest first. A class 0 called
    background, or like it, and the first of two classes are not tinted.
    """
    K = len(class_names)
    bare = K <= 2 or class_names[0].lower() in REST
    colors = PALETTE[1 + np.arange(-1, K - 1) % (len(PALETTE) - 1)] if bare else class_colors(class_names)
    rgb = to_rgb(image).astype(np.float32)
    rgb = np.where((labels >= bare)[..., None], 0.55 * rgb + 0.45 * colors[labels], rgb).astype(np.uint8)
    picture = enlarged(rgb, scale)
    size, names = letter_size(picture), legible(class_names)
    width, gap = max(picture.width, NARROW), size // 2
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


def render_detections(image: np.ndarray, found: Any, class_names: Sequence[str], scale: int = 1) -> np.ndarray:
    """An image (C, H, W) with what a detector found in it, ``scale`` times as large: uint8 (scale H, scale W, 3).

    found: Detections, or a DetectionSample. Every box has its class, if there are several, and its score above it;
    masks are tinted. Detections without an object are marked as such.
    """
    picture = enlarged(to_rgb(image) if found.masks is None else overlay_masks(image, found.masks, found.labels),
                       scale)
    draw, size, names = ImageDraw.Draw(picture), letter_size(picture), legible(class_names)
    scores = getattr(found, "scores", None)
    if scores is not None and not len(scores):
        place_text(picture, draw, (0, 0), "nothing found", size, (255, 255, 255))
    for r in range(len(found.boxes))[::-1]:  # the best at last, on top
        color = tuple((255 * class_color(found.labels[r])).astype(int).tolist())
        x1, y1, x2, y2 = (np.asarray(found.boxes[r], float) * scale).round().astype(int).tolist()
        x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="white")
        draw.rectangle((x1, y1, x2, y2), outline=color, width=max(scale, 1 + min(picture.size) // 400))
        words = [names[int(found.labels[r])]] if len(names) > 1 or scores is None else []
        place_text(picture, draw, (x1, y1), " ".join([*words, *([] if scores is None else [f"{scores[r]:.2f}"])]), size,
                   color)
    return np.asarray(picture)


def place_text(picture: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int,
               ground: tuple[int, ...]) -> None:
    """Write a text above a corner (x, y) of a box, or below where there is no room, so that no letter is cut off."""
    text = shortened(text, size, picture.width - 4)
    wide, high = text_size(text, size)
    x = min(max(corner[0], 0), max(picture.width - wide - 4, 0))
    y = corner[1] - high if corner[1] >= high else max(corner[1], 0)
    y = min(y, max(picture.height - high, 0))
    draw.rectangle((x, y, x + wide + 3, y + high - 1), fill=ground)
    dark = np.dot(ground, (0.299, 0.587, 0.114)) < 128
    draw_text(draw, (x + 2, y), text, size, "white" if dark else "black")
