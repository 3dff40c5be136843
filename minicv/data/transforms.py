"""U-Net's data augmentation and tile cutting (Ronneberger et al., MICCAI 2015, secs. 2 and 3.1).

Convention: geometry is a displacement field, float32 (2, H, W) in pixels, rows (dy) before columns (dx). The
output pixel p shows what the input has at p + displacement[p]. Fields add up, so shift, rotation and elastic
deformation together cost one resampling pass. Beyond the border the image is mirrored without repeating the
edge pixel (np.pad's "reflect").

The paper names shift, rotation, elastic deformation and grey value but gives a number only for the elastic
one; the ranges of the others, and the flips, are this project's choice.
"""

import dataclasses

import numpy as np
from scipy import ndimage

from minicv.data.sample import Sample
from minicv.data.smooth import bicubic


def elastic_displacement(
    shape: tuple[int, int], rng: np.random.Generator, sigma: float = 10.0, grid: int = 3
) -> np.ndarray:
    """Random smooth deformation, float32 (2, H, W) in pixels. U-Net, sec. 3.1.

    Each node of a coarse grid, 3 x 3 over the image from corner to corner, draws a normal vector with a
    standard deviation of sigma pixels; bicubic interpolation gives every pixel its own. The paper's images
    have 512 pixels; on much smaller ones the same sigma bends far more, so take less.
    """
    if sigma < 0 or grid < 2:
        raise ValueError(f"elastic_displacement: needs sigma >= 0 and grid >= 2, got {sigma} and {grid}")
    vectors = rng.normal(0.0, sigma, (2, grid, grid))
    return bicubic(vectors, shape)  # (2, H, W)


def random_shift(shape: tuple[int, int], rng: np.random.Generator, pixels: float) -> np.ndarray:
    """The whole image moved by up to +-pixels in each direction, uniformly: float32 (2, H, W)."""
    field = np.empty((2, *shape), np.float32)
    field[:] = rng.uniform(-pixels, pixels, (2, 1, 1))
    return field


def random_rotation(shape: tuple[int, int], rng: np.random.Generator, degrees: float) -> np.ndarray:
    """A rotation about the image's centre by up to +-degrees, uniformly: float32 (2, H, W).

    A positive angle turns the picture clockwise as seen on screen (rows grow downwards).
    """
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    y = np.arange(shape[0])[:, None] - (shape[0] - 1) / 2
    x = np.arange(shape[1])[None, :] - (shape[1] - 1) / 2
    sin, cos = np.sin(angle), np.cos(angle)
    # The source of output pixel (y, x) is (y, x) turned back by the angle; the field is the difference.
    return np.stack([cos * y - sin * x - y, sin * y + cos * x - x]).astype(np.float32)


def random_grey(image: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Vary contrast (about the mean) by a factor of 1 +- amount, brightness by +- amount; stays in [0, 1]."""
    contrast = 1 + rng.uniform(-amount, amount)
    brightness = rng.uniform(-amount, amount)
    mean = image.mean()
    return np.clip((image - mean) * contrast + mean + brightness, 0, 1).astype(image.dtype)


def warp(
    image: np.ndarray, displacement: np.ndarray, *maps: np.ndarray, order: int = 3
) -> tuple[np.ndarray, ...]:
    """Resample image (C, H, W) and any number of maps (H, W) along displacement (2, H, W): a tuple of all.

    The image is interpolated by splines of the given order: 3 is bicubic, clipped to the image's range
    because a cubic overshoots; 1 is bilinear, about three times faster, but it smooths a fifth of the
    finest detail away. Every map takes the nearest pixel's value, so labels are never mixed and label and
    weight stay aligned.
    """
    height, width = image.shape[-2:]
    fits = image.ndim == 3 and displacement.shape == (2, height, width)
    if not fits or any(each.shape != (height, width) for each in maps):
        raise ValueError(
            "warp: needs image (C, H, W), displacement (2, H, W) and maps (H, W), got image "
            f"{image.shape}, displacement {displacement.shape}, maps {[each.shape for each in maps]}"
        )
    source = displacement + np.indices((height, width), np.float32)  # (2, H, W)
    warped = np.stack(
        [ndimage.map_coordinates(channel, source, order=order, mode="mirror") for channel in image]
    )  # (C, H, W)
    if order > 1:
        warped = np.clip(warped, image.min(), image.max())
    y, x = np.rint(source).astype(np.intp)
    y, x = _mirror(y, height), _mirror(x, width)
    return warped.astype(image.dtype, copy=False), *(each[y, x] for each in maps)


@dataclasses.dataclass(frozen=True)
class UNetAugment:
    """U-Net's augmentation, sec. 3.1: `augment(sample, rng)` returns a changed copy of the sample.

    shift: pixels. rotation: degrees. elastic: standard deviation in pixels of the 3 x 3 grid's vectors.
    grey: range of contrast and brightness, see random_grey. flip: mirror each axis in every second
    sample. A value of 0 (False) turns a part off. order: see warp.
    """

    shift: float = 10.0
    rotation: float = 180.0
    elastic: float = 10.0
    grey: float = 0.1
    flip: bool = True
    order: int = 3

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        shape = sample.label.shape
        names = ["image", "label"] + [name for name in ("instances", "weight") if getattr(sample, name) is not None]
        arrays = [getattr(sample, name) for name in names]

        displacement = np.zeros((2, *shape), np.float32)
        if self.shift:
            displacement += random_shift(shape, rng, self.shift)
        if self.rotation:
            displacement += random_rotation(shape, rng, self.rotation)
        if self.elastic:
            displacement += elastic_displacement(shape, rng, self.elastic)
        if self.shift or self.rotation or self.elastic:
            image, *maps = arrays
            arrays = warp(image, displacement, *maps, order=self.order)
        if self.flip:
            arrays = random_flip(rng, *arrays)
        changed = dict(zip(names, arrays, strict=True))
        if self.grey:
            changed["image"] = random_grey(changed["image"], rng, self.grey)
        return dataclasses.replace(sample, **changed)


def random_flip(rng: np.random.Generator, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mirror arrays (..., H, W), all alike, up-down in half of the calls and left-right in half."""
    step_y, step_x = rng.choice([-1, 1], 2)
    return tuple(np.ascontiguousarray(array[..., ::step_y, ::step_x]) for array in arrays)


def standardise(image: np.ndarray) -> np.ndarray:
    """The image (C, H, W) with mean 0 and standard deviation 1 over all its pixels; a constant image becomes 0.

    Not in U-Net's paper: with grey values around 0.5 the first steps are spent on finding the mean.
    """
    centred = image - image.mean()
    return (centred / max(float(centred.std()), 1e-6)).astype(image.dtype)


def mirror_pad(image: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    """Extend image (..., H, W) by mirroring, for U-Net's overlap-tile strategy (fig. 2).

    The edge pixel is not repeated (np.pad's "reflect"); padding wider than the image reflects again and
    again.
    """
    if min(top, bottom, left, right) < 0:
        raise ValueError(f"mirror_pad: padding must not be negative, got {(top, bottom, left, right)}")
    height, width = image.shape[-2:]
    return _cut(image, (-top, -left), (top + height + bottom, left + width + right))


def random_tile(
    image: np.ndarray,
    label: np.ndarray,
    weight: np.ndarray | None,
    tile_in: int | tuple[int, int],
    tile_out: int | tuple[int, int],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Cut a random training tile for a U-Net of valid convolutions, 572 -> 388 in the paper.

    image (C, H, W), label and weight (H, W) (or None). The output tile, tile_out pixels, lies inside the
    image; the input tile, tile_in pixels, has the same centre, and context beyond the border is mirrored.
    Returns image (C, tile_in, tile_in), label and weight (tile_out, tile_out).
    """
    for name, array in (("label", label), ("weight", weight)):
        if array is not None and array.shape != image.shape[-2:]:
            raise ValueError(f"random_tile: image {image.shape} and {name} {array.shape} differ in size")
    size_in, size_out = np.broadcast_to(tile_in, 2), np.broadcast_to(tile_out, 2)
    margin, odd = np.divmod(size_in - size_out, 2)
    if (margin < 0).any() or odd.any():
        raise ValueError(
            f"random_tile: tile_in - tile_out must be even and not negative, got {tile_in} and {tile_out}"
        )
    room = np.array(label.shape) - size_out
    if (room < 0).any():
        raise ValueError(f"random_tile: tile_out {tile_out} is larger than the label map {label.shape}")
    corner = rng.integers(0, room + 1)
    return (
        _cut(image, corner - margin, size_in),
        _cut(label, corner, size_out),
        None if weight is None else _cut(weight, corner, size_out),
    )


def _cut(array: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """The window of array (..., H, W) that starts at corner, which may lie outside: mirrored there."""
    rows = _mirror(np.arange(corner[0], corner[0] + size[0]), array.shape[-2])
    columns = _mirror(np.arange(corner[1], corner[1] + size[1]), array.shape[-1])
    return np.ascontiguousarray(array[..., rows[:, None], columns])


def _mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Fold any index into 0..size-1: with size 4, -1 -> 1, 4 -> 2, 6 -> 0, 7 -> 1."""
    last = size - 1
    return last - np.abs(last - index % max(2 * last, 1))
