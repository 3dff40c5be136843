"""Image files of every kind, whole and damaged by structure: ``python -m tests.fuzz_images [--sample N]``.

Each file (``tests/image_corpus.py``) is given to the readers. What a reader returns must be what was written; otherwise
it must raise one DataError that is short and names the file. The table counts the files of each reader; whatever else
happens is listed and counts as wrong.
"""
from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from minicv.data import CamVid, DataError, read_image, read_label, write_png
from minicv.data.files.images import read_label_colors, read_mask
from minicv.data.readers.camvid import GROUPS
from minicv.data.readers.cityscapes import LABELS, Cityscapes
from minicv.data.readers.dsb2018 import read_nuclei
from minicv.data.readers.isbi import read_slice
from minicv.data.readers.panoptic import read_segments
from minicv.data.readers.voc_segmentation import palette, read_voc_label
from tests.image_corpus import (
    SMALL,
    File,
    H,
    W,
    damaged,
    own_pngs,
    own_tiffs,
    pillow,
    several_images,
    written_by_pillow,
)
from tests.image_files import damaged_png, png


# ---------------------------------------------------------------------------------------------------------
# Readers
# ---------------------------------------------------------------------------------------------------------
class Wrong(Exception):
    """What a reader returned is not what the file says."""


def compare(found: np.ndarray, expected: np.ndarray | float | None, slack: float = 0) -> str:
    """"read", or Wrong; ``expected`` nan: not judged."""
    if expected is None:
        raise Wrong(f"was read: {found.shape} {found.ravel()[:4]}")
    if not np.isscalar(expected) and (found.shape != expected.shape or np.abs(found - expected).max() > slack):
        raise Wrong(f"other values: {found.shape} {found.ravel()[:6]} for {expected.shape} {expected.ravel()[:6]}")
    return "read"


def image_rgb(path: Path, file: File) -> str:
    return compare(read_image(path, "RGB").transpose(1, 2, 0), file.rgb, file.slack)


def image_gray(path: Path, file: File) -> str:
    expected = None if file.rgb is None else file.rgb @ (0.299, 0.587, 0.114)
    return compare(read_image(path, "L")[0], expected, file.slack + (0.51 / 255))


def label_numbers(path: Path, file: File) -> str:
    return compare(read_label(path), file.numbers)


def label_colors(path: Path, file: File) -> str:
    return compare(read_label_colors(path), file.colors)


def mask(path: Path, file: File) -> str:
    found = read_mask(path)
    values = None if file.rgb is None else np.unique(file.rgb.round(6).reshape(-1, 3), axis=0)
    two = values is not None and (len(values) == 1 or (len(values) == 2 and not values[0].any()))
    return compare(found.astype(float), (file.rgb > 0).any(axis=2).astype(float) if two else None)


GENERIC = {"read_image, RGB": image_rgb, "read_image, gray": image_gray, "read_label": label_numbers,
           "read_label_colors": label_colors, "read_mask": mask}


# ---------------------------------------------------------------------------------------------------------
# Data sets: label files of each kind that their readers take, whole and damaged
# ---------------------------------------------------------------------------------------------------------
def label_files(numbers: np.ndarray, colors: np.ndarray | None) -> Iterator[File]:
    """numbers: (H, W), gray. colors: uint8 (256, 3), of the numbers; None if colors say nothing here."""
    truth, clear = numbers.astype(int), np.full((H, W), 255)
    yield File("gray", png(truth), numbers=truth)
    yield File("gray as RGB", png(np.dstack([truth] * 3)), numbers=truth)
    yield File("gray with alpha", png(np.dstack([truth, clear])), numbers=truth)
    yield File("gray, 16 bits", png(truth, 16), numbers=truth)
    yield File("gray palette", png(truth, palette=[[k] * 3 for k in range(256)]), numbers=truth)
    yield File("gray JPEG", pillow(Image.fromarray(numbers), "JPEG"))
    yield File("gray, half transparent", png(np.dstack([truth, (clear * SMALL) % 256])))
    yield File("negative", pillow(Image.fromarray(-1 - truth.astype(np.int32)), "TIFF"))
    for bits in (2, 4):
        if truth.max() < 2 ** bits:
            yield File(f"gray, {bits} bits", png(truth, bits), numbers=truth)
    if colors is None:
        return
    own, where = np.unique(truth, return_inverse=True)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(own))
        shuffled = png(np.argsort(order)[where].reshape(H, W), palette=colors[own[order]].tolist())
        yield File(f"palette in order {seed}", shuffled, numbers=truth)
    yield File("RGB", png(colors[truth].astype(int)), numbers=truth)
    yield File("RGBA", png(np.dstack([colors[truth].astype(int), clear])), numbers=truth)
    yield File("RGB JPEG", pillow(Image.fromarray(colors[truth]), "JPEG"))
    yield File("RGB resized", pillow(Image.fromarray(colors[truth]).resize((2 * W, 2 * H), 2), "PNG"))


def label_reader(read: Callable[[Path], np.ndarray], classes: dict[int, int]) -> Callable[[Path, File], str]:
    """Compare classes (H, W), of which the file says the numbers."""
    def run(path: Path, file: File) -> str:
        found = read(path).astype(int)
        return compare(found, None if file.numbers is None else np.vectorize(classes.get)(file.numbers))
    return run


def slice_label(path: Path) -> np.ndarray:
    return read_slice(path.parent.parent, int(path.stem)).label


def nucleus_mask(path: Path) -> np.ndarray:
    problems: list[str] = []
    record = read_nuclei(path.parent.parent, problems)
    return record.masks().any(axis=0)


def table_of(colors: dict[int, tuple[int, int, int]]) -> np.ndarray:
    table = np.zeros((256, 3), np.uint8)
    for number, color in colors.items():
        table[number] = color
    return table


STREETS = {k: next(iter(group.values())) for k, group in enumerate(GROUPS.values())}  # class -> color
TRAIN_IDS = {k: color for k, (_, color) in enumerate(LABELS.values())}
LISTED = np.array([0, 3, 8, 2, 5])  # the classes that occur
MASK = (SMALL == 1).astype(np.uint8)
BINARY = {k: int(k > 0) for k in range(256)}
SETS = {  # reader -> where its label file lies, the reader, number -> class, numbers in the file, their colors
    "camvid": ("a.png", CamVid.read_label, {k: k for k in range(11)}, LISTED[SMALL], table_of(STREETS)),
    "voc": ("a.png", read_voc_label, {k: k for k in range(21)}, LISTED[SMALL], palette()),
    "cityscapes, labelTrainIds": ("a_gtFine_labelTrainIds.png", Cityscapes.read_label, {k: k for k in range(19)},
                                  LISTED[SMALL], table_of(TRAIN_IDS)),
    "cityscapes, labelIds": ("a_gtFine_labelIds.png", Cityscapes.read_label, {7: 0, 8: 1, 26: 13, 0: 255, 33: 18},
                             np.array([7, 8, 26, 0, 33])[SMALL], None),
    "coco-panoptic": ("a.png", read_segments, {k: k for k in range(256)}, LISTED[SMALL],
                      np.stack([np.arange(256), *np.zeros((2, 256))], axis=1).astype(np.uint8)),
    "isbi2012": ("label/7.png", slice_label, BINARY, 255 * MASK, table_of({255: (255, 255, 255)})),
    "dsb2018": ("masks/m.png", nucleus_mask, BINARY, 255 * MASK, table_of({255: (255, 255, 255)}))}


def of_sets() -> Iterator[tuple[str, Callable, str, File]]:
    """Reader by name, what runs it, where the file lies, the file."""
    for name, (place, read, classes, numbers, colors) in SETS.items():
        run = label_reader(read, classes)
        for file in label_files(numbers.astype(np.uint8), colors):
            if name == "coco-panoptic" and file.name in ("gray as RGB", "gray palette", "RGB resized"):
                continue  # colors, all of which are numbers of some segment
            if name == "coco-panoptic" and file.name.startswith("gray"):
                file = file._replace(numbers=None)
            yield name, run, place, file
            if file.numbers is not None and not np.isscalar(file.numbers):
                for what, content in damaged_png(file.content):
                    yield name, run, place, file._replace(name=f"{file.name}: {what}", content=content)


# ---------------------------------------------------------------------------------------------------------
# Places that are no files
# ---------------------------------------------------------------------------------------------------------
def odd_places(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Paths, and whether an image can be read there."""
    content = png(SMALL)
    for name in ("with space.png", "ünï código 图.png", "new\nline.png", "wrong.jpg", "none", "x" * 250, "-x.png",
                 "%s{0}.png"):
        (folder / name).write_bytes(content)
        yield folder / name, True
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "to nothing.png").symlink_to(folder / "nowhere")
    (folder / "link.png").symlink_to(folder / "none")
    os.mkfifo(folder / "pipe.png")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("<html>404</html>")
    (folder / "locked.png").write_bytes(content)
    (folder / "locked.png").chmod(0)
    yield folder / "link.png", True
    for name in ("folder.png", "loop.png", "to nothing.png", "pipe.png", "empty.png", "text.png", "missing.png",
                 "y" * 300, "none/below.png", "zero\0byte.png"):
        yield folder / name, False
    yield folder / "locked.png", os.access(folder / "locked.png", os.R_OK)


# ---------------------------------------------------------------------------------------------------------
# Running
# ---------------------------------------------------------------------------------------------------------
def attempt(run: Callable[[], str], path: Path) -> str:
    """"read", "refused", or what went wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about the damage
            return run()
    except DataError as error:
        if str(path) not in str(error):
            return f"its error does not name the file: {error}"
        return "refused" if len(str(error)) < 500 + len(str(path)) else f"an error of {len(str(error))} characters"
    except BaseException as error:  # any other is a hole in the wall
        return f"{type(error).__name__}: {error}"


def trials(folder: Path) -> Iterator[tuple[str, str, Path, Callable[[], str], bytes | None]]:
    """Reader, name of the file, its path, what reads it, its content."""
    for group in (written_by_pillow, own_pngs, own_tiffs, several_images, damaged):
        for file in group():
            suffix = {b"\x89P": ".png", b"\xff\xd8": ".jpg", b"II": ".tif", b"MM": ".tif"}.get(file.content[:2], ".png")
            for name, run in GENERIC.items():
                path = folder / f"file{suffix}"
                yield name, file.name, path, lambda run=run, path=path, file=file: run(path, file), file.content
    for name, run, place, file in of_sets():
        path = folder / place
        yield name, file.name, path, lambda run=run, path=path, file=file: run(path, file), file.content
    for path, good in odd_places(folder / "odd"):
        file = File("", b"", rgb=np.dstack([SMALL / 255] * 3)) if good else File("", b"")
        name = f"the path {path.name!r}"
        yield "read_image, RGB", name, path, lambda path=path, file=file: image_rgb(path, file), None


def prepare(folder: Path) -> None:
    for place in ("label", "masks", "image", "images", "odd"):
        (folder / place).mkdir()
    image = np.resize(SMALL, (H, W)).astype(np.uint8)
    write_png(folder / "image/7.png", image)
    write_png(folder / f"images/{folder.name}.png", image)


def main(folder: Path, every: int = 1, show: int = 40) -> Counter:
    """Try every n-th file; counts by (reader, result)."""
    counts, shown = Counter(), 0
    prepare(folder)
    for k, (reader, name, path, run, content) in enumerate(trials(folder)):
        if k % every and content is not None:
            continue
        if content is not None:
            path.write_bytes(content)
        result = attempt(run, path)
        if result not in ("read", "refused"):
            shown += 1
            if shown <= show:
                print(f"{reader}: {name}: {result}"[:300].replace("\n", " "), flush=True)
            result = "wrong"
        counts[reader, result] += 1
    return counts


def table(counts: Counter) -> str:
    readers = list(dict.fromkeys(reader for reader, _ in counts))
    rows = [(r, sum(counts[r, k] for k in ("read", "refused", "wrong")), counts[r, "refused"], counts[r, "read"],
             counts[r, "wrong"]) for r in readers]
    total = ("all", *(sum(row[k] for row in rows) for k in range(1, 5)))
    lines = ["| reader | files tried | refused by name | read right | wrong |", "|---|---|---|---|---|"]
    return "\n".join(lines + [f"| {' | '.join(map(str, row))} |" for row in (*rows, total)])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--sample", type=int, default=1, metavar="N", help="every N-th file only")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="minicv-images-") as place:
        result = main(Path(place), options.sample)
    print(table(result))
    sys.exit(any(kind == "wrong" for _, kind in result))
