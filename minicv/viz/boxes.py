"""Images with boxes, masks and heat maps, in colors that color-blind people can tell apart.

Coordinates are continuous: pixel (i, j) reaches from i to i + 1 and from j to j + 1, and a box (x1, y1, x2, y2) is
drawn at exactly these coordinates.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .fonts import set_fonts
from .images import PALETTE, text_color, to_rgb

COLORS = PALETTE[[1, 2, 3, 7, 4, 5, 6]]  # of class 0, 1, ...


def class_color(label: int) -> np.ndarray:
    """The color of a class, RGB in 0..1; seven colors repeat."""
    return COLORS[int(label) % len(COLORS)] / 255


def box_patch(box: Any, **style: Any) -> Any:
    """A matplotlib patch for a box (4,)."""
    from matplotlib.patches import Rectangle
    x1, y1, x2, y2 = box
    return Rectangle((x1, y1), x2 - x1, y2 - y1, **style)


def draw_image(ax: Any, image: np.ndarray, title: str = "", **options: Any) -> None:
    """Draw an image (C, H, W) in 0..1, or (H, W, 3), on axes whose units are pixels; ``options`` go to imshow."""
    rgb = image if image.ndim == 3 and image.shape[2] == 3 else to_rgb(image)
    H, W = rgb.shape[:2]
    ax.imshow(rgb, **{"extent": (0, W, H, 0), "interpolation": "nearest", **options})
    ax.set(xlim=(0, W), ylim=(H, 0), xticks=[], yticks=[])
    ax.set_title(title, fontsize=9)


def draw_boxes(ax: Any, boxes: np.ndarray, labels: Sequence[int] | None = None, texts: Sequence[str] | None = None,
               color: Any = None, width: float = 1.8, style: str = "-") -> None:
    """Draw boxes on the axes of ``draw_image``, with a thin white line around them to show on any background.

    boxes: (R, 4). labels: (R,), to give each class its color; or one ``color`` for all. texts: (R,), beside the boxes.
    """
    import matplotlib.patheffects as effects
    from matplotlib import colors
    for r, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, float).tolist()):
        own: Any = class_color(0 if labels is None else labels[r]) if color is None else color
        halo = [effects.Stroke(linewidth=width + 1, foreground="w", alpha=0.8), effects.Normal()]
        ax.add_patch(box_patch((x1, y1, x2, y2), fill=False, edgecolor=own, linewidth=width, linestyle=style,
                               path_effects=halo))
        if texts is not None and texts[r]:
            right = x1 > 0.6 * max(ax.get_xlim())  # a text that begins here may end outside the image
            ax.text(min(x2, max(ax.get_xlim())) if right else max(x1, 0), max(y1, 0), texts[r], fontsize=7,
                    ha="right" if right else "left", va="bottom" if y1 > 8 else "top",
                    color=text_color(colors.to_rgb(own)), clip_on=True,
                    bbox={"facecolor": own, "edgecolor": "none", "pad": 0.8, "alpha": 0.9})
    if texts is not None:
        set_fonts(ax)


def draw_predictions(ax: Any, image: np.ndarray, found: Any, class_names: Sequence[str], title: str = "") -> None:
    """Draw an image (C, H, W) with detections: their masks if they have any, boxes, class names and scores.

    found: Detections, or a DetectionSample, which has no scores.
    """
    scores = getattr(found, "scores", None)
    draw_image(ax, image if found.masks is None else overlay_masks(image, found.masks, found.labels), title)
    texts = [class_names[k] for k in found.labels]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    draw_boxes(ax, found.boxes, found.labels, texts, width=1.3)


def overlay_masks(image: np.ndarray, masks: np.ndarray, labels: Sequence[int] | None = None,
                  strength: float = 0.5) -> np.ndarray:
    """An image (C, H, W) with masks (R, H, W) tinted and outlined in the color of their class: uint8 (H, W, 3).

    Without labels each mask has its own color.
    """
    rgb = to_rgb(image).astype(np.float32)
    for r, mask in enumerate(np.asarray(masks, bool)):
        color = 255 * class_color(r if labels is None else labels[r]).astype(np.float32)
        inner = mask.copy()  # without the pixels at its edge
        inner[1:] &= mask[:-1]
        inner[:-1] &= mask[1:]
        inner[:, 1:] &= mask[:, :-1]
        inner[:, :-1] &= mask[:, 1:]
        rgb[inner] += strength * (color - rgb[inner])
        rgb[mask & ~inner] = color
    return rgb.astype(np.uint8)


def draw_heat_map(ax: Any, image: np.ndarray, heat: np.ndarray, title: str = "", low: float | None = None,
                  high: float | None = None, alpha: float = 0.65) -> None:
    """Draw an image (C, H, W) in gray under a map (h, w) in color, with a color bar from ``low`` to ``high``.

    Each place of the map is a rectangle of the image. low, high: by default the smallest and largest value of the map.
    """
    draw_image(ax, np.asarray(image).mean(axis=0), title)
    H, W = image.shape[-2:]
    colors = ax.imshow(heat, cmap="cividis", vmin=low, vmax=high, alpha=alpha, extent=(0, W, H, 0),
                       interpolation="nearest")
    ax.figure.colorbar(colors, ax=ax, shrink=0.75)
