"""What the readers of segmentation data sets share: one image and one label map per item.

A reader finds its files (`find_pairs`) and translates the numbers of a label file (`read_label`). The rest is here.
"""
from __future__ import annotations

import abc
import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError, NoSplit
from ..files.decode import require_files
from ..files.entries import join_reprs
from ..files.images import as_float, colors_of, label_pixels, numbers_of, read_stored
from ..files.text import read_text
from ..sample import IGNORE, Cache, Sample, item_index

OTHER_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".tif", ".tiff", ".webp"}  # endings


class ImageAndLabel(NamedTuple):
    """The files of one image and its label map. Either may be missing. ``page``: the slice of two TIFF stacks."""

    name: str
    image: Path
    label: Path
    page: int | None = None


class SegmentationReader(abc.ABC):
    """Read the images and label maps of a folder. Item i is read from its files on each access and is writable.

    root: the data set's folder. split: one of `splits`. keep: cache the pixels in 8 or 16 bits, as stored, so that each
    file is read once. Void pixels have the label IGNORE. require: check that every file exists. Raises ``DataError``,
    which names the file, for missing or damaged files, sizes that differ and unknown labels; ``NoSplit`` for an unknown
    split.
    """

    class_names: tuple[str, ...]
    colors: np.ndarray  # uint8 (K, 3), the data set's own palette
    splits: tuple[str, ...] = ("train", "val", "test")
    upright = True  # the sky is at the top: augmentation does not turn the images
    ignore_index = IGNORE

    def __init__(self, root: str | os.PathLike, split: str = "train", keep: bool = False, *,
                 require: bool = True):
        self.pairs = self.find_pairs(Path(root), split)
        self.split, self._pixels = split, Cache(self._read, keep)
        if require:
            require_files(file for pair in self.pairs for file in (pair.image, pair.label))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @abc.abstractmethod
    def find_pairs(self, root: Path, split: str) -> list[ImageAndLabel]:
        """Return the pairs of a split, whether or not their files exist."""

    @abc.abstractmethod
    def read_label(self, path: Path, page: int | None = None) -> np.ndarray:
        """Read a label file as uint8 (H, W): classes 0 to K - 1, or IGNORE. page: the slice of a TIFF stack."""

    def read(self, pair: ImageAndLabel) -> tuple[np.ndarray, np.ndarray]:
        """Read the stored pixels of the image, (3, H, W), and its label, uint8 (H, W)."""
        label = self.read_label(pair.label, pair.page)
        return read_stored(pair.image, "RGB", size=label.shape, where=str(pair.label), page=pair.page), label

    def __len__(self) -> int:
        return len(self.pairs)

    def label_of(self, index: int) -> np.ndarray:
        """Read the label of an image, uint8 (H, W), without the image."""
        index = item_index(self, index)
        return self._pixels[index][1] if index in self._pixels else self.read_label(
            self.pairs[index].label, self.pairs[index].page)

    def __getitem__(self, index: int) -> Sample:
        index = item_index(self, index)
        image, label = self._pixels[index]
        return Sample(as_float(image), label.astype(np.int64), None, self.pairs[index].name)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.read(self.pairs[index])


# ---------------------------------------------------------------------------------------------------------
# For readers
# ---------------------------------------------------------------------------------------------------------
def translate(path: Path, classes: dict[int, int], colors: dict[tuple[int, int, int], int] | None = None) -> np.ndarray:
    """Read a label file as uint8 (H, W), classes or IGNORE. ``classes`` maps its numbers, ``colors`` its colors.

    The colors count if the file stores RGB colors or a palette that is not gray, in any order; otherwise the numbers
    do. Raises ``DataError`` for unknown numbers and colors, for a color file without ``colors``, and for a mask of 0
    and 255 where 255 is void, which would train class 0 alone.
    """
    pixels = label_pixels(path)
    if pixels.palette is not None and not is_gray_ramp(pixels.palette):
        if colors is None:
            raise DataError(f"{path}: a palette image whose colors are not gray: its numbers may be in any order; "
                            f"save it as a gray PNG of the labels {_ranges(classes)}")
        return translate_colors(path, colors_of(path, pixels), colors)
    if colors is not None and pixels.values.ndim == 3 and np.ptp(pixels.values, axis=2).any():
        return translate_colors(path, colors_of(path, pixels), colors)
    return translate_numbers(path, numbers_of(path, pixels), classes)


def is_gray_ramp(palette: np.ndarray) -> bool:
    """Return whether color k of the palette (n, 3) is gray value k, so that numbers and colors agree."""
    return len(palette) > 1 and bool((palette == np.arange(len(palette))[:, None]).all())


def translate_colors(path: Path, rgb: np.ndarray, colors: dict[tuple[int, int, int], int]) -> np.ndarray:
    """Translate colors, uint8 (H, W, 3), into classes, uint8 (H, W)."""
    code = np.array([65536, 256, 1])
    found, where = np.unique(rgb.astype(np.int64) @ code, return_inverse=True)
    classes = [colors.get(tuple(k.to_bytes(3, "big"))) for k in found.tolist()]
    strange = [tuple(k.to_bytes(3, "big")) for k, c in zip(found.tolist(), classes, strict=True) if c is None]
    if strange:
        raise DataError(f"{path}: holds {len(strange)} unknown colors, such as {', '.join(map(str, strange[:3]))}; "
                        "was it resized with interpolation, or saved as JPEG?")
    return np.array(classes, np.uint8)[where].reshape(rgb.shape[:2])


def translate_numbers(path: Path, numbers: np.ndarray, classes: dict[int, int]) -> np.ndarray:
    """Translate numbers (H, W) into classes, uint8 (H, W)."""
    table = np.full(max(classes) + 2, -1)
    table[list(classes)] = list(classes.values())
    label = table[np.clip(numbers, 0, len(table) - 1)]  # (H, W); the last is no class
    strange = np.unique(numbers[(label < 0) | (numbers < 0)])
    if strange.size:
        raise DataError(f"{path}: holds the unknown labels {strange[:10].tolist()}; known: {_ranges(classes)}")
    if classes.get(255) == IGNORE and np.array_equal(np.unique(numbers), [0, 255]):
        raise DataError(f"{path}: holds only 0 and 255, like a mask, but 255 means void here: store the class number "
                        "instead of 255, or use the data set's palette if void is meant")
    return label.astype(np.uint8)


def check_split(reader: type[SegmentationReader], split: str) -> None:
    """Raise ``NoSplit`` unless the reader has the split."""
    if split not in reader.splits:
        raise NoSplit(f"{reader.__name__}: split must be one of {', '.join(reader.splits)}, got {split!r}")


def require_folder(path: Path, expected: str) -> Path:
    """Return the path. Raise ``DataError``, which states the expected layout, unless it is a folder."""
    if not os.path.isdir(path):
        raise DataError(f"{path}: no such folder; {expected}")
    return path


def pngs(path: Path) -> list[Path]:
    """Return the PNG files of a folder (.png or .PNG), sorted by name.

    Raises ``DataError`` for images of other formats and for names that differ only in their ending.
    """
    files = sorted(file for file in path.iterdir() if not file.name.startswith("._"))
    if others := [file for file in files if file.suffix.lower() in OTHER_IMAGES]:
        raise DataError(f"{others[0]}: only PNGs are read in this folder; save it as PNG, or move it away")
    files = [file for file in files if file.suffix.lower() == ".png"]
    twins = {file.stem: file for file in files}
    if twice := [file for file in files if twins[file.stem] != file]:
        raise DataError(f"{twice[0]}: has the same name as {twins[twice[0].stem].name}; remove one of them")
    return files


def read_entries(path: Path, one: str = "image", many: str = "images") -> list[str]:
    """Return the entries of a list file, one per line, without blank lines and # comments; ``one`` names an entry.

    Raises ``DataError`` for an empty list, a repeated entry and a file that is not text.
    """
    found = [line.strip() for line in read_text(path, "list").splitlines()]
    found = [line for line in found if line and not line.startswith("#")]
    if not found:
        raise DataError(f"{path}: lists no {many}; write one entry per line")
    refuse_repetitions(path, found, one)
    return found


def refuse_repetitions(path: Path, entries: list[str], one: str = "image") -> None:
    """Raise ``DataError`` if a list has an entry, such as an image, more than once."""
    if twice := [entry for entry, count in Counter(entries).items() if count > 1]:
        raise DataError(f"{path}: lists {join_reprs(twice)} more than once; keep one line for each {one}")


def read_names(path: Path) -> list[str]:
    """Return the names in a list file, without image endings. Raise ``DataError`` for paths."""
    names = [re.sub(r"\.(jpe?g|png)$", "", line, flags=re.IGNORECASE) for line in read_entries(path)]
    strange = [name for name in names if "/" in name or "\\" in name or name in ("", ".", "..")]
    if strange:
        raise DataError(f"{path}: expected one image name per line, without folders, got {join_reprs(strange)}")
    refuse_repetitions(path, names)
    return names


def pair_up(images: dict[str, Path], labels: dict[str, Path], beside: tuple[str, str]) -> list[ImageAndLabel]:
    """Return a pair for every name that has an image or a label, sorted by name.

    beside: the path patterns of an image and a label, with ``{}`` for the name; they give the path of a missing half.
    """
    names = sorted(images.keys() | labels.keys())
    image, label = beside
    return [ImageAndLabel(name, images.get(name, Path(image.format(name))), labels.get(name, Path(label.format(name))))
            for name in names]


def _ranges(numbers) -> str:
    """Format numbers as ranges: 0, 1, 2, 5 becomes "0-2, 5"."""
    runs = np.split(np.sort(list(numbers)), np.flatnonzero(np.diff(np.sort(list(numbers))) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
