"""How the images of a folder are found, matched with their annotations, and split.

Images are found by their ending, in capitals or not, in any format that Pillow reads. An annotation belongs to the
image with the same name without ending. Layouts, where ANN is the folder of the annotations:

- one folder: images with their annotations beside them, or images/ and ANN/;
- split by folders: train/, val/ (or valid/) and test/, each like one folder; or images/train, ANN/train and so on.

A data set without splits is split by share: see ``Shares``.
"""
from __future__ import annotations

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...files import count_of
from ..errors import DataError, NoSplit
from ..files.decode import image_endings
from .segmentation import read_entries

IMAGES = "images", "image", "imgs", "img"
FOLDERS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclasses.dataclass(frozen=True)
class Shares:
    """The shares of the validation and test images in a data set without splits; the others are for training.

    The images are ranked by the SHA-256 sum of "SEED/NAME"; the first are val, the next test. So a split depends on the
    names, the shares and the seed alone, and few images change sides when images are added. A share above 0 has at
    least one image.
    """

    val: float = 0.2
    test: float = 0.1
    seed: int = 0

    def counts(self, total: int, split: str, where: Path) -> tuple[int, int]:
        """Return the numbers of val and test images of all; raise as ``select`` does."""
        val, test = (max(1, int(share * total + 0.5)) if share else 0 for share in (self.val, self.test))
        sizes = {"train": max(total - val - test, 0), "val": val, "test": test}
        available = [name for name in sizes if getattr(self, name, 1)]
        if split not in available:
            raise NoSplit(f"{where}: no split {split!r} with val={self.val:g},test={self.test:g}; available: "
                          f"{', '.join(available)}")
        if not sizes["train"]:
            raise DataError(f"{where}: {count_of(total, 'image')} cannot be split with val={self.val:g},"
                            f"test={self.test:g}: none is left for training")
        return val, test

    def select(self, names: Iterable[str], split: str, where: Path) -> list[str]:
        """Return the names of a split, sorted. Raise ``NoSplit`` or, if there are too few images, ``DataError``."""
        def rank(name: str) -> bytes:
            return hashlib.sha256(f"{self.seed}/{unicodedata.normalize('NFC', name)}".encode(errors="replace")).digest()
        ranked = sorted(sorted(names), key=rank)
        val, test = self.counts(len(ranked), split, where)
        return sorted({"train": ranked[val + test:], "val": ranked[:val], "test": ranked[val:val + test]}[split])

    def block(self, total: int, split: str, where: Path) -> range:
        """Return the pages of a split of one stack: training, then val, then test, as neighbors look alike."""
        val, test = self.counts(total, split, where)
        train = total - val - test
        return {"train": range(train), "val": range(train, train + val), "test": range(train + val, total)}[split]


def split_by_share(splits: Collection[str], shares: Shares | None, where: Path) -> bool:
    """Return whether a data set with these splits of its own is split by share: it has none, or only "train".

    With "train" only, the shares must be given. Raises ``ValueError`` if they are given where others exist.
    """
    if shares is not None and set(splits) - {"train"}:
        raise ValueError(f"{where}: has the splits {', '.join(splits)}; leave out val, test and seed")
    return shares is not None or not splits


def require_split(split: str, splits: Collection[str], where: Path) -> None:
    """Raise ``NoSplit`` unless a data set has the split."""
    if split not in splits:
        hint = "; add ,val=0.2 to take images of train" if set(splits) == {"train"} else ""
        raise NoSplit(f"{where}: no split {split!r}; available: {', '.join(splits) or 'none'}{hint}")


class Files(NamedTuple):
    """The files of a split: images and annotations, each by name without ending, and the two folders."""

    images: dict[str, Path]
    annotations: dict[str, Path]
    folders: tuple[Path, Path]


def find_files(root: Path, folders: Sequence[str], endings: Collection[str],
               match: Callable[[dict[str, Path], dict[str, Path]], dict[str, Path]] | None = None) -> dict[str, Files]:
    """Return the files of each split, or of the split "" if there are none.

    folders: names that the folder of the annotations may have. endings: those of an annotation. match: returns the
    annotations by the names of their images, given both by their own names; by default these are equal.
    """
    found = {}
    for split, (images, beside) in find_places(root, folders).items():
        both = by_name(list_files(images, image_endings())), by_name(list_files(beside, endings))
        own = Files(*both, (images, beside))
        found[split] = own._replace(annotations=match(own.images, own.annotations)) if match else own
    return found


def select_files(files: dict[str, Files], split: str, shares: Shares | None, root: Path) -> Files:
    """Return the files of a split, by share if the data set has no splits."""
    own = files.keys() - {""}
    shared = split_by_share(own, shares, root)
    if not shared:
        require_split(split, sorted(own), root)
    found = files.get("") or files["train" if shared else split]
    if not found.images and not found.annotations:
        raise DataError(f"{root}: contains no images" + ("" if shared else f" of the split {split!r}"))
    if shared:
        names = set((shares or Shares()).select({*found.images, *found.annotations}, split, root))
        images, annotations = ({name: path for name, path in part.items() if name in names} for part in found[:2])
        found = Files(images, annotations, found.folders)
    return found


def find_places(root: Path, folders: Sequence[str]) -> dict[str, tuple[Path, Path]]:
    """Return the folders of the images and of the annotations of each split; of the split "" if there are none."""
    def inside(base: Path) -> tuple[Path, Path]:
        images = find_folder(base, IMAGES) or base
        return images, find_folder(base, folders) or images
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    if splits := split_folders(root):
        return {split: inside(folder) for split, folder in splits.items()}
    images, annotations = inside(root)
    if splits := split_folders(images):
        beside = split_folders(annotations)
        return {split: (folder, beside.get(split, annotations / folder.name)) for split, folder in splits.items()}
    return {"": (images, annotations)}


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folders of the splits in a folder."""
    found = {split: find_folder(root, names) for split, names in FOLDERS.items()}
    return {split: folder for split, folder in found.items() if folder}


def find_folder(root: Path, names: Sequence[str]) -> Path | None:
    """Return the first of these folders that exists, in capitals or not. Raise ``DataError`` if there are several."""
    found = sorted(path for path in root.iterdir() if path.name.lower() in names and path.is_dir())
    if len(found) > 1:
        raise DataError(f"{found[1]}: and {found[0].name} may both be meant; rename one of them")
    return found[0] if found else None


def list_files(folder: Path, endings: Collection[str]) -> list[Path]:
    """Return the files with one of these endings, in capitals or not, sorted; hidden ones are left out."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in endings
                  and not path.name.startswith(".") and path.is_file())


def by_name(files: Iterable[Path]) -> dict[str, Path]:
    """Return files by their names without ending. Raise ``DataError`` if two have the same."""
    found: dict[str, Path] = {}
    for path in files:
        if (other := found.setdefault(path.stem, path)) != path:
            raise DataError(f"{path}: has the same name as {other.name}; rename or remove one of them")
    return found


def resolve(path: Path) -> Path:
    """Return the path, or the only file beside it whose name differs only in capitals."""
    if not path.exists() and path.parent.is_dir():
        alike = [name for name in os.listdir(path.parent) if name.casefold() == path.name.casefold()]
        if len(alike) == 1:
            return path.with_name(alike[0])
    return path


def find_classes(root: Path, found: Iterable[str]) -> tuple[str, ...]:
    """Return the class names: those of ROOT/classes.txt, one a line, or the ones found in the annotations, sorted.

    Raises ``DataError`` if two of those found differ in capitals only, which is a slip as a rule.
    """
    if (path := resolve(root / "classes.txt")).is_file():
        return tuple(read_entries(path, "class", "classes"))
    names = sorted(set(found))
    alike: dict[str, str] = {}
    for name in names:
        if (other := alike.setdefault(name.casefold(), name)) != name:
            raise DataError(f"{root}: the classes {other!r} and {name!r} differ in capitals only; write one of them "
                            "everywhere, or list both in classes.txt")
    return tuple(names)


def left_out(path: Path, reason: str) -> Callable[[list[str]], None]:
    """Return what reads the annotation of an image that cannot be used: its reason goes to ``problems``."""
    return lambda problems: problems.append(f"{path}: {reason}; left out")
