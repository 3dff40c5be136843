"""Read image files as images, labels or masks, and write PNGs atomically.

An image is a measurement: `read_image` scales it to [0, 1] at any depth. The numbers of a label are names: `read_label`
returns them as stored, or refuses the file if they cannot be trusted. Pixels are read as stored; `upright` and `size`
apply the EXIF orientation.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from minicv.data.errors import DataError
from minicv.data.files.decode import Pixels, decode, float_range, header_size, page_count, upright_pixels
from minicv.files import atomic_write

SAVE = "save it as PNG"


def read_image(path: str | os.PathLike, mode: str = "L", upright: bool = False,
               page: int | None = None) -> np.ndarray:
    """Read an image as float32 (C, H, W) in [0, 1]; mode "L" gives one gray channel, "RGB" three.

    8-bit values are divided by 255, 16-bit values by 65535, 12-bit TIFF values by 4095. Floats within [0, 1] stay;
    others are scaled, so that the least of the file becomes 0 and the largest 1. Transparency is dropped. upright:
    apply the EXIF orientation, as viewers do; otherwise pixels stay as stored, so that boxes and labels fit. page: the
    page of a TIFF stack. Raises DataError, which names the file, if the image is missing, damaged, of an unsupported
    format or kind, or has more than decode.MAX_PIXELS pixels.
    """
    return as_float(read_stored(path, mode, upright=upright, page=page))


def read_stored(path: str | os.PathLike, mode: str = "RGB", *, upright: bool = False,
                size: tuple[int, int] | None = None, where: str = "its annotation",
                page: int | None = None) -> np.ndarray:
    """Read an image (C, H, W) at full range: uint8 for up to 8 bits, uint16 for more, float32 in [0, 1] for floats.

    size: the (H, W) of the label or annotation that ``where`` names; the EXIF orientation is applied if only that gives
    this size. Raises DataError as read_image does, if neither size fits, and if both fit an image that the orientation
    turns, because the annotation may mean either.
    """
    if mode not in ("L", "RGB"):
        raise ValueError(f'read_image: mode must be "L" or "RGB", got {mode!r}')
    pixels = decode(path, page)
    if size is not None:
        upright = _needs_turning(path, pixels.size, pixels.orientation, (size[0], size[1]), where)
    values = upright_pixels(_full_range(path, pixels), pixels.orientation if upright else 1)
    if values.ndim == 3 and mode == "L":  # ITU-R 601 in 16-bit fixed point, as in Pillow
        values = ((values.astype(np.int64) @ (19595, 38470, 7471) + 0x8000) >> 16).astype(values.dtype)
    if values.ndim == 2:
        return np.repeat(values[None], 1 if mode == "L" else 3, axis=0)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def as_float(stored: np.ndarray) -> np.ndarray:
    """Return what read_stored returned as float32 in [0, 1], a new array."""
    return stored.copy() if stored.dtype == np.float32 else stored / np.float32(np.iinfo(stored.dtype).max)


def image_size(path: str | os.PathLike, upright: bool = False) -> tuple[int, int]:
    """Return an image's (H, W) from its header; ``upright`` as in read_image."""
    (H, W), orientation = header_size(path)
    return (W, H) if upright and orientation >= 5 else (H, W)


def _full_range(path: str | os.PathLike, pixels: Pixels) -> np.ndarray:
    """Return the brightnesses (H, W) or (H, W, 3): uint8 or uint16 at the type's full range, or float32 in [0, 1]."""
    if pixels.values.dtype == np.float32:
        if pixels.values.min() >= 0 and pixels.values.max() <= 1 and page_count(path) == 1:
            return pixels.values
        low, high = float_range(Path(path), os.stat(path).st_mtime_ns)
        if low >= 0 and high <= 1:
            return pixels.values
        scaled = (pixels.values.astype(np.float64) - low) / (high - low or 1)
        return scaled.clip(0, 1).astype(np.float32)
    if pixels.palette is not None:
        return pixels.palette[pixels.values]
    if pixels.top == 4095:
        return ((pixels.values.astype(np.uint32) * 65535 + 2047) // 4095).astype(np.uint16)
    return pixels.values if pixels.top > 255 else pixels.values * np.uint8(255 // pixels.top)


def _needs_turning(path, stored: tuple[int, int], orientation: int, size: tuple[int, int], where: str) -> bool:
    """Return whether the image must be turned to have this size."""
    upright = stored[::-1] if orientation >= 5 else stored
    if orientation == 1 or stored == size != upright:
        if stored != size:
            raise DataError(f"{path}: size {stored} (H, W) differs from that of {where}, {size}")
        return False
    if upright == size != stored:
        return True
    tag = f"its EXIF orientation is {orientation}"
    if size != stored:
        raise DataError(f"{path}: size {stored} (H, W), and {upright} upright ({tag}), differ from that of {where}, "
                        f"{size}")
    raise DataError(f"{path}: {tag}, and {where} fits it both as stored and upright; save the image without the tag, "
                    "turned like its annotation")


# ---------------------------------------------------------------------------------------------------------
# Labels and masks
# ---------------------------------------------------------------------------------------------------------
def read_label(path: str | os.PathLike) -> np.ndarray:
    """Read a label map as int64 (H, W): gray values of any depth, or palette numbers, as stored.

    Raises DataError as read_image does, and for colors, transparency, lossy compression and orientation tags, which
    leave the class of a pixel in doubt.
    """
    return numbers_of(path, label_pixels(path))


def read_label_colors(path: str | os.PathLike) -> np.ndarray:
    """Read a label map as uint8 (H, W, 3), RGB, from a color or palette image.

    Raises DataError as read_label does, and for gray values and colors of 16 bits.
    """
    return colors_of(path, label_pixels(path))


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Read a mask as bool (H, W): False for black, True for the one other color or gray; by alpha where that varies.

    Raises DataError as read_label does, and for more than two values, or two of which neither is black.
    """
    pixels = label_pixels(path, alpha=True)
    values = pixels.values if pixels.palette is None else pixels.palette[pixels.values]
    inside = values.astype(np.int64) @ (1 << 32, 1 << 16, 1) if values.ndim == 3 else values
    found, alpha = np.unique(inside), pixels.alpha
    if alpha is not None and np.ptp(alpha):
        if len(found) > 1 and not np.array_equal(alpha > 0, inside > 0):
            raise DataError(f"{path}: color and transparency are two different masks; {SAVE} without transparency")
        inside, found = alpha, np.unique(alpha)
    if len(found) > 2 or (len(found) == 2 and found[0] != 0):
        raise DataError(f"{path}: a mask must have two values, 0 outside and one inside; this has {_listed(values)}. "
                        "Save each object to its own file; threshold gray edges at half")
    return inside > 0


def label_pixels(path: str | os.PathLike, alpha: bool = False, page: int | None = None) -> Pixels:
    """Decode a file of labels. Raise ``DataError`` if its numbers or colors may not be the ones meant.

    alpha: allow transparency. A palette's transparency changes no number and is always allowed. page: of a TIFF stack.
    """
    pixels = decode(path, page)
    if pixels.lossy:
        raise DataError(f"{path}: lossy compression (JPEG, WebP) has changed its numbers, or its format may; {SAVE} "
                        "from the original")
    if pixels.orientation != 1:
        raise DataError(f"{path}: a label must not have an orientation tag, got {pixels.orientation}; {SAVE} without "
                        "the tag, turned like the image")
    if pixels.inverted and pixels.top > 1:
        raise DataError(f"{path}: a TIFF that stores 0 for white: its numbers or their opposites may be meant; {SAVE}")
    if not alpha and pixels.alpha is not None and pixels.palette is None and np.ptp(pixels.alpha):
        raise DataError(f"{path}: some pixels of this label are transparent; {SAVE} without transparency")
    return pixels


def numbers_of(path: str | os.PathLike, pixels: Pixels) -> np.ndarray:
    """Return the numbers of a label, int64 (H, W), also of gray stored as RGB. Raise ``DataError`` for colors."""
    values = pixels.values
    if values.ndim == 3:
        if (values != values[..., :1]).any():
            raise DataError(f"{path}: a label map has one integer per pixel, but this has colors; {SAVE} with numbers")
        values = values[..., 0]
    if values.dtype == np.float32 and not ((values == np.rint(values)) & (values >= 0) & (values <= 65535)).all():
        raise DataError(f"{path}: a label map has one integer per pixel, but this has fractions; {SAVE} with numbers")
    return values.astype(np.int64)


def colors_of(path: str | os.PathLike, pixels: Pixels) -> np.ndarray:
    """Return the colors of a label, uint8 (H, W, 3). Raise ``DataError`` for gray images and 16 bits."""
    if pixels.top > 255 or (pixels.values.ndim == 2 and pixels.palette is None):
        kind = "16-bit colors" if pixels.values.ndim == 3 else "gray values"
        raise DataError(f"{path}: a label whose 8-bit colors name the classes has {kind}; {SAVE}, 8-bit RGB")
    return pixels.values if pixels.palette is None else pixels.palette[pixels.values]


def _listed(values: np.ndarray) -> str:
    """Describe the gray values or colors of an image: their number and the first five."""
    found = np.unique(values) if values.ndim == 2 else np.unique(values.reshape(-1, 3), axis=0)
    return f"{len(found)} of them, {found[:5].tolist()}" + (" and others" if len(found) > 5 else "")


def write_png(path: str | os.PathLike, array: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write an array from read_image or read_label as a PNG, atomically.

    array: (H, W), (1, H, W) or (3, H, W). Floats in [0, 1] are rounded to 8 bits; booleans become 0 and 255; integers
    are stored unchanged, in 8 bits if they fit, otherwise in 16 (one channel only). palette: uint8 (n, 3), the color
    in which a viewer shows each value of an array (H, W) of numbers below n.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[0] == 3) or array.size == 0:
        raise ValueError(f"write_png: array must be (H, W), (1, H, W) or (3, H, W), got shape {array.shape}")
    pixels = _to_integers(array)
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels))
    if palette is not None:
        if pixels.ndim != 2 or pixels.max() >= len(palette) or len(palette) > 256:
            raise ValueError(f"write_png: a palette of {len(palette)} colors does not fit an array {pixels.shape} with "
                             f"values to {pixels.max()}; it has 1 to 256 colors, and the array is (H, W)")
        image.putpalette(np.asarray(palette, np.uint8).tobytes())
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def _to_integers(array: np.ndarray) -> np.ndarray:
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"write_png: array must be float, integer or bool, got {array.dtype}")
    low, high = array.min(), array.max()
    if np.issubdtype(array.dtype, np.floating):
        if not (low >= 0 and high <= 1):  # also catches NaN
            raise ValueError(f"write_png: float values must lie in [0, 1], got {low}..{high}")
        return np.rint(array * 255).astype(np.uint8)
    limit = 65535 if array.ndim == 2 else 255
    if low < 0 or high > limit:
        raise ValueError(f"write_png: integers must lie in 0..{limit} for this shape, got {low}..{high}")
    return array.astype(np.uint8 if high <= 255 else np.uint16)
