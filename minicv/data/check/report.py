"""The result of a check, and the tables that it prints."""
from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files.decode import is_file


@dataclasses.dataclass
class Report:
    """The result of a check: the contents as lines of text, and one line for each fault."""

    contents: list[str] = dataclasses.field(default_factory=list)
    faults: list[str] = dataclasses.field(default_factory=list)


def overlap(first: dict, name: object, image: Path, split: str, page: int | None = None) -> list[str]:
    """Return a fault if an image is also in another split: by name, as a link, or as a copy of the same file name.

    first: maps a name, a real path, or a file name and checksum to the first split and file with it; the image's own
    are added. page: of a TIFF stack, whose pages may be in different splits.
    """
    keys = [name if page is None else (image, page)]
    if is_file(image) and page is None:
        keys += [os.path.realpath(image), (image.name, hashlib.sha256(image.read_bytes()).digest())]
    for key in keys:
        there, file = first.setdefault(key, (split, image))
        if there != split:
            return [f"{image}: is in both {there} and {split}" if file == image or key == name else
                    f"{image}: is in {split}, and the same image is in {there}: {file}"]
    return []


def mixed_floats(images: Mapping[Path, bool]) -> list[str]:
    """Return a fault for each image of floats, if others have integers: their brightnesses cannot be compared.

    images: whether each image has floats.
    """
    return [] if len(set(images.values())) < 2 else [
        f"{path}: holds floats, and other images integers; store all of them in the same way"
        for path, is_float in images.items() if is_float]


def compare_classes(root: Path, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a fault for each split whose classes differ from the first one's, so that a number means another class."""
    (first, names), *others = classes.items() or [("", ())]
    return [f"{root}: the classes of {split} are {', '.join(its)}; those of {first} are {', '.join(names)}"
            for split, its in others if tuple(its) != tuple(names)]


def count_table(what: str, tables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Format the counts of each name in each split."""
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    return table_of(what, names, {split: [str(table.get(name, 0)) for name in names]
                                  for split, table in tables.items()})


def table_of(title: str, names: Sequence[str], columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Format a table, one row per name and one column per split."""
    width = max(map(len, [*names, title]))
    return [f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)
            for name, *cells in [(title, *columns), *zip(names, *columns.values(), strict=True)]]


def describe_sizes(sizes: set[tuple[int, int]]) -> str:
    """Describe the sizes (W, H) of images in words."""
    if not sizes:
        return "none of which can be read"
    if len(sizes) == 1:
        return "{} x {} pixels".format(*next(iter(sizes)))
    (w, h), (w2, h2) = np.min(list(sizes), axis=0), np.max(list(sizes), axis=0)
    return f"of {len(sizes)} sizes, {w} to {w2} x {h} to {h2} pixels"
