"""U-Net's data augmentation and tile cutting (Ronneberger et al., MICCAI 2015, secs. 2 and 3.1).

Geometry is a displacement field, float32 (2, H, W) in pixels, rows (dy) before columns (dx): output pixel p shows the
input at p + displacement[p]. Fields add up, so shift, rotation and elastic deformation together cost one resampling.
Beyond the border the image is mirrored without repeating the edge pixel (np.pad's "reflect"). Training uses tiles, so
fields and resampling can be computed for a part of the output: `at` = (rows, columns), coordinates in the whole image,
in any order, also beyond the border.

The paper names shift, rotation, elastic deformation and gray value, but gives a number only for the elastic one; the
other ranges, and the flips, are this project's choice.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage

from minicv.data.augment.bicubic import bicubic
from minicv.data.sample import Sample

Places = tuple[np.ndarray, np.ndarray]  # rows (h,) and columns (w,) of output pixels


def _all(shape: tuple[int, int]) -> Places:
    return np.arange(shape[0]), np.arange(shape[1])


def elastic_displacement(
    shape: tuple[int, int], rng: np.random.Generator, sigma: float = 10.0, grid: int = 3, at: Places | None = None
) -> np.ndarray:
    """Draw a random smooth deformation, float32 (2, H, W) in pixels, or (2, h, w) at h x w places. U-Net, sec. 3.1.

    Each node of a coarse grid, 3 x 3 over the image from corner to corner, draws a normal vector with a standard
    deviation of sigma pixels; bicubic interpolation gives the pixels between. The paper's images have 512 pixels; on
    much smaller ones the same sigma bends far more, so use less.
    """
    if sigma < 0 or grid < 2:
        raise ValueError(f"elastic_displacement: needs sigma >= 0 and grid >= 2, got {sigma} and {grid}")
    vectors = rng.normal(0.0, sigma, (2, grid, grid))
    return bicubic(vectors, shape, at)  # (2, h, w)


def random_shift(
    shape: tuple[int, int], rng: np.random.Generator, pixels: float, at: Places | None = None
) -> np.ndarray:
    """Draw a shift by up to +-pixels in each direction, uniformly: float32 (2, H, W), or (2, h, w) at h x w places."""
    rows, columns = at or _all(shape)
    field = np.empty((2, len(rows), len(columns)), np.float32)
    field[:] = rng.uniform(-pixels, pixels, (2, 1, 1))
    return field


def random_rotation(
    shape: tuple[int, int], rng: np.random.Generator, degrees: float, at: Places | None = None
) -> np.ndarray:
    """Draw a rotation about the center by up to +-degrees, uniformly: float32 (2, H, W), or (2, h, w) at h x w places.

    A positive angle turns the image clockwise on screen (rows grow downwards).
    """
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    rows, columns = at or _all(shape)
    y = rows[:, None] - (shape[0] - 1) / 2
    x = columns[None, :] - (shape[1] - 1) / 2
    sin, cos = np.sin(angle), np.cos(angle)
    # The source of output pixel (y, x) is (y, x) rotated back; the field is the difference.
    return np.stack([cos * y - sin * x - y, sin * y + cos * x - x]).astype(np.float32)


def random_gray(
    image: np.ndarray, rng: np.random.Generator, amount: float, mean: float | None = None
) -> np.ndarray:
    """Vary contrast (about the mean) by a factor of 1 +- amount and brightness by +- amount; clip to [0, 1].

    mean: of the whole image if ``image`` is a part of it; None uses the mean of ``image``.
    """
    contrast = 1 + rng.uniform(-amount, amount)
    brightness = rng.uniform(-amount, amount)
    mean = image.mean() if mean is None else mean
    return np.clip((image - mean) * contrast + mean + brightness, 0, 1).astype(image.dtype)


REACH = 12  # pixels that a cubic spline's coefficient reaches: 0.27 ** 12 is 1e-7


def warp(
    image: np.ndarray, displacement: np.ndarray, *maps: np.ndarray, order: int = 3, at: Places | None = None
) -> tuple[np.ndarray, ...]:
    """Resample image (C, H, W) and any number of maps (H, W) along displacement (2, H, W). Return all in a tuple.

    The image is interpolated by splines of the given order. 3 is bicubic, clipped to the image's range because a cubic
    overshoots. 1 is bilinear: about three times faster, but it removes a fifth of the finest detail. Maps take the
    nearest pixel, so labels are never mixed, and label and weight stay aligned. With `at`, h rows and w columns,
    displacement and results are (..., h, w).
    """
    height, width = image.shape[-2:]
    rows, columns = at or _all((height, width))
    fits = image.ndim == 3 and displacement.shape == (2, len(rows), len(columns))
    if not fits or any(each.shape != (height, width) for each in maps):
        raise ValueError(
            f"warp: needs image (C, H, W), displacement (2, {len(rows)}, {len(columns)}) and maps (H, W), got image "
            f"{image.shape}, displacement {displacement.shape}, maps {[each.shape for each in maps]}"
        )
    source = displacement + np.stack(np.broadcast_arrays(rows[:, None], columns)).astype(np.float32)  # (2, h, w)
    y, x = (mirror(np.rint(each).astype(np.intp), size) for each, size in zip(source, (height, width), strict=True))
    # A spline filters the image first: only the part in use, and its reach
    box = [slice(max(i.min() - REACH, 0), i.max() + 1 + REACH) for i in (y, x)]
    if not (_inside(source[0], box[0], height) and _inside(source[1], box[1], width)):
        box = [slice(0, height), slice(0, width)]  # mirrored somewhere: the box must end at the image's border
    part = image[:, box[0], box[1]]
    source -= np.array([box[0].start, box[1].start], np.float32)[:, None, None]
    warped = np.stack([ndimage.map_coordinates(channel, source, order=order, mode="mirror") for channel in part])
    if order > 1:
        warped = np.clip(warped, image.min(), image.max())
    return warped.astype(image.dtype, copy=False), *(each[y, x] for each in maps)


def _inside(source: np.ndarray, box: slice, size: int) -> bool:
    """Return whether no coordinate needs mirroring, or the box ends where the image does."""
    low, high = source.min(), source.max()
    return (low >= 0 or box.start == 0) and (high <= size - 1 or box.stop >= size)


@dataclasses.dataclass(frozen=True)
class UNetAugment:
    """U-Net's augmentation, sec. 3.1: `augment(sample, rng)` returns a changed copy of the sample.

    shift: pixels. rotation: degrees. elastic: standard deviation of the 3 x 3 grid's vectors, pixels. gray: range of
    contrast and brightness, see random_gray. flip: mirror each axis with probability 1/2. 0 or False turns a part off.
    order: see warp. `augment(sample, rng, window)` computes only that part of the changed image, in time proportional
    to its size.
    """

    shift: float = 10.0
    rotation: float = 180.0
    elastic: float = 10.0
    gray: float = 0.1
    flip: bool = True
    order: int = 3

    def __call__(self, sample: Sample, rng: np.random.Generator, window: Window | None = None) -> Sample:
        shape = sample.label.shape
        rows, columns = window.places() if window else _all(shape)
        if self.flip:  # pixel p of the mirrored image is pixel size - 1 - p
            flip_y, flip_x = rng.integers(0, 2, 2)
            rows = shape[0] - 1 - rows if flip_y else rows
            columns = shape[1] - 1 - columns if flip_x else columns
        names = [n for n in ("image", "label", "instances", "weight") if getattr(sample, n) is not None]
        image, *maps = (getattr(sample, name) for name in names)
        fields: list[tuple[Any, float]] = [(random_shift, self.shift), (random_rotation, self.rotation),
                                           (elastic_displacement, self.elastic)]
        if self.shift or self.rotation or self.elastic:
            displacement = np.sum([field(shape, rng, amount, at=(rows, columns)) for field,
                                   amount in fields if amount], 0)
            arrays: Any = warp(image, displacement, *maps, order=self.order, at=(rows, columns))
        else:
            y, x = mirror(rows, shape[0]), mirror(columns, shape[1])
            arrays = [each[..., y[:, None], x] for each in (image, *maps)]
        changed: dict[str, Any] = dict(zip(names, arrays, strict=True))
        if self.gray:
            changed["image"] = random_gray(changed["image"], rng, self.gray, image.mean())
        return dataclasses.replace(sample, **changed)


def standardize(image: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
    """Shift and scale the image (C, H, W) so that `like` (default: the image) has mean 0 and standard deviation 1.

    `like` is the whole image if `image` is a part of it. A constant image becomes 0. Not in U-Net's paper: with gray
    values around 0.5, the first steps only learn the mean.
    """
    like = image if like is None else like
    mean = like.mean() if np.ptp(like) else like.flat[0]  # the mean of equal numbers is rounded
    return ((image - mean) / max(float(like.std()), 1e-6)).astype(image.dtype)


def mirror_pad(image: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Extend image (..., H, W) by mirroring, for U-Net's overlap-tile strategy (fig. 2).

    The edge pixel is not repeated (np.pad's "reflect"); padding wider than the image reflects repeatedly.
    """
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"mirror_pad: padding must not be negative, got {(top, bottom, left, right)}")
    height, width = image.shape[-2:]
    return _cut(image, (-top, -left), (top + height + bottom, left + width + right))


@dataclasses.dataclass(frozen=True)
class Window:
    """A rectangle of pixels in an image; beyond the border, the image is mirrored."""

    top: int
    left: int
    height: int
    width: int

    def places(self) -> Places:
        """Return its rows and columns."""
        return np.arange(self.top, self.top + self.height), np.arange(self.left, self.left + self.width)

    def cut(self, sample: Sample) -> Sample:
        """Cut this part out of the sample."""
        names = [n for n in ("image", "label", "instances", "weight") if getattr(sample, n) is not None]
        parts: dict[str, Any] = {n: _cut(getattr(sample, n), (self.top, self.left), (self.height,
                                                                                     self.width)) for n in names}
        return dataclasses.replace(sample, **parts)


def random_window(shape: tuple[int, int], tile_in: int | tuple[int, int], tile_out: int | tuple[int, int],
                  rng: np.random.Generator) -> Window:
    """Draw a random training tile for a U-Net of valid convolutions, 572 -> 388 in the paper.

    The output tile, tile_out pixels, is inside the image of the given shape. Returns the input tile, tile_in pixels,
    with the same center.
    """
    size_in, size_out = np.broadcast_to(tile_in, 2), np.broadcast_to(tile_out, 2)
    margin, odd = np.divmod(size_in - size_out, 2)
    if (margin < 0).any() or odd.any():
        raise ValueError(
            f"random_window: tile_in - tile_out must be even and not negative, got {tile_in} and {tile_out}"
        )
    room = np.array(shape) - size_out
    if (room < 0).any():
        raise ValueError(f"random_window: tile_out {tile_out} is larger than the image, {shape}")
    top, left = rng.integers(0, room + 1) - margin
    return Window(int(top), int(left), *map(int, size_in))


def center_crop(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the center of array (..., H, W), of the given size."""
    top, left = ((n - m) // 2 for n, m in zip(array.shape[-2:], size, strict=True))
    return array[..., top : top + size[0], left : left + size[1]]


def _cut(array: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Return the window of array (..., H, W) at corner; beyond the border the array is mirrored."""
    rows = mirror(np.arange(corner[0], corner[0] + size[0]), array.shape[-2])
    columns = mirror(np.arange(corner[1], corner[1] + size[1]), array.shape[-1])
    return np.ascontiguousarray(array[..., rows[:, None], columns])


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Fold any index into 0..size-1: with size 4, -1 -> 1, 4 -> 2, 6 -> 0, 7 -> 1."""
    last = size - 1
    return last - np.abs(last - index % max(2 * last, 1))
