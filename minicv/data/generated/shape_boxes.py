"""Drawn scenes of several objects, so that detectors can be trained without a download.

Objects are shapes of any color and texture (`shapes.SHAPES`); only the outline gives the class. They differ in size and
ratio, may overlap, and may be cut by the border. A box surrounds the visible part, as in COCO.
"""
from __future__ import annotations

import numpy as np

from ..readers.detection import boxes_of_masks
from ..sample import DetectionSample
from .dataset import SPLITS, GeneratedDataset
from .shapes import SHAPES, random_color, surface

CLASSES = ("disc", "square", "triangle", "star", "cross")
TRIES = 30  # places tried for an object before the image counts as full


def draw_shape_boxes(size: tuple[int, int], rng: np.random.Generator, *, class_names: tuple[str, ...] = CLASSES,
                   objects: tuple[int, int] = (1, 6), radius: tuple[float, float] = (0.08, 0.3),
                   ratio: tuple[float, float] = (0.5, 2.0), angle: float = 0.3, crowding: float = 0.3,
                   visible: float = 0.6, contrast: float = 0.35, strength: float = 0.3,
                   noise: float = 0.04) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one scene: image float32 (3, H, W) in [0, 1], masks bool (R, H, W) of the visible parts, labels (R,).

    objects: fewest and most; fewer if there is no room. radius: smallest and largest, as shares of the shorter side,
    log-uniform. ratio: height to width, before a rotation by up to ``angle`` radians. crowding: share of objects placed
    against or onto another one; the others touch nothing. visible: smallest share of an object that others and the
    border leave visible. contrast: smallest difference from the ground in some color channel. strength: of the
    textures, 0 for plain colors. noise: standard deviation.
    """
    height, width = size
    if min(size) < 1 or not 0 <= objects[0] <= objects[1] or not 0 < radius[0] <= radius[1] or not 0 < visible <= 1:
        raise ValueError("draw_shape_boxes: needs a size of at least (1, 1), 0 <= objects[0] <= objects[1], "
                         "0 < radius[0] <= radius[1] and 0 < visible <= 1, got "
                         f"{size}, {objects}, {radius} and {visible}")
    ground = random_color(rng)
    image = surface(ground, size, rng, strength)  # (3, H, W)
    owner = np.zeros(size, np.int16)  # the object on top, 0 for the ground
    whole: list[int] = []  # pixels of each object, hidden ones included
    places: list[tuple[float, float, float]] = []  # y, x, radius
    labels: list[int] = []
    for _ in range(rng.integers(objects[0], objects[1] + 1)):
        for _ in range(TRIES):
            r = np.exp(rng.uniform(*np.log(radius))) * min(size)
            onto = bool(places) and rng.random() < crowding
            if onto:
                y, x, other = places[rng.integers(len(places))]
                turn, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.55, 1.0) * (r + other)
                y, x = y + distance * np.sin(turn), x + distance * np.cos(turn)
            else:
                y, x = rng.uniform(0, height), rng.uniform(0, width)
            label, stretch = int(rng.integers(len(class_names))), np.sqrt(np.exp(rng.uniform(*np.log(ratio))))
            window, mask, pixels = _stretched(class_names[label], size, (y, x, r),
                                              stretch=stretch, angle=rng.uniform(-angle, angle))
            seen = mask.any() and mask.sum() >= visible * pixels
            if seen and _fits(owner, window, mask, whole, visible if onto else None):
                color = random_color(rng, ground, contrast=contrast)
                image[:, *window] = np.where(mask, surface(color, mask.shape, rng, strength), image[:, *window])
                owner[window][mask] = len(whole) + 1
                whole.append(pixels)
                places.append((y, x, r))
                labels.append(label)
                break
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    masks = owner[None] == np.arange(1, len(whole) + 1)[:, None, None]
    return image.clip(0, 1), masks, np.array(labels, np.int64)


def _stretched(name: str, size: tuple[int, int], place: tuple[float, float, float], *,
               stretch: float, angle: float) -> tuple[tuple[slice, slice], np.ndarray, int]:
    """Return a window of the image, a shape's mask in it, and the shape's number of pixels, in or out of the image.

    The shape is ``stretch**2`` times as high as wide. place: (y, x, radius).
    """
    *center, radius = place
    reach = radius * max(stretch, 1 / stretch)
    (top, left), (bottom, right) = np.floor(np.subtract(center, reach)), np.ceil(np.add(center, reach))
    y, x = np.arange(top, bottom)[:, None] + 0.5 - center[0], np.arange(left, right) + 0.5 - center[1]
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x  # rotated back
    every = SHAPES[name](u * (stretch / radius), v / (stretch * radius))
    ends = np.clip([[top, bottom], [left, right]], 0, np.array(size)[:, None]).astype(int)  # rows and columns
    (y1, y2), (x1, x2) = ends - np.array([[int(top)], [int(left)]])
    return (slice(*ends[0]), slice(*ends[1])), every[y1:y2, x1:x2], int(every.sum())


def _fits(owner: np.ndarray, window: tuple[slice, slice], mask: np.ndarray, whole: list[int],
          visible: float | None) -> bool:
    """Return whether all objects below keep the share ``visible``; None: whether nothing is covered."""
    covered = owner[window][mask]
    if visible is None:
        return not covered.any()
    now = np.bincount(owner.ravel(), minlength=len(whole) + 1)[1:]
    lost = np.bincount(covered, minlength=len(whole) + 1)[1:]
    return bool((now - lost >= visible * np.array(whole)).all())


class ShapeBoxes(GeneratedDataset):
    """A data set of drawn images with their boxes and masks; see GeneratedDataset. options: draw_shape_boxes's."""

    function = staticmethod(draw_shape_boxes)
    splits = SPLITS

    def __init__(self, count: int, size: int | tuple[int, int] = 128, seed: int = 0, split: str = "train", **options):
        super().__init__(count, size, seed, split, **options)
        self.class_names = tuple(options.get("class_names", CLASSES))
        self.num_classes = len(self.class_names)

    def draw(self, index: int, rng: np.random.Generator) -> DetectionSample:
        image, masks, labels = draw_shape_boxes(self.size, rng, **self.options)
        name = f"boxes-{self.split}-{self.seed}-{index}"
        return DetectionSample(image, boxes_of_masks(masks), labels, name, masks)
