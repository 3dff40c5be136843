"""Change an image and its label together: random scale, crop, flip and color.

Scales of 0.5 to 2 and left-right flips as in PSPNet (Zhao et al., CVPR 2017, sec. 5.1) and DeepLabv3 (Chen et al.,
2017, sec. 4.1); padding and colors are this project's choice. Images are interpolated bilinearly; labels, instances and
weights take the nearest pixel, so that no class appears between two others. Coordinates follow align_corners=False.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from ..sample import IGNORE, Sample
from .unet import mirror

SIGMA = 1.1  # pixels: OpenCV's for a 5 x 5 kernel
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue in gray, ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class SegmentationAugment:
    """``augment(sample, rng)`` returns a randomly changed sample of the crop's size.

    scale: smallest and largest factor, drawn uniformly. crop: side in pixels, or (h, w); None keeps the image's size. A
    smaller scaled image is placed at random in the crop and padded with its mean color and the label IGNORE. margin:
    (rows, columns) of image context around the crop, for valid convolutions; the image is then mirrored at its borders,
    as in prediction. flip: left-right, with probability 1/2. jitter: see color_jitter; 0 is off. rotation: up to this
    many degrees about the center; blur: a Gaussian over 5 x 5 pixels; each with probability 1/2, as in PSPNet's code; 0
    and False are off.
    """

    scale: tuple[float, float] = (0.5, 2.0)
    crop: int | tuple[int, int] | None = None
    margin: tuple[int, int] = (0, 0)
    flip: bool = True
    jitter: float = 0.1
    rotation: float = 0.0
    blur: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"SegmentationAugment(scale={self.scale}): needs 0 < smallest <= largest")
        if self.crop is not None and np.min(self.crop) < 1:
            raise ValueError(f"SegmentationAugment(crop={self.crop}): must be at least 1 pixel")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"SegmentationAugment(jitter={self.jitter}): must lie in 0..1")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"SegmentationAugment(rotation={self.rotation}): must lie in 0..180 degrees")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        shape = np.array(sample.label.shape)
        size = np.broadcast_to(shape if self.crop is None else self.crop, 2)
        scaled = np.maximum(np.rint(shape * rng.uniform(*self.scale)), 1).astype(int)
        room = scaled - size  # negative: pixels to pad
        corner = rng.integers(np.minimum(room, 0), np.maximum(room, 0) + 1)
        mirrored = bool(rng.integers(2)) and self.flip
        if self.rotation and rng.integers(2):
            sample = rotated(sample, rng.uniform(-self.rotation, self.rotation))
        sample = scaled_window(sample, scaled.tolist(), corner.tolist(), size.tolist(), mirrored=mirrored,
                               margin=self.margin)
        if self.jitter:
            sample = dataclasses.replace(sample, image=color_jitter(sample.image, rng, self.jitter))
        if self.blur and rng.integers(2):
            blurred = ndimage.gaussian_filter(sample.image, (0, SIGMA, SIGMA), radius=(0, 2, 2))
            sample = dataclasses.replace(sample, image=blurred)
        return sample


def rotated(sample: Sample, degrees: float) -> Sample:
    """Rotate the sample about its center, clockwise on screen, at constant size.

    Beyond the image: its mean color, label IGNORE, instance 0, weight 0.
    """
    a, shape = np.deg2rad(degrees), np.array(sample.label.shape)
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])  # from an output pixel to its source
    offset = (shape - 1) / 2 - matrix @ (shape - 1) / 2

    def rotate(array: np.ndarray, outside: float, order: int) -> np.ndarray:
        return ndimage.affine_transform(array, matrix, offset, order=order, mode="constant", cval=outside)
    mean = sample.image.mean(axis=(1, 2), dtype=np.float64)
    changed: dict[str, Any] = {"image": np.stack([rotate(c, m, 1) for c, m in zip(sample.image, mean, strict=True)])}
    for name, outside in (("label", IGNORE), ("instances", 0), ("weight", 0)):
        if getattr(sample, name) is not None:
            changed[name] = rotate(getattr(sample, name), outside, 0)
    return dataclasses.replace(sample, **changed)


def scaled_window(sample: Sample, scaled: Sequence[int], corner: Sequence[int], size: Sequence[int], *,
                  mirrored: bool = False, margin: tuple[int, int] = (0, 0)) -> Sample:
    """Return a window of the sample resized to ``scaled``; only the window is computed.

    scaled, corner, size, margin: pixels, (rows, columns). mirrored: flip the window left to right. Beyond the image:
    its mean color, label IGNORE, instance 0, weight 0. The image part extends ``margin`` further on all sides; with a
    margin, the image is mirrored at its borders instead.
    """
    along = list(zip(sample.label.shape, scaled, corner, size, margin, strict=True))
    axes = [_sources(length, n, first, count) for length, n, first, count, _ in along]
    of_image = axes if not any(margin) else [
        _sources(length, n, first - m, count + 2 * m, reflect=True) for length, n, first, count, m in along]
    if mirrored:
        axes, of_image = ([rows, columns.mirrored()] for rows, columns in (axes, of_image))

    def fill(array: np.ndarray, values: np.ndarray, outside, y: _Axis, x: _Axis) -> np.ndarray:
        """Put ``values`` into the part of the window that is in the image."""
        if y.whole and x.whole:
            return values
        filled = np.empty((*array.shape[:-2], y.size, x.size), array.dtype)
        filled[:] = outside
        filled[..., y.inside, x.inside] = values
        return filled

    image, (y, x) = sample.image, of_image
    mean = 0 if y.whole and x.whole else image.mean(axis=(1, 2), dtype=np.float64, keepdims=True)  # (C, 1, 1)
    changed: dict[str, Any] = {"image": fill(image, _bilinear(image, y, x), mean, y, x)}
    y, x = axes
    for name, outside in (("label", IGNORE), ("instances", 0), ("weight", 0)):
        array = getattr(sample, name)
        if array is not None:
            changed[name] = fill(array, array[y.nearest[:, None], x.nearest], outside, y, x)
    return dataclasses.replace(sample, **changed)


def color_jitter(image: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Multiply brightness, contrast (about the mean gray) and, for 3 channels, saturation by 1 +- amount each.

    image: (C, H, W) in [0, 1], and so is the result.
    """
    brightness, contrast, saturation = rng.uniform(1 - amount, 1 + amount, 3).astype(image.dtype)
    image = image * brightness
    weights = LUMA if len(image) == 3 else np.full(len(image), 1 / len(image))
    gray = np.tensordot(weights.astype(image.dtype), image, 1)  # (H, W)
    mean = gray.mean()
    image *= contrast
    image += (1 - contrast) * mean
    if len(image) == 3:
        image *= saturation
        image += (1 - saturation) * (contrast * gray + (1 - contrast) * mean)
    return np.clip(image, 0, 1, out=image)


# ---------------------------------------------------------------------------------------------------------
# One axis of a window
# ---------------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class _Axis:
    """The source of a window's pixels along one axis, for window[inside].

    Each lies ``weight`` of the way from pixel ``low`` to pixel ``high``, and is nearest to ``nearest``.
    """

    inside: slice
    whole: bool  # all of the window is inside
    size: int
    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray
    nearest: np.ndarray

    def mirrored(self) -> _Axis:
        """Return the same window, reversed."""
        return _Axis(inside=slice(self.size - self.inside.stop, self.size - self.inside.start), whole=self.whole,
                     size=self.size, low=self.low[::-1], high=self.high[::-1], weight=self.weight[::-1],
                     nearest=self.nearest[::-1])


def _sources(length: int, scaled: int, corner: int, size: int, reflect: bool = False) -> _Axis:
    """Return the sources of the window [corner, corner + size) of an axis resized from ``length`` to ``scaled``."""
    first, last = (corner, corner + size) if reflect else np.clip((0, scaled), corner, corner + size)
    p = np.arange(first, last)  # the part in the image
    if reflect:
        p = mirror(p, scaled)
    position = np.clip((p + 0.5) * (length / scaled) - 0.5, 0, length - 1)  # align_corners=False
    low = np.floor(position).astype(int)
    return _Axis(inside=slice(first - corner, last - corner), whole=last - first == size, size=size, low=low,
                 high=np.minimum(low + 1, length - 1), weight=(position - low).astype(np.float32),
                 nearest=(2 * p + 1) * length // (2 * scaled))  # exact, unlike rint


def _bilinear(image: np.ndarray, y: _Axis, x: _Axis) -> np.ndarray:
    """Interpolate an image (C, H, W) at both axes: (C, h, w). Without weights, pixels are only copied."""
    if not (y.weight.any() or x.weight.any()):
        return image[:, y.low[:, None], x.low]
    if x.low.size:
        image, x0 = image[:, :, x.low.min():x.high.max() + 1], x.low.min()  # the columns in use
    else:
        x0 = 0
    rows = image[:, y.low]  # (C, h, W)
    rows += y.weight[:, None] * (image[:, y.high] - rows)
    result = rows[:, :, x.low - x0]  # (C, h, w)
    result += x.weight * (rows[:, :, x.high - x0] - result)
    return result
