"""Images on disk with a label map each: what the readers of segmentation data sets share.

A reader says where its files are (`find_pairs`) and what the numbers in a label file mean (`read_label`);
this does the rest.
"""
from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import DataError
from ..files.decode import is_file, no_such_file
from ..files.entries import join_reprs
from ..files.images import as_float, colors_of, label_pixels, numbers_of, read_integers
from ..files.text import read_text
from ..sample import IGNORE, Sample, item_index

OTHER_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".tif", ".tiff", ".webp"}  # endings


class ImageAndLabel(NamedTuple):
    """An image and its label map; either file may be missing."""

    name: str
    image: Path
    label: Path


class SegmentationReader:
    """A data set of the pairs in a folder: item i is read from its files each time, and may be written to.

    root: the data set's folder. split: which of its parts. keep: remember the pixels of what was read, in 8 or 16 bits
    as the file has them, so that it is read once. Pixels without a class have the label IGNORE. All files are looked
    for here, so that a missing one shows before a training starts. ``DataError``, naming the file, for what is missing,
    damaged, of unequal size or holds a label that does not exist; ``ValueError`` for a split that does not exist.
    """

    class_names: tuple[str, ...]
    colors: np.ndarray  # uint8 (K, 3), the set's own colors for images of labels
    splits: tuple[str, ...] = ("train", "val", "test")
    upright = True  # the sky is above: augmentation does not turn these images
    ignore_index = IGNORE

    def __init__(self, root: str | os.PathLike, split: str = "train", keep: bool = False):
        self.pairs = self.find_pairs(Path(root), split)
        self.split, self.keep = split, keep
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        missing = [file for pair in self.pairs for file in (pair.image, pair.label) if not is_file(file)]
        if missing:
            more = f"; {len(missing) - 1} more are missing" if len(missing) > 1 else ""
            raise DataError(f"{no_such_file(missing[0])}{more}")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @classmethod
    def splits_of(cls, root: Path) -> tuple[str, ...]:
        """The splits that the folder has: those of the class, and "test" where its labels are there."""
        return cls.splits

    @classmethod
    def find_pairs(cls, root: Path, split: str) -> list[ImageAndLabel]:
        """The pairs that a split should have, whether or not the files are there."""
        raise TypeError(f"{cls.__name__} has no find_pairs")

    @classmethod
    def read_label(cls, path: Path) -> np.ndarray:
        """A label file as uint8 (H, W): classes 0 to K - 1, or IGNORE."""
        raise TypeError(f"{cls.__name__} has no read_label")

    @classmethod
    def read(cls, pair: ImageAndLabel) -> tuple[np.ndarray, np.ndarray]:
        """The image, uint8 or uint16 (3, H, W), and its label, uint8 (H, W)."""
        label = cls.read_label(pair.label)
        return read_integers(pair.image, "RGB", size=label.shape, where=str(pair.label)), label

    def __len__(self) -> int:
        return len(self.pairs)

    def label_of(self, index: int) -> np.ndarray:
        """The label of an image, uint8 (H, W), without reading the image."""
        kept = self._kept.get(index % len(self))
        return self.read_label(self.pairs[index].label) if kept is None else kept[1]

    def __getitem__(self, index: int) -> Sample:
        index = item_index(self, index)
        pair = self.pairs[index]
        image, label = self._kept.get(index) or self.read(pair)
        if self.keep:
            self._kept[index] = image, label
        return Sample(as_float(image), label.astype(np.int64), None, pair.name)


# ---------------------------------------------------------------------------------------------------------
# For readers
# ---------------------------------------------------------------------------------------------------------
def translate(path: Path, classes: dict[int, int], colors: dict[tuple[int, int, int], int] | None = None) -> np.ndarray:
    """A label file as uint8 (H, W), classes or IGNORE: its numbers mean ``classes``, and its colors ``colors``.

    A file has a meaning by its colors if it stores colors, or a palette that is not gray; whatever the order of the
    palette. Without ``colors``, such a file is refused. ``DataError`` for numbers and colors that mean nothing, and for
    a mask of 0 and 255 where 255 is void, which would train on class 0 alone.
    """
    pixels = label_pixels(path)
    if pixels.palette is not None and not is_gray_ramp(pixels.palette):
        if colors is None:
            raise DataError(f"{path}: a palette image whose colors are not gray values: its numbers may be in any "
                            f"order; save it as a gray PNG of the labels {_ranges(classes)}")
        return translate_colors(path, colors_of(path, pixels), colors)
    if colors is not None and pixels.values.ndim == 3 and np.ptp(pixels.values, axis=2).any():
        return translate_colors(path, colors_of(path, pixels), colors)
    return translate_numbers(path, numbers_of(path, pixels), classes)


def is_gray_ramp(palette: np.ndarray) -> bool:
    """Is color k of a palette (n, 3) the gray value k, so that numbers and colors say the same?"""
    return len(palette) > 1 and bool((palette == np.arange(len(palette))[:, None]).all())


def translate_colors(path: Path, rgb: np.ndarray, colors: dict[tuple[int, int, int], int]) -> np.ndarray:
    """uint8 (H, W, 3) as classes, uint8 (H, W)."""
    code = np.array([65536, 256, 1])
    found, where = np.unique(rgb.astype(np.int64) @ code, return_inverse=True)
    classes = [colors.get(tuple(k.to_bytes(3, "big"))) for k in found.tolist()]
    strange = [tuple(k.to_bytes(3, "big")) for k, c in zip(found.tolist(), classes, strict=True) if c is None]
    if strange:
        raise DataError(f"{path}: holds {len(strange)} colors that are no class, as {', '.join(map(str, strange[:3]))};"
                        " was it resized by interpolation, or stored as JPEG?")
    return np.array(classes, np.uint8)[where].reshape(rgb.shape[:2])


def translate_numbers(path: Path, numbers: np.ndarray, classes: dict[int, int]) -> np.ndarray:
    """Numbers (H, W) as classes, uint8 (H, W)."""
    table = np.full(256, -1)
    table[list(classes)] = list(classes.values())
    label = table[np.clip(numbers, 0, 255)]  # (H, W)
    strange = np.unique(numbers[(label < 0) | (numbers < 0) | (numbers > 255)])
    if strange.size:
        raise DataError(f"{path}: holds the labels {strange[:10].tolist()}, which do not exist; those that do: "
                        f"{_ranges(classes)}")
    if classes.get(255) == IGNORE and np.array_equal(np.unique(numbers), [0, 255]):
        raise DataError(f"{path}: holds 0 and 255 only, as masks do, and 255 is void here: store the class's number in "
                        "place of 255; if it is void, use the data set's palette")
    return label.astype(np.uint8)


def check_split(reader: type[SegmentationReader], split: str) -> None:
    """``ValueError`` for a part that the set does not have."""
    if split not in reader.splits:
        raise ValueError(f"{reader.__name__}: split must be one of {', '.join(reader.splits)}, got {split!r}")


def require_folder(path: Path, expected: str) -> Path:
    """The path, if it is a folder; otherwise a ``DataError`` that says how the data set should lie there."""
    if not os.path.isdir(path):
        raise DataError(f"{path}: no such folder; {expected}")
    return path


def pngs(path: Path) -> list[Path]:
    """The PNG files of a folder in the order of their names; also those that end in .PNG, as some cameras write.

    ``DataError`` for an image of another format, which would be missed, and for names that differ in their ending only.
    """
    files = sorted(file for file in path.iterdir() if not file.name.startswith("._"))
    if others := [file for file in files if file.suffix.lower() in OTHER_IMAGES]:
        raise DataError(f"{others[0]}: only PNGs are read in this folder; save it as PNG, or move it away")
    files = [file for file in files if file.suffix.lower() == ".png"]
    twins = {file.stem: file for file in files}
    if twice := [file for file in files if twins[file.stem] != file]:
        raise DataError(f"{twice[0]}: {twins[twice[0].stem].name} is beside it; remove one of them")
    return files


def read_entries(path: Path) -> list[str]:
    """The entries of a list file, one a line, without blank lines and comments, which begin with #.

    ``DataError`` if there are none, if one is there twice, which would count twice, or if it is no text.
    """
    found = [line.strip() for line in read_text(path, "list").splitlines()]
    found = [line for line in found if line and not line.startswith("#")]
    if not found:
        raise DataError(f"{path}: lists no images; write one entry to a line")
    refuse_repetitions(path, found)
    return found


def refuse_repetitions(path: Path, entries: list[str]) -> None:
    """``DataError`` if a list names an image more than once."""
    if twice := [entry for entry, count in Counter(entries).items() if count > 1]:
        raise DataError(f"{path}: lists {join_reprs(twice)} more than once; keep one line for each image")


def read_names(path: Path) -> list[str]:
    """The names in a list file, each without the ending of an image; ``DataError`` for paths in place of names."""
    names = [re.sub(r"\.(jpe?g|png)$", "", line, flags=re.IGNORECASE) for line in read_entries(path)]
    strange = [name for name in names if "/" in name or "\\" in name or name in ("", ".", "..")]
    if strange:
        raise DataError(f"{path}: one image name to a line is expected, without folders, got {join_reprs(strange)}")
    refuse_repetitions(path, names)
    return names


def pair_up(images: dict[str, Path], labels: dict[str, Path], beside: tuple[str, str]) -> list[ImageAndLabel]:
    """Pairs of all names that have an image or a label, in order; ``beside`` says where the other half should be.

    It holds the patterns of an image's and a label's path, with ``{}`` for the name.
    """
    names = sorted(images.keys() | labels.keys())
    image, label = beside
    return [ImageAndLabel(name, images.get(name, Path(image.format(name))), labels.get(name, Path(label.format(name))))
            for name in names]


def _ranges(numbers) -> str:
    """0, 1, 2, 5 -> "0-2, 5"."""
    runs = np.split(np.sort(list(numbers)), np.flatnonzero(np.diff(np.sort(list(numbers))) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
