"""Decode an image file to the numbers it stores, or raise a DataError that names the file and the remedy.

Pillow decodes. This module handles the cases in which Pillow's numbers differ from the file's: gray values of 2 and 4
bits (scaled), colors of 16 bits (reduced to 8), TIFF files that it turns or whose tags contradict their data, and files
of several images (it returns the first).
"""
from __future__ import annotations

import contextlib
import functools
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from .jpeg import fault_of_jpeg

MAX_PIXELS = 89_478_485
"""The most pixels of an image, checked before decoding: 256 MiB as 8-bit RGB, Pillow's own warning limit."""

EXACT = {"PNG", "JPEG", "MPO", "TIFF", "BMP", "GIF", "WEBP"}
"""The formats of which every number is kept. Of the others, Pillow's: it may scale or round the numbers of a label."""
REFUSED = {"EPS", "WMF"}
"""Drawings, which Pillow hands to other programs."""
NO_IMAGES = REFUSED | {"BUFR", "GRIB", "HDF5", "IPTC", "MPEG", "PALM", "PDF"}
"""Formats with endings that Pillow knows, but that it cannot decode."""
READABLE = "the readable formats are PNG, JPEG, TIFF, BMP, GIF, WebP and others that Pillow reads"
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_90}  # orientation -> the turn that makes the image upright
INVERSE_TURNS = TURNS | {6: TURNS[8], 8: TURNS[6]}
TO_RGB = "CMYK", "YCbCr", "RGBX"  # modes whose colors Pillow converts


class Pixels(NamedTuple):
    """The numbers of one file, in stored order.

    values: integers, or floats of a TIFF, (H, W) for gray and palette images, (H, W, 3) for colors. top: the value of
    full brightness; 0 for floats, which state none. alpha: (H, W), or None. palette: uint8 (n, 3) RGB, or None.
    orientation: the EXIF tag, 1 to 8, not applied. lossy: the compression or the format changed the numbers. inverted:
    a TIFF that stores 0 for white; ``values`` are brightnesses even so.
    """

    values: np.ndarray
    top: int
    alpha: np.ndarray | None = None
    palette: np.ndarray | None = None
    orientation: int = 1
    lossy: bool = False
    inverted: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) as stored."""
        return self.values.shape[:2]


@functools.cache
def image_endings() -> frozenset[str]:
    """Return the endings of the images that Pillow reads, such as ".jpg"."""
    return frozenset(end for end, format in Image.registered_extensions().items() if format not in NO_IMAGES)


def is_file(path: str | os.PathLike) -> bool:
    """Return whether the path is a file; False also for names that the system rejects."""
    try:
        return os.path.isfile(path)
    except (OSError, ValueError):
        return False


def no_such_file(path: str | os.PathLike) -> str:
    """Return the message for a missing file; it names a file that differs only in case."""
    path = Path(path)
    with contextlib.suppress(OSError, ValueError):
        alike = [name for name in os.listdir(path.parent) if name.casefold() == path.name.casefold()]
        if alike and path.name not in alike:
            return f"{path}: no such file, but {alike[0]} exists; rename one of them"
    return f"{path}: no such file"


def require_files(files: Iterable[Path]) -> None:
    """Raise ``DataError`` unless all files exist."""
    if missing := [file for file in files if not is_file(file)]:
        more = f"; {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise DataError(f"{no_such_file(missing[0])}{more}")


def decode(path: str | os.PathLike, page: int | None = None) -> Pixels:
    """Decode a whole file, so that damage anywhere in it is found. Raise ``DataError`` if it is unusable.

    page: the page of a TIFF stack; without it, a file of several images is refused.
    """
    path = Path(path)
    _require_file(path)
    try:
        with _open(path, page) as image:
            _check_header(path, image, page)
            image.verify()  # checksums: a PNG with flipped bits often decodes to wrong pixels
        with _open(path, page) as image:
            return _pixels(path, image, page)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: more than the {MAX_PIXELS} pixels allowed") from error
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and more
        raise DataError(f"{path}: not a readable image ({_reason(error)}); {READABLE}") from error


def page_count(path: str | os.PathLike) -> int:
    """Return the number of images in a TIFF; 1 for any other file, and for one that cannot be read."""
    try:
        with _open(Path(path)) as image:
            return image.n_frames if image.format == "TIFF" else 1
    except Exception:  # named when the file is read
        return 1


@functools.lru_cache(maxsize=256)
def float_range(path: Path, changed: int) -> tuple[float, float]:
    """Return the least and the largest value of all pages of a TIFF of floats, last changed at a time in ns."""
    pages = page_count(path)
    ends = [(float(values.min()), float(values.max())) for values in (
        decode(path, page if pages > 1 else None).values for page in range(pages))]
    return min(low for low, _ in ends), max(high for _, high in ends)


def header_size(path: str | os.PathLike) -> tuple[tuple[int, int], int]:
    """Return (H, W) as stored and the EXIF orientation, from the header alone. Raise ``DataError`` like decode."""
    path = Path(path)
    _require_file(path)
    try:
        with _open(path) as image:
            orientation = 1 if image.format == "PNG" and "exif" not in image.info else _orientation(image)
            W, H = image.size
            return ((W, H) if image.format == "TIFF" and orientation >= 5 else (H, W)), orientation
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: not a readable image ({_reason(error)}); {READABLE}") from error


@contextlib.contextmanager
def _open(path: Path, page: int | None = None) -> Iterator[Any]:
    """Open an image as a stream: by name, Pillow maps some TIFFs into memory and mixes up the pixels of turned ones."""
    with path.open("rb") as file, Image.open(file) as image:
        if image.format in REFUSED:
            raise UnidentifiedImageError
        if page is not None and (image.format == "TIFF" or page > 0):
            count = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
            if page >= count:
                raise DataError(f"{path}: has no page {page} (counted from 0), only {count}")
            image.seek(page)
        yield image


def _require_file(path: Path) -> None:
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(no_such_file(path)) from error
    except (OSError, ValueError) as error:  # a loop of links, a name too long, no permission
        raise DataError(f"{path}: cannot be opened ({error})") from error
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}, not an image file")


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "damaged header, or another format"
    text = str(error) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}..."


def _check_header(path: Path, image: Any, page: int | None) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{path}: {width} x {height} pixels are more than the {MAX_PIXELS} allowed")
    if width * height == 0:
        raise DataError(f"{path}: {width} x {height} pixels: an image without pixels")
    if page is None and image.format != "MPO" and getattr(image, "n_frames", 1) > 1:  # MPO: a photo and its previews
        raise DataError(f"{path}: holds {image.n_frames} images; save each as its own file, or read a stack with a "
                        "stack of masks as masks:DIR")
    if image.format == "TIFF":
        _check_tiff(path, image.tag_v2)
    if image.format in ("JPEG", "MPO") and (fault := fault_of_jpeg(path.read_bytes())):
        raise DataError(f"{path}: a damaged JPEG ({fault}); get or save it again")


def _check_tiff(path: Path, tags) -> None:
    """Raise ``DataError`` if tags contradict each other or the data: Pillow would read other pixels."""
    names = {256: "ImageWidth", 257: "ImageLength", 258: "BitsPerSample", 262: "PhotometricInterpretation"}
    missing = [name for tag, name in names.items() if tag not in tags]
    if missing:
        raise DataError(f"{path}: damaged, the TIFF tag {missing[0]} is missing; save it again")
    width, height, bits, photo = (tags[tag] for tag in names)
    samples, planar = tags.get(277, 1), tags.get(284, 1)
    wanted = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}.get(photo)
    if wanted is None or samples != wanted + len(tags.get(338, ())) or len(bits) not in (1, samples):
        raise DataError(f"{path}: damaged, or an unsupported TIFF: {samples} samples of {bits} bits with "
                        f"PhotometricInterpretation {photo}; save it as PNG")
    if 2 in tags.get(339, ()) and bits[0] == 8:
        raise DataError(f"{path}: holds signed 8-bit numbers; save it as unsigned 8 or 16 bit")
    if planar == 2 and samples > 1 and bits[0] != 8:
        raise DataError(f"{path}: stores {bits[0]}-bit colors as separate planes; save it as PNG")
    w, h = (tags.get(322), tags.get(323)) if 324 in tags else (width, min(tags.get(278, height), height))
    offsets, counts = (tags.get(tag) for tag in ((324, 325) if 324 in tags else (273, 279)))
    if not isinstance(w, int) or not isinstance(h, int) or min(w, h) < 1 or offsets is None or counts is None:
        raise DataError(f"{path}: damaged, the TIFF tags of its strips or tiles are missing; save it again")
    rows, planes = -(-height // h), samples if planar == 2 else 1
    blocks = {len(counts), len(offsets), len(set(offsets)), rows * -(-width // w) * planes}
    if len(blocks) > 1 or min(offsets) < 8:
        raise DataError(f"{path}: damaged, {min(blocks)} strips or tiles for {width} x {height} pixels; save it again")
    if tags.get(259, 1) == 1:  # not compressed
        line = -(-w * sum(bits * (samples if len(bits) == 1 else 1)) // (8 * planes))  # bytes
        high = h * rows if 324 in tags else height
        if sum(counts) != line * high * -(-width // w) * planes:
            raise DataError(f"{path}: damaged, {sum(counts)} bytes for {width} x {height} pixels of {bits} bits; save "
                            "it again")


def _orientation(image: Image.Image) -> int:
    tag = image.getexif().get(ORIENTATION, 1)
    return tag if tag in TURNS else 1


def _pixels(path: Path, image: Any, page: int | None) -> Pixels:
    rawmode = _rawmode(image)  # before the EXIF tags, for which Pillow decodes a PNG
    orientation = _orientation(image)
    inverted = image.format == "TIFF" and image.tag_v2.get(262) == 0
    lossy = image.format in ("JPEG", "MPO") or image.info.get("compression") in ("jpeg", "tiff_jpeg")
    if image.format == "WEBP":
        with path.open("rb") as file:
            lossy = b"VP8L" not in file.read(4096)
    if image.format not in EXACT:
        lossy = True
    low = None
    if ";16" in rawmode and image.mode in ("RGB", "RGBA", "CMYK") and image.format in EXACT:
        low = _read_low_bytes(path, rawmode, page)
    image.load()
    if image.format == "TIFF" and _orientation(image) != orientation:  # Pillow turned it
        image = image.transpose(INVERSE_TURNS[orientation])
        low = None if low is None else low.transpose(INVERSE_TURNS[orientation])
    found = _stored_numbers(path, image, rawmode, low)
    if inverted and image.mode.startswith("I;16"):
        found = found._replace(values=found.top - found.values)
    return found._replace(orientation=orientation, lossy=lossy, inverted=inverted)


def _stored_numbers(path: Path, image: Image.Image, rawmode: str, low: Image.Image | None) -> Pixels:
    """Return the stored numbers of a loaded image; ``low`` holds the low bytes of 16-bit colors."""
    mode, transparent = image.mode, image.info.pop("transparency", None)  # colors that viewers do not draw
    if mode == "1":
        return Pixels(np.asarray(image).astype(np.uint8), 1)
    if mode == "F":
        values = np.array(image, np.float32)
        if not np.isfinite(values).all():
            raise DataError(f"{path}: holds floats that are NaN or infinite; replace them")
        return Pixels(values, 0)
    if mode == "L":
        bits = next((b for b in (2, 4) if f"L;{b}" in rawmode), 8)
        return Pixels(np.asarray(image) // (255 // (2 ** bits - 1)), 2 ** bits - 1)
    if mode == "I" or mode.startswith("I;16"):
        gray = np.asarray(image).astype(np.int64)
        if gray.min() < 0 or gray.max() > 65535:
            raise DataError(f"{path}: gray values {gray.min()}..{gray.max()} do not fit into 16 bits")
        return Pixels(gray.astype(np.uint16), 4095 if rawmode == "I;12" else 65535)
    if mode in ("P", "PA"):
        index = np.asarray(image.getchannel("P") if mode == "PA" else image)
        palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        if index.max() >= len(palette):
            raise DataError(f"{path}: a pixel has palette number {index.max()}, but the palette has {len(palette)} "
                            "colors")
        alpha = np.asarray(image.getchannel("A")) if mode == "PA" else None
        if transparent is not None:  # a palette number, or the alpha of the first numbers
            table = np.full(256, 255, np.uint8)
            if isinstance(transparent, bytes):
                table[:len(transparent)] = list(transparent)
            else:
                table[transparent] = 0
            alpha = table[index]
        return Pixels(index, 255, alpha, palette)
    if mode in TO_RGB:
        if low is not None:
            raise DataError(f"{path}: holds CMYK colors of 16 bits; save it as RGB")
        return Pixels(np.asarray(image.convert("RGB")), 255)
    if mode not in ("LA", "RGB", "RGBA"):
        raise DataError(f"{path}: holds colors of mode {mode}; save it as RGB")
    values, top = np.asarray(image), 255
    if low is not None:
        values, top = values.astype(np.uint16) * 256 + np.asarray(low), 65535
    if rawmode == "LA;16B":  # opened as RGBA with gray three times; `low` has a pixel's four bytes
        high, lower = np.asarray(low)[..., ::2].astype(np.uint16), np.asarray(low)[..., 1::2]
        values = high * 256 + lower
    channels = values.shape[2]
    alpha = values[..., -1] if channels in (2, 4) else None
    return Pixels(values[..., 0] if channels == 2 else np.ascontiguousarray(values[..., :3]), top, alpha)


def _rawmode(image: Any) -> str:
    """Return the raw mode, Pillow's name for the layout of the pixels in the file."""
    args = image.tile[0][3] if getattr(image, "tile", None) else ""
    return str(args[0] if isinstance(args, tuple) and args else args or "")


def _read_low_bytes(path: Path, rawmode: str, page: int | None) -> Any:
    """Read the low bytes of 16-bit colors: Pillow reads the high ones unless given the opposite byte order."""
    name, _, order = rawmode.partition(";16")
    native = "L" if np.little_endian else "B"
    other = "L" if (native if order == "N" else order) == "B" else "B"
    with _open(path, page) as image:
        tiles = [(*tile[:3], (f"{name};16{other}", *tile[3][1:]) if isinstance(tile[3], tuple)
                  else ("RGBA" if name == "LA" else f"{name};16{other}")) for tile in image.tile]
        image.tile = [getattr(type(old), "_make", tuple)(new) for old, new in zip(image.tile, tiles, strict=True)]
        image.load()
        return image.copy()


def upright_pixels(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return an array (H, W) or (H, W, C) turned as the orientation tag asks."""
    across = array.swapaxes(0, 1)
    return {1: array, 2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: across, 6: across[:, ::-1],
            7: across[::-1, ::-1], 8: across[::-1]}[orientation]
