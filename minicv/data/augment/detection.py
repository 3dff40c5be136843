"""Change an image and its objects together: size, scale, flips, turns and colors.

Boxes are continuous (minicv.detection.boxes): resizing by s maps x to s x, mirroring maps x to W - x, both exactly. A
smaller image averages what each new pixel covers, as in Pillow; masks take the nearest pixel. Flips and random scales
follow the code of Faster R-CNN and YOLO; the ranges are this project's.
"""
from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image

from ..sample import DetectionSample
from .segmentation import color_jitter

MIN_KEPT = 0.3  # smallest share of a box inside a crop; objects with less are left out


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize an image (C, H, W) to (h, w), float32: bilinear, averaging over pixels where it shrinks."""
    if image.shape[1:] == tuple(size):
        return image
    return np.stack([np.asarray(Image.fromarray(np.ascontiguousarray(channel, np.float32))
                                .resize(size[::-1], Image.Resampling.BILINEAR)) for channel in image])


def resize_masks(masks: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize masks (R, H, W) to (R, h, w) by the nearest pixel."""
    y, x = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, masks.shape[1:], strict=True))
    return masks[:, y[:, None], x]


def resize(sample: DetectionSample, size: tuple[int, int]) -> DetectionSample:
    """Resize the sample's image to (h, w), and its objects with it."""
    (H, W), (h, w) = sample.image.shape[1:], size
    factor = np.array([w / W, h / H, w / W, h / H], np.float32)
    masks = None if sample.masks is None else resize_masks(sample.masks, size)
    area = None if sample.area is None else sample.area * (factor[0] * factor[1])
    return dataclasses.replace(sample, image=resize_image(sample.image, size), boxes=sample.boxes * factor, masks=masks,
                               area=area)


def resize_shorter_side(sample: DetectionSample, side: int) -> DetectionSample:
    """Resize the sample so that the shorter side of its image has ``side`` pixels."""
    H, W = sample.image.shape[1:]
    return resize(sample, (round(H * side / min(H, W)), round(W * side / min(H, W))))


def mirror(sample: DetectionSample) -> DetectionSample:
    """Flip the sample left to right."""
    W = sample.image.shape[2]
    boxes = np.stack([W - sample.boxes[:, 2], sample.boxes[:, 1], W - sample.boxes[:, 0], sample.boxes[:, 3]], axis=1)
    masks = None if sample.masks is None else sample.masks[:, :, ::-1]
    return dataclasses.replace(sample, image=sample.image[:, :, ::-1], boxes=boxes, masks=masks)


def transpose(sample: DetectionSample) -> DetectionSample:
    """Exchange rows and columns of the sample; combined with ``mirror``, this is a turn by a right angle."""
    masks = None if sample.masks is None else sample.masks.transpose(0, 2, 1)
    return dataclasses.replace(sample, image=sample.image.transpose(0, 2, 1), boxes=sample.boxes[:, [1, 0, 3, 2]],
                               masks=masks)


def crop(sample: DetectionSample, corner: tuple[int, int], size: tuple[int, int]) -> DetectionSample:
    """Cut out the window of this size (h, w) at ``corner`` (y, x); beyond the image it has the mean color.

    Boxes are clipped to the window; a tapering mask may not fill a clipped box. Objects with less than ``MIN_KEPT`` of
    their box in the window are left out.
    """
    (H, W), (y, x), (h, w) = sample.image.shape[1:], corner, size
    rows, columns = slice(max(y, 0), min(y + h, H)), slice(max(x, 0), min(x + w, W))
    target = slice(rows.start - y, rows.stop - y), slice(columns.start - x, columns.stop - x)

    def cut(array: np.ndarray, outside: np.ndarray | float) -> np.ndarray:
        new = np.empty((*array.shape[:-2], h, w), array.dtype)
        new[...] = outside
        new[(..., *target)] = array[..., rows, columns]
        return new

    moved = sample.boxes - np.array([x, y, x, y], np.float32)
    boxes = np.clip(moved, 0, np.array([w, h, w, h], np.float32))
    whole, inside = (np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (moved, boxes))
    masks = None if sample.masks is None else cut(sample.masks, False)
    kept = (inside > 0) & (inside >= MIN_KEPT * whole)
    if masks is not None:
        kept &= masks.any(axis=(1, 2))
    mean = sample.image.mean(axis=(1, 2), dtype=np.float64, keepdims=True)
    return dataclasses.replace(sample, image=cut(sample.image, mean), boxes=boxes, masks=masks).select(kept)


def random_factor(rng: np.random.Generator, most: float) -> float:
    """Draw a factor between 1 and ``most``, or with equal probability its inverse (Darknet's)."""
    factor = rng.uniform(1, most)
    return float(factor if rng.integers(2) else 1 / factor)


def expose(image: np.ndarray, value: float, saturation: float) -> np.ndarray:
    """Multiply value and saturation in HSV of an image (C, H, W) in 0..1; the result stays in 0..1.

    HSV's value is the largest of red, green and blue, its saturation 1 - smallest / largest; the hue is unchanged. An
    image of one channel only has a value.
    """
    high = image.max(axis=0)  # (H, W), the value
    below = 1 - image / np.where(high > 0, high, 1)  # (C, H, W), how far each channel is below it
    s = np.where(high > 0, below.max(axis=0), 0)  # the saturation
    below *= np.minimum(s * saturation, 1) / np.where(s > 0, s, 1)
    return (np.minimum(high * value, 1) * (1 - below)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class DetectionAugment:
    """``augment(sample, rng)`` returns a randomly changed sample of the same image size (sides exchanged by a turn).

    flip: left-right, with probability 1/2. turn: a random number of right angles, for images without an upright, such
    as microscopy. scale: enlarge or shrink the image by up to this factor and place it at random in the window; 1 is
    off. jitter: see ``color_jitter``; 0 is off. shift: each side moves in or out independently by up to this share of
    the image, which changes size, place and aspect ratio (YOLO, sec. 2.2, as in Darknet's code); 0 is off. exposure:
    value and saturation in HSV are independently multiplied or divided by up to this factor; 1 is off.
    """

    flip: bool = True
    turn: bool = False
    scale: float = 1.0
    jitter: float = 0.0
    shift: float = 0.0
    exposure: float = 1.0

    def __post_init__(self) -> None:
        if self.scale < 1 or not 0 <= self.jitter <= 1:
            raise ValueError(f"DetectionAugment: needs scale >= 1 and jitter in 0..1, got {self.scale} and "
                             f"{self.jitter}")
        if not 0 <= self.shift < 0.5 or self.exposure < 1:
            raise ValueError(f"DetectionAugment: needs shift in 0 to below 0.5 and exposure >= 1, got {self.shift} and "
                             f"{self.exposure}")

    def __call__(self, sample: DetectionSample, rng: np.random.Generator) -> DetectionSample:
        if self.flip and rng.integers(2):
            sample = mirror(sample)
        for _ in range(rng.integers(4) if self.turn else 0):
            sample = transpose(mirror(sample))  # a right angle
        if self.scale > 1:
            shape = np.array(sample.image.shape[1:])
            scaled = np.maximum(np.rint(shape * self.scale ** rng.uniform(-1, 1)), 1).astype(int)
            room = scaled - shape  # negative: pixels to fill
            corner = rng.integers(np.minimum(room, 0), np.maximum(room, 0) + 1)
            sample = crop(resize(sample, tuple(scaled.tolist())), tuple(corner.tolist()), tuple(shape.tolist()))
        if self.shift:
            size = sample.image.shape[1], sample.image.shape[2]
            low, high = np.rint(rng.uniform(-self.shift, self.shift, (2, 2)) * size).astype(int)  # y, x of both ends
            inner = np.maximum(size - low - high, 1)
            sample = resize(crop(sample, tuple(low.tolist()), tuple(inner.tolist())), size)
        if self.jitter:
            sample = dataclasses.replace(sample, image=color_jitter(sample.image, rng, self.jitter))
        if self.exposure > 1:
            value, saturation = (random_factor(rng, self.exposure) for _ in range(2))
            sample = dataclasses.replace(sample, image=expose(sample.image, value, saturation))
        return dataclasses.replace(sample, image=np.ascontiguousarray(sample.image, np.float32))
