"""Pictures on disk: read as arrays, written whole or not at all.

Pixels are taken as stored (an orientation tag is not applied, so that boxes and labels keep fitting).
"""

import os
import pathlib

import numpy as np
from PIL import Image

from minicv.data.errors import DataError
from minicv.files import atomic_write

MAX_PIXELS = 89_478_485
"""Larger pictures are refused before they are decoded: 256 MiB as 8-bit RGB, Pillow's own warning limit."""


def read_image(path: str | os.PathLike, mode: str = "L") -> np.ndarray:
    """Read a picture as float32 (C, H, W) in [0, 1]; mode "L" gives one grey channel, "RGB" three.

    8-bit values are divided by 255, 16-bit values by 65535; transparency is dropped. Raises DataError for a
    picture that is missing, damaged, truncated or larger than MAX_PIXELS.
    """
    if mode not in ("L", "RGB"):
        raise ValueError(f'read_image: mode must be "L" or "RGB", got {mode!r}')
    picture = _open(path)
    if picture.mode == "F":
        raise DataError(f"{path}: pixels are 32-bit floats of unknown range; store it as 8 or 16 bit")
    if picture.mode.startswith("I"):  # 16-bit grey, as I;16 or in Pillow's 32-bit I: convert() would clip it
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise DataError(f"{path}: grey values {grey.min()}..{grey.max()} do not fit into 16 bits")
        image = (grey / np.float32(65535)).astype(np.float32)[None]
        return image if mode == "L" else np.repeat(image, 3, axis=0)
    image = np.asarray(picture.convert(mode)) / np.float32(255)
    return image[None] if mode == "L" else np.ascontiguousarray(image.transpose(2, 0, 1))


def read_label(path: str | os.PathLike) -> np.ndarray:
    """Read a label map as int64 (H, W): grey values as stored, or the indices of a palette.

    Raises DataError as read_image does, and for a colour picture, whose pixels are not class numbers.
    """
    picture = _open(path)
    if picture.mode not in ("1", "L", "P", "I") and not picture.mode.startswith("I;16"):
        raise DataError(f"{path}: a label map has one integer per pixel, this has mode {picture.mode}")
    return np.asarray(picture).astype(np.int64)


def write_png(path: str | os.PathLike, array: np.ndarray) -> None:
    """Write what read_image or read_label returned, atomically, as a PNG.

    array: (H, W), (1, H, W) or (3, H, W). Floats in [0, 1] are rounded to 8 bits; booleans become 0 and 255;
    integers are stored as they are, in 8 bits if they fit and else, for one channel, in 16.
    """
    array = np.asarray(array)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[0] == 3) or array.size == 0:
        raise ValueError(f"write_png: array must be (H, W), (1, H, W) or (3, H, W), got shape {array.shape}")
    pixels = _to_integers(array)
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0) if pixels.ndim == 3 else pixels))
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


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


def _open(path: str | os.PathLike) -> Image.Image:
    """Open and fully decode one picture, so that damage anywhere in the file shows here."""
    path = pathlib.Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise DataError(f"{path}: {width} x {height} pixels are more than the {MAX_PIXELS} allowed")
            if picture.format == "TIFF" and picture.n_frames > 1:
                raise DataError(f"{path}: holds {picture.n_frames} pictures; save each as its own file")
            picture.verify()  # checksums: a PNG with flipped bits would often decode, to wrong pixels
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: more than the {MAX_PIXELS} pixels allowed") from error
    except Exception as error:  # for damage Pillow raises OSError, SyntaxError, struct.error and more
        raise DataError(f"{path}: not a readable picture ({error})") from error
