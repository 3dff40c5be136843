"""What the numbers or colors of label images mean: the classes of a folder of masks.

- legend.txt, or CVAT's labelmap.txt: a line for each class with its color, "NAME R G B" or "R G B NAME", or with its
  number, "NAME N"; commas, colons and tabs may stand for blanks. Pixels of a class named "void" are ignored.
- classes.txt: a line for each class, "NAME"; the first is number 0. A number 255 is void.
- neither: the masks tell. Two values, one of them 0 (black): background and object. Numbers from 0 without gaps: one
  class each; 255 is void. Anything else is refused, with the values found.

Palette images without a legend are read by their numbers, if all have the same palette.
"""
from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..files.entries import join_reprs
from ..files.images import label_pixels, numbers_of
from ..sample import IGNORE
from .folders import find_classes, resolve
from .segmentation import read_entries, translate_colors, translate_numbers

FILES = "legend.txt", "labelmap.txt"
BINARY = "background", "object"
VOID = "void"
Color = tuple[int, int, int]
HINT = ("write a line for each class to legend.txt in {root}: NAME R G B for colors, NAME N for numbers (or only NAME "
        "to classes.txt, if the numbers are 0, 1, 2, ...)")


@dataclasses.dataclass(frozen=True)
class Legend:
    """The class names, and the class, or IGNORE, of each number or of each color of a label image.

    palette: what the palette of each palette image must be, where numbers count; None for any.
    """

    names: tuple[str, ...]
    numbers: dict[int, int] = dataclasses.field(default_factory=dict)
    colors: dict[Color, int] = dataclasses.field(default_factory=dict)
    palette: bytes | None = None

    def read(self, path: Path, page: int | None = None) -> np.ndarray:
        """Read a label image as uint8 (H, W). Raise ``DataError`` for unknown numbers and colors."""
        stored = Stored.of(path, page)
        if self.colors:
            return translate_colors(path, stored.as_colors(), self.colors)
        if stored.colored:
            raise DataError(f"{path}: holds colors, but the classes of this data set are numbers; save it as a gray "
                            "PNG")
        if self.palette is not None and stored.palette is not None and stored.palette != self.palette:
            raise DataError(f"{path}: its palette differs from that of the other masks, so its numbers may mean other "
                            "classes; " + HINT.format(root="the data set's folder"))
        return translate_numbers(path, stored.values, self.numbers)


@dataclasses.dataclass(frozen=True)
class Stored:
    """The values of a label image: int64 (H, W), or uint8 (H, W, 3) if ``colored``; the palette unless it is gray."""

    values: np.ndarray
    colored: bool
    palette: bytes | None
    table: np.ndarray | None

    @classmethod
    def of(cls, path: Path, page: int | None = None) -> Stored:
        """Read a label image. Gray stored as RGB, or with a gray palette, becomes numbers."""
        pixels = label_pixels(path, page=page)
        if pixels.palette is not None:
            used = pixels.palette[:int(pixels.values.max()) + 1]
            if not np.ptp(pixels.palette[np.unique(pixels.values)].astype(int), axis=1).any():
                return cls(pixels.palette[pixels.values][..., 0].astype(np.int64), False, None, None)
            return cls(pixels.values.astype(np.int64), False, pixels.palette.tobytes(), used)
        if pixels.values.ndim == 3 and np.ptp(pixels.values.astype(int), axis=2).any():
            if pixels.top > 255:
                raise DataError(f"{path}: a label with colors of 16 bits; save it as PNG, 8-bit RGB")
            return cls(pixels.values, True, None, None)
        return cls(numbers_of(path, pixels), False, None, None)

    def as_colors(self) -> np.ndarray:
        """Return the colors, uint8 (H, W, 3); a gray value v is (v, v, v)."""
        if self.table is not None:
            return self.table[self.values]
        if self.colored:
            return self.values
        return np.repeat(self.values.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def read_legend(root: Path) -> Legend | None:
    """Return the legend that a folder states, or None."""
    for name in FILES:
        if (path := resolve(root / name)).is_file():
            return parse_legend(path)
    if resolve(root / "classes.txt").is_file():
        names = find_classes(root, ())
        if len(names) > 255:
            raise DataError(f"{root / 'classes.txt'}: {len(names)} classes; a label image holds 255 at most")
        return Legend(names, {k: k for k in range(len(names))} | {255: IGNORE})
    return None


def parse_legend(path: Path) -> Legend:
    """Read legend.txt or labelmap.txt."""
    found: dict[str, tuple[int, ...]] = {}
    for k, line in enumerate(read_entries(path, "class", "classes"), start=1):
        parts = [part for part in re.split(r"[\s,:;]+", line) if part]
        numbers = [part.isdecimal() and int(part) <= 65535 for part in parts]
        for count in (3, 1):
            if numbers[-count:] == [True] * count and len(parts) > count:
                name, value = " ".join(parts[:-count]), parts[-count:]
                break
            if count == 3 and numbers[:3] == [True] * 3 and len(parts) > 3:
                name, value = " ".join(parts[3:]), parts[:3]
                break
        else:
            raise DataError(f"{path}: class {k} must be NAME R G B, R G B NAME or NAME N, got {line!r}")
        if name in found or tuple(map(int, value)) in found.values():
            raise DataError(f"{path}: class {k}: {line!r} repeats a name or a value of an earlier line")
        found[name] = tuple(map(int, value))
    names = tuple(name for name in found if name.lower() != VOID)
    classes = {value: names.index(name) if name in names else IGNORE for name, value in found.items()}
    if len({len(value) for value in classes}) > 1 or any(len(v) == 3 and max(v) > 255 for v in classes):
        raise DataError(f"{path}: give each class a color, R G B from 0 to 255, or each a number")
    if not names or len(names) > 255:
        raise DataError(f"{path}: {len(names)} classes; a label image holds 1 to 255")
    if len(next(iter(classes))) == 3:
        return Legend(names, colors={(v[0], v[1], v[2]): k for v, k in classes.items()})
    return Legend(names, numbers={v[0]: k for v, k in classes.items()})


def find_legend(root: Path, masks: Iterable[tuple[Path, int | None]]) -> Legend:
    """Return the legend of a folder: as it states, or as its masks, (file, page), tell."""
    stated = read_legend(root)
    if stated and (stated.colors or len(stated.names) != 2 or 1 not in stated.numbers):
        return stated
    numbers: set[int] = set()
    colors: set[Color] = set()
    palettes: set[bytes] = set()
    for path, page in masks:
        try:
            stored = Stored.of(path, page)
        except DataError:  # named when the mask is read
            continue
        if not stored.colored:
            numbers |= set(np.unique(stored.values).tolist())
        if stored.colored or stored.table is not None:
            colors |= {tuple(c) for c in np.unique(stored.as_colors().reshape(-1, 3), axis=0).tolist()}
        palettes |= {stored.palette} if stored.palette is not None else set()
        if stored.colored and len(colors) > 256:
            break
    return _told(root, stated.names if stated else None, (numbers, colors, palettes))


def _told(root: Path, names: tuple[str, ...] | None, values: tuple[set[int], set[Color], set[bytes]]) -> Legend:
    """Return the legend that the values of all masks tell: numbers, colors, and palettes."""
    numbers, colors, palettes = values
    inside = sorted(numbers - {0})
    if colors and not palettes or len(palettes) > 1:
        others = sorted(colors - {(0, 0, 0)})
        if len(others) != 1 or numbers - {0} and not palettes:
            raise DataError(f"{root}: the masks hold {len(colors)} colors, such as {join_reprs(sorted(colors))}: "
                            + HINT.format(root=root))
        return Legend(names or BINARY, colors={(0, 0, 0): 0, others[0]: 1})
    palette = next(iter(palettes), None)
    if len(inside) == 1:
        return Legend(names or BINARY, {0: 0, inside[0]: 1}, palette=palette)
    if names is not None:
        return Legend(names, {0: 0, 1: 1, 255: IGNORE}, palette=palette)
    classes = [number for number in inside if number != 255]
    if classes != list(range(1, len(classes) + 1)):
        raise DataError(f"{root}: the masks hold the numbers {join_reprs(sorted(numbers))}, with gaps: "
                        + HINT.format(root=root) + (", or read numbered objects as instances:DIR" if inside else ""))
    return Legend(("background", *(f"class {k}" for k in classes)) if classes else BINARY,
                  {k: k for k in range(len(classes) + 1)} | {255: IGNORE}, palette=palette)
