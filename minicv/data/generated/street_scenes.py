"""Drawn scenes for semantic segmentation, so that lessons and tests need no download.

Each difficulty is one that the papers address:

- context: the same code draws cars and boats; only the surroundings, road or water, tell them apart. With an apron of
  plain ground around them, the surroundings are that much farther away.
- several sizes: trees and houses from a few pixels to half the image, with patterns as coarse as they are large.
- thin parts: poles one or two pixels wide; small objects: the signs on top of them.
- colors: they differ from image to image, so that patterns count. Stripes are water on the ground, walls on a house.
- imbalance: poles and signs make up a hundredth of the pixels.
- void: a strip around every object, on what is behind it, has the label IGNORE.
"""
from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from ..augment.bicubic import bicubic
from ..sample import IGNORE, Sample
from .dataset import GeneratedDataset
from .shapes import paint, random_color, shape_mask, texture

CLASSES = ("ground", "water", "road", "tree", "house", "car", "boat", "pole", "sign")
GROUND, WATER, ROAD, TREE, HOUSE, CAR, BOAT, POLE, SIGN = range(9)
THINGS = (TREE, HOUSE, CAR, BOAT, POLE, SIGN)
SURFACES = {  # class -> mean color over all images, patterns, their periods in pixels or radii
    GROUND: ((0.50, 0.50, 0.40), ("noise",), (4, 9)), WATER: ((0.42, 0.47, 0.52), ("stripes",), (4, 9)),
    ROAD: ((0.46, 0.46, 0.48), ("noise",), (1, 2)), TREE: ((0.38, 0.46, 0.34), ("dots",), (0.3, 0.5)),
    HOUSE: ((0.56, 0.47, 0.42), ("checks", "stripes"), (0.3, 0.6))}
NUMBERS = {"vehicle": 4.0, "house": 2.5, "tree": 4.5, "pole": 2.5}  # in a square image; drawn in this order
RADII = {"vehicle": (0.05, 0.11), "house": (0.04, 0.24), "tree": (0.03, 0.24), "pole": (0.10, 0.25)}  # of its side


def draw_street_scene(size: tuple[int, int], rng: np.random.Generator, *, density: float = 1.0, apron: float = 0.0,
                      void: int = 1, noise: float = 0.03) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one image: image float32 (3, H, W) in [0, 1], label int64 (H, W), instances int32 (H, W).

    density: factor on the number of objects. apron: pixels of plain ground around cars and boats. void: width of the
    strip around objects, pixels. noise: standard deviation. Instances number the objects from back to front; 0 is no
    object, as in the strips. Raises ``ValueError`` for impossible values.
    """
    if min(size) < 1 or min(density, apron, void, noise) < 0:
        raise ValueError("draw_street_scene: needs a size of at least (1, 1), and density, apron, void and noise of 0 "
                         f"or more, got {size}, {density}, {apron}, {void} and {noise}")
    canvas = _Canvas(size, rng, apron)
    squares = size[0] * size[1] / min(size) ** 2
    for name, number in NUMBERS.items():
        for _ in range(rng.poisson(density * number * squares)):
            radius = min(size) * np.exp(rng.uniform(*np.log(RADII[name])))  # log-uniform
            getattr(canvas, name)(radius)
    return canvas.finish(void, noise)


class StreetScenes(GeneratedDataset):
    """A data set of drawn scenes; see GeneratedDataset. options: draw_street_scene's."""

    function = staticmethod(draw_street_scene)
    class_names = CLASSES
    num_classes = len(CLASSES)
    ignore_index = IGNORE
    upright = True  # poles are vertical: augmentation does not turn the images

    def __init__(self, count: int, size: int | tuple[int, int] = (96, 128), seed: int = 0, **options):
        super().__init__(count, size, seed, **options)

    def draw(self, index: int, rng: np.random.Generator) -> Sample:
        return Sample(*draw_street_scene(self.size, rng, **self.options), name=f"scenes-{self.seed}-{index}")


class _Canvas:
    """An unfinished image: each object is drawn over the earlier ones."""

    def __init__(self, size: tuple[int, int], rng: np.random.Generator, apron: float):
        self.size, self.rng, self.apron, self.objects = size, rng, apron, 0
        self.colors = {k: (np.array(middle) + rng.uniform(-0.08, 0.08) + rng.uniform(-0.05, 0.05, 3),
                           rng.uniform(0.12, 0.25) * rng.choice([-1, 1]), patterns[rng.integers(len(patterns))])
                       for k, (middle, patterns, _) in SURFACES.items()}  # color, contrast, pattern
        grounds = np.stack([self.surface(k, size) for k in (GROUND, WATER, ROAD)])  # (3, 3, H, W)
        self.plain = grounds[GROUND]
        # Low places are water, high ones road; the mean height differs between images
        height = rng.normal(0, 0.6) + bicubic(rng.normal(0, 1, (4, 4)), size)
        water, road = height < -0.3, height > 0.3  # (H, W)
        self.image = np.where(water, grounds[WATER], np.where(road, grounds[ROAD], self.plain))  # (3, H, W)
        self.label = np.where(water, WATER, np.where(road, ROAD, GROUND)).astype(np.uint8)
        self.instances = np.zeros(size, np.int32)
        self.paved, self.dry = road, np.flatnonzero(~water)
        free = water | road  # where cars and boats may be: with an apron, that far from the ground
        if apron and not free.all():
            free = ndimage.distance_transform_edt(free) > apron
        self.open = np.flatnonzero(free)

    def surface(self, k: int, size: tuple[int, int], scale: float = 1.0) -> np.ndarray:
        """Draw a piece of class k in this image's colors: float32 (3, h, w)."""
        color, contrast, pattern = self.colors[k]
        periods = np.multiply(SURFACES[k][2], scale)
        return paint(texture(pattern, size, self.rng, np.maximum(periods, 1)), color - contrast / 2,
                     color + contrast / 2)

    def place(self, pixels: np.ndarray) -> np.ndarray | None:
        """Return a random point (y, x) in one of these pixels, numbered 0 to H * W - 1; None if there are none."""
        if not pixels.size:
            return None
        return np.array(divmod(pixels[self.rng.integers(pixels.size)], self.size[1])) + self.rng.random(2)

    def window(self, center: np.ndarray, reach: float) -> tuple[tuple[slice, ...], np.ndarray]:
        """Return the window up to ``reach`` around a point, and the point's coordinates in it."""
        low = [max(0, math.floor(c - reach)) for c in center]
        high = [min(n, math.ceil(c + reach)) for c, n in zip(center, self.size, strict=True)]
        return tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True)), center - low

    def put(self, at: tuple[slice, ...], mask: np.ndarray, surface: np.ndarray, k: int, new: bool = True) -> None:
        """Draw ``surface`` (3, h, w) where the mask is set, as a new object of class k, or as no object."""
        self.objects += new
        self.image[:, *at] = np.where(mask, surface, self.image[:, *at])
        self.label[at][mask] = k
        self.instances[at][mask] = self.objects if new else 0

    def vehicle(self, radius: float) -> None:
        """Draw a car or a boat: the same hull in any color, with a cabin; the ground at its center decides."""
        center, apron = self.place(self.open), self.apron
        if center is None:
            return
        k = CAR if self.paved[tuple(center.astype(int))] else BOAT
        at, middle = self.window(center, radius + apron)
        size, angle = self.label[at].shape, self.rng.uniform(0, np.pi)
        if apron:
            self.put(at, shape_mask("disc", size, middle, radius + apron), self.plain[:, *at], GROUND, new=False)
        hull, cabin = random_color(self.rng), random_color(self.rng)
        surface = np.where(shape_mask("ellipse", size, middle, radius / 2, angle), cabin[:, None, None],
                           hull[:, None, None])
        self.put(at, shape_mask("ellipse", size, middle, radius, angle), surface.astype(np.float32), k)

    def tree(self, radius: float) -> None:
        self._large(radius, TREE, "disc", 0.0)

    def house(self, radius: float) -> None:
        self._large(radius, HOUSE, "square", self.rng.uniform(-0.2, 0.2))

    def _large(self, radius: float, k: int, shape: str, angle: float) -> None:
        center = self.place(self.dry)
        if center is not None:
            at, middle = self.window(center, radius)
            size = self.label[at].shape
            self.put(at, shape_mask(shape, size, middle, radius, angle), self.surface(k, size, radius), k)

    def pole(self, radius: float) -> None:
        """Draw a pole, and with probability 2/3 a sign on top of it."""
        center = self.place(self.dry)
        if center is None:
            return
        at, middle = self.window(center, radius)
        y, x = (np.arange(n) + 0.5 - m for n, m in zip(self.label[at].shape, middle, strict=True))
        lean, width = self.rng.uniform(-0.15, 0.15), max(1.5, min(self.size) / 64)
        mask = (abs(x - lean * y[:, None]) <= width / 2) & (abs(y[:, None]) <= radius)
        gray = np.full((3, 1, 1), self.rng.choice([0.1, 0.25, 0.8]), np.float32)
        self.put(at, mask, gray, POLE)
        if self.rng.random() < 2 / 3:
            small = max(2.0, min(self.size) * self.rng.uniform(0.02, 0.035))
            at, middle = self.window(center - (radius, lean * radius), small)
            size, shape = self.label[at].shape, ("disc", "triangle", "square")[self.rng.integers(3)]
            rim = np.array([0.8, 0.2, 0.2], np.float32) + self.rng.uniform(-0.15, 0.15, 3).astype(np.float32)
            surface = np.where(shape_mask("disc", size, middle, 0.55 * small), np.float32(0.85), rim[:, None, None])
            self.put(at, shape_mask(shape, size, middle, small), surface, SIGN)

    def finish(self, void: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Add light from one side, camera noise, and strips of void around the objects."""
        light = 1 + 0.1 * bicubic(self.rng.normal(0, 1, (3, 3)), self.size)
        image = self.image * light + self.rng.standard_normal(self.image.shape, np.float32) * np.float32(noise)
        if void:
            H, W = self.size
            around, front = np.pad(self.instances, void), self.instances.copy()  # front: the foremost within reach
            for dy, dx in np.ndindex(2 * void + 1, 2 * void + 1):
                if (dy - void) ** 2 + (dx - void) ** 2 <= void**2:
                    np.maximum(front, around[dy:dy + H, dx:dx + W], out=front)
            behind = front > self.instances
            self.label[behind] = IGNORE
            self.instances[behind] = 0
        return image.clip(0, 1).astype(np.float32, copy=False), self.label.astype(np.int64), self.instances
