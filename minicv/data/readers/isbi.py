"""The ISBI 2012 challenge: neuron membranes in electron microscopy (Cardona et al., PLoS Biology 2010)."""

import os
import pathlib
import re
from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from minicv.data.errors import DataError, NoSplit
from minicv.data.files.images import as_float, read_mask, read_stored
from minicv.data.readers.segmentation import pngs
from minicv.data.sample import IGNORE, Sample, item_index

SPLITS = "train", "val", "test"


class ISBI2012:
    """Slices root/image/N.png with root/label/N.png, membrane 0 and cell any other value; 30 of 512 x 512 in the set.

    Samples: label 1 = cell, 0 = membrane; instances = 4-connected components of the cells. split: "train", "val",
    "test" (see split_slices) or "all", in numeric order; ``indices`` selects slices by number instead. The constructor
    reads and checks everything, so that damage is found before training. Raises DataError, which names the file, for
    missing or unreadable files, sizes that differ and labels of more than two values.
    """

    num_classes = 2
    class_names = ("membrane", "cell")
    membranes = True
    ignore_index = IGNORE  # unused: no pixel is void

    def __init__(self, root: str | os.PathLike, split: str = "all", *, indices: Iterable[int] | None = None):
        if split not in ("all", *SPLITS):
            raise NoSplit(f'ISBI2012: split must be "train", "val", "test" or "all", got {split!r}')
        if indices is not None and split != "all":
            raise ValueError(f"ISBI2012: give indices or a split, not both: got split {split!r}")
        root = pathlib.Path(root)
        if indices is None:
            numbers = numbers_of(root)
            indices = numbers if split == "all" else split_slices(numbers)[split]
            if not indices:
                raise DataError(f"{root}: {len(numbers)} slices are too few for a split {split!r}; use more")
        self.indices = list(indices)
        self._samples = [read_slice(root, number) for number in self.indices]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[item_index(self, index)]


def split_slices(numbers: list[int]) -> dict[str, list[int]]:
    """Return this project's splits of the labeled slices: the challenge's own test labels are not public.

    The first two thirds are "train", the last fifth is "test", and "val" is between them: of 30 slices 0 to 19, 24 to
    29 and 20 to 23. Each split is one block, because neighboring slices, 50 nm apart, look alike: slices of different
    splits are adjacent only at the two borders.
    """
    n = len(numbers)
    test = n - max(1, n // 5)
    train = min(2 * n // 3, test)
    return {"train": numbers[:train], "val": numbers[train:test], "test": numbers[test:]}


def numbers_of(root: pathlib.Path) -> list[int]:
    """Return every N of image/N.png and label/N.png, in numeric order (2 before 10); see ``other_pngs``."""
    numbers = sorted({int(path.stem) for folder in _folders(root) for path in pngs(folder) if is_number(path.stem)})
    if not numbers:
        raise DataError(f"{root / 'image'}: contains no images named N.png")
    return numbers


def other_pngs(root: pathlib.Path) -> list[pathlib.Path]:
    """Return the PNGs in both folders that are not slices, because their names are not numbers."""
    return [path for folder in _folders(root) for path in pngs(folder) if not is_number(path.stem)]


def is_number(name: str) -> bool:
    """Return whether a name is the number of a slice: digits without leading zeros."""
    return re.fullmatch("0|[1-9][0-9]{0,8}", name) is not None


def _folders(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    folders = root / "image", root / "label"
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; ISBI 2012 is expected as image/N.png and label/N.png")
    return folders


def read_slice(root: pathlib.Path, number: int) -> Sample:
    """Read and check one slice."""
    image_path, label_path = (folder / f"{number}.png" for folder in _folders(root))
    is_cell = read_mask(label_path)
    image = as_float(read_stored(image_path, "L", size=is_cell.shape, where=str(label_path)))
    instances, _ = ndimage.label(is_cell)  # 4-connected
    arrays = image, is_cell.astype(np.int64), instances.astype(np.int32)
    for array in arrays:
        array.flags.writeable = False  # every access returns the same arrays
    return Sample(*arrays, name=f"isbi2012-{number}")
