"""Drawn images of one class each, so that classifiers can be trained without a download.

One shape (``shapes.SHAPES``) is in front of a background. Colors, textures, size, place and angle have the same
distribution for all classes; a band hides part of the shape in half of the images, and the border cuts some. So color
gives no hint of the class: only the outline does.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from .dataset import SPLITS, GeneratedDataset
from .shapes import SHAPES, random_color, shape_mask, surface


@dataclasses.dataclass(frozen=True)
class ShapeImage:
    """image: float32 (3, H, W) in [0, 1]. label: the class. mask: bool (H, W), the visible part of the shape."""

    image: np.ndarray
    label: int
    mask: np.ndarray
    name: str


def draw_shape_image(shape: str, size: tuple[int, int], rng: np.random.Generator, *,
                     radius: tuple[float, float] = (0.24, 0.42), angle: float = 0.3, lighter: float = 1.0,
                     hidden: float = 0.5, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image: image float32 (3, H, W) in [0, 1], and mask bool (H, W) of the visible part of the shape.

    radius: smallest and largest, as shares of the shorter side. angle: largest rotation, radians. lighter: share of
    images with a light shape on a dark ground; the rest are dark on light, and a mix makes the task much harder.
    hidden: share of images with a band across the shape. noise: standard deviation. Raises ``ValueError`` for an
    impossible size or radius.
    """
    if min(size) < 1 or not 0 < radius[0] <= radius[1]:
        raise ValueError(f"draw_shape_image: needs a size of at least (1, 1) and 0 < radius[0] <= radius[1], got size "
                         f"{size} and radius {radius}")
    r = rng.uniform(*radius) * min(size)
    room = np.minimum(0.9 * r, np.array(size) / 2)  # the border cuts off at most a tenth of the radius
    center = rng.uniform(room, size - room)
    mask = shape_mask(shape, size, center, r, rng.uniform(-angle, angle))  # (H, W)
    ground, figure = 0.5 * random_color(rng), 0.5 + 0.5 * random_color(rng)
    if rng.random() >= lighter:
        ground, figure = figure, ground
    image = np.where(mask, surface(figure, size, rng), surface(ground, size, rng))  # (3, H, W)
    if rng.random() < hidden:
        turn, offset, half = rng.uniform(0, np.pi), rng.uniform(-0.8, 0.8) * r, rng.uniform(0.1, 0.2) * r
        y, x = (np.arange(side) + 0.5 - middle for side, middle in zip(size, center, strict=True))
        band = abs(np.cos(turn) * x + np.sin(turn) * y[:, None] - offset) < half  # (H, W)
        image = np.where(band, surface(random_color(rng), size, rng), image)
        mask &= ~band
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    return image.clip(0, 1), mask


class ShapeImages(GeneratedDataset):
    """A data set of drawn images whose classes take turns; see GeneratedDataset. options: draw_shape_image's."""

    function = staticmethod(draw_shape_image)
    splits = SPLITS
    class_names = tuple(SHAPES)
    num_classes = len(class_names)

    def __init__(self, count: int, size: int | tuple[int, int] = 64, seed: int = 0, split: str = "train", **options):
        super().__init__(count, size, seed, split, **options)

    def draw(self, index: int, rng: np.random.Generator) -> ShapeImage:
        label = index % self.num_classes
        image, mask = draw_shape_image(self.class_names[label], self.size, rng, **self.options)
        return ShapeImage(image, label, mask, name=f"shapes-{self.split}-{self.seed}-{index}")

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all images, float32 (N, 3, H, W), and their labels, int64 (N,)."""
        images = np.empty((self.count, 3, *self.size), np.float32)
        for i in range(self.count):
            images[i] = self[i].image
        return images, np.arange(self.count) % self.num_classes
