"""Images, label maps and instances as RGB, in colors that color-blind people can tell apart."""
from __future__ import annotations

from typing import Any

import numpy as np

from .pyplot import import_pyplot

# Okabe and Ito's palette (Wong, Nature Methods 2011), as RGB in 0..255
PALETTE = np.array([[0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178],
                    [213, 94, 0], [204, 121, 167]], np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Convert (C, H, W) or (H, W) in [0, 1] to uint8 (H, W, 3).

    Unsigned integers are scaled by the largest value of their dtype. NaN becomes black.
    """
    planes = image[None] if image.ndim == 2 else image
    planes = np.broadcast_to(planes, (3, *planes.shape[1:])) if planes.shape[0] == 1 else planes[:3]
    if planes.dtype.kind == "u":
        planes = planes / np.float32(np.iinfo(planes.dtype).max)
    return (np.clip(np.nan_to_num(planes), 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def text_color(background: Any) -> str:
    """White or black, whichever is legible on a color, RGB in 0..1."""
    return "white" if np.dot(background, (0.299, 0.587, 0.114)) < 0.5 else "black"


def overlay_labels(image: np.ndarray, labels: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """The image (C, H, W) with every class except 0 tinted in its color: uint8 (H, W, 3)."""
    rgb, colors = to_rgb(image).astype(np.float32), PALETTE[1 + (labels - 1) % (len(PALETTE) - 1)]
    tinted = (1 - strength) * rgb + strength * colors
    return np.where((labels > 0)[..., None], tinted, rgb).astype(np.uint8)


def label_edges(labels: np.ndarray) -> np.ndarray:
    """True for pixels whose right or lower neighbor has another label, bool (H, W)."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def color_instances(instances: np.ndarray, seed: int = 0) -> np.ndarray:
    """Instance numbers (H, W) as colors, background black: uint8 (H, W, 3). Consecutive numbers differ clearly."""
    numbers, place = np.unique(instances, return_inverse=True)  # numbers may be as large as 2 ** 32
    colors = PALETTE[1 + (numbers % (len(PALETTE) - 1)).astype(np.int64)].astype(float)
    colors *= np.random.default_rng(seed).uniform(0.6, 1.0, (len(colors), 1))
    colors[numbers == 0] = 0
    return colors.astype(np.uint8)[place.reshape(instances.shape)]


def show_images(images: dict[str, Any], columns: int | None = None, size: float = 2.6, **options: Any) -> Any:
    """A figure of images side by side, title -> (H, W), (H, W, 3) or (C, H, W); ``options`` go to imshow."""
    plt = import_pyplot()
    columns = columns or min(len(images), 4)
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, (size + 0.3) * rows), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, image) in zip(axes.flat, images.items(), strict=False):
        image = np.asarray(image)
        if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
            image = to_rgb(image)
        ax.imshow(image, **{"cmap": "gray", "interpolation": "nearest", **options})
        ax.set_title(title, fontsize=9)
    figure.tight_layout()
    return figure
