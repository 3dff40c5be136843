"""The readers of ``tests/fuzz_structure.py``: those of labeling tools' formats, and all others."""
from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from minicv import data
from minicv.data import DataError, ImageMasks, Instances, LabelMe, NoSplit, VOCDetection, YoloDetection
from tests import structure_readers
from tests.fuzz_structure import Change, Reader, encoded, json_changes, write, xml_changes
from tests.structure_readers import PIXELS, H, W, affected_voc, layout_changes, make_pairs, names_of, read_detection

NAMES = [f"{name}{k}" for name in "ab狗" for k in range(3)]  # nine images: six, two and one by share, or in folders


def make_labelimg(folder: Path) -> Path:
    things = "".join(f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x}</xmin><ymin>2</ymin>"
                     f"<xmax>{x + 9}</xmax><ymax>19</ymax></bndbox></object>" for name, x in (("cat", 3), ("狗", 12)))
    for name in NAMES:
        place = folder / {"0": "train", "1": "valid", "2": "test"}[name[-1]]
        place.mkdir(exist_ok=True)
        data.write_png(place / f"{name[0]}{'' if name[-1] == '0' else name[-1]}.png", PIXELS)
        stem = name[0] + name[-1].strip("0")
        (place / f"{stem}.xml").write_text(
            f"<annotation><folder>x</folder><filename>{stem}.png</filename><size><width>{W}</width>"
            f"<height>{H}</height><depth>3</depth></size>{things}</annotation>", encoding="utf-8")
    return folder / "train/a.xml"


# ---------------------------------------------------------------------------------------------------------
# YOLO
# ---------------------------------------------------------------------------------------------------------
def make_yolo(folder: Path, labels: str) -> Path:
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for name in "ab":
            stem = name if split == "train" else f"{name}{split}"
            data.write_png(folder / f"images/{split}/{stem}.png", PIXELS)
            (folder / f"labels/{split}/{stem}.txt").write_text(labels)
    (folder / "data.yaml").write_text("path: .  # root\ntrain: images/train\nval: images/val\n\nnc: 2\nnames:\n"
                                      "  0: cat\n  1: '狗'\ndownload: |\n  x\n", encoding="utf-8")
    return folder / "labels/train/a.txt"


BOXES = "0 0.25 0.5 0.25 0.25\n1 0.75 0.5 0.125 0.5\n"
POLYGONS = "0 0.25 0.25 0.5 0.25 0.5 0.5\n1 0.75 0.25 0.875 0.25 0.875 0.5 0.75 0.5\n"
NO_NUMBERS = ["x", "1e400", "nan", "inf", "1_0", "１", "true", "狗", "0,5", '"0"']
TOKENS = ["", "-1", "2", "0.5", "7", "0.5 0.5", *NO_NUMBERS]


def token_changes(content: bytes) -> Iterator[Change]:
    """Each number of a label file replaced, each line removed or repeated; encodings."""
    lines = content.decode().splitlines()
    for k, line in enumerate(lines):
        parts = line.split()
        for j in range(len(parts)):
            for token in TOKENS:
                new = " ".join([*parts[:j], token, *parts[j + 1:]])
                changed = write("\n".join([*lines[:k], new, *lines[k + 1:]]).encode())
                yield Change((k, j), f"{token!r}", changed, "refused" if token in NO_NUMBERS else None)
        yield Change((k,), "removed", write("\n".join(lines[:k] + lines[k + 1:]).encode()))
        yield Change((k,), "repeated", write("\n".join([*lines, line]).encode()))
    for how, new in {"CRLF": "\r\n".join(lines), "tabs": "\n".join(lines).replace(" ", "\t"),
                     "blank lines": "\n\n" + "\n \n".join(lines)}.items():
        yield Change((), how, write(new.encode()), "same")
    yield from encoded("\n".join(lines), ["utf-8-sig", "utf-16"], [])
    yield Change((), "bytes", write(b"\xff\xfe\xfd"), "refused")


def affected_line(place: tuple) -> tuple[set[str], set[tuple[str, int]]]:
    return (set(), {("a", place[0])}) if place else ({"a"}, set())


def yaml_changes(content: bytes) -> Iterator[Change]:
    """Each line removed, repeated, indented, its value replaced; encodings."""
    lines = content.decode().splitlines()
    for k, line in enumerate(lines):
        key = line.partition(":")[0]
        for how, new in {"removed": [], "repeated": [line, line], "indented": [f"   {line}"], "a list": [f"{key}: [1]"],
                         "a dict": [f"{key}: {{a: b}}"], "a tag": [f"{key}: !!x 1"], "an anchor": [f"{key}: &x 1"],
                         "nothing": [f"{key}:"], "text": [f"{key}: x"], "no key": ["x"], "a tab": [f"\t{line}"],
                         "open": [f"{key}: ["], "quote": [f"{key}: 'x"], "number": [f"{key}: 7"]}.items():
            yield Change((k,), how, write("\n".join([*lines[:k], *new, *lines[k + 1:]]).encode()))
    yield from encoded(content.decode(), ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"], ["gbk", "big5"])
    yield Change((), "nothing", write(b""), "refused")
    yield Change((), "JSON", write(b'{"names": ["a"]}'), "refused")


def read_yaml(folder, file, change, before):
    """Whatever data.yaml says, what is read are these images and boxes; only names may differ."""
    try:
        found = read_detection("yolo", YoloDetection, folder, None, None, lambda place: (set(), set()))
    except NoSplit as error:  # data.yaml names no images for training
        raise DataError(str(error)) from error
    boxes = {name: sorted(each[:4] for each in objects) for name, objects in found.items()}
    if before is not None:
        wanted = {name: sorted(each[:4] for each in objects) for name, objects in before.items()}
        assert boxes == wanted or boxes.keys() == {"aval", "bval"} or boxes.keys() == {"a", "b", "aval", "bval"}
    return found


# ---------------------------------------------------------------------------------------------------------
# LabelMe
# ---------------------------------------------------------------------------------------------------------
def make_labelme(folder: Path) -> Path:
    def shape(label, points, kind, group=None):
        return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}
    shapes = [shape("cat", [[2, 2], [12, 2], [12, 14.5]], "polygon"), shape("狗", [[20, 3], [28, 20]], "rectangle"),
              shape("狗", [[8, 18], [8, 21]], "circle", 4)]
    for split in ("train", "val", "test"):
        (folder / split).mkdir()
        for name in "ab":
            stem = name if split == "train" else f"{name}{split}"
            data.write_png(folder / f"{split}/{stem}.png", PIXELS)
            (folder / f"{split}/{stem}.json").write_text(json.dumps({
                "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.png", "imageData": None,
                "imageHeight": H, "imageWidth": W}, ensure_ascii=False), encoding="utf-8")
    return folder / "train/a.json"


def affected_labelme(place: tuple) -> tuple[set[str], set[tuple[str, int]]]:
    match place:
        case ("shapes", int(k), *_):
            return set(), {("a", k)}
    return {"a"}, set()


# ---------------------------------------------------------------------------------------------------------
# Masks
# ---------------------------------------------------------------------------------------------------------
def make_masks(folder: Path) -> Path:
    for split in ("train", "val"):
        make_pairs(folder, f"{split}/images/{{}}.png", f"{split}/masks/{{}}_mask.png",
                   [f"{name}{split}" for name in "ab狗"])
    return folder


def make_legend(folder: Path, name: str, text: str) -> Path:
    make_masks(folder)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def legend_changes(content: bytes) -> Iterator[Change]:
    lines = content.decode().splitlines()
    for k, line in enumerate(lines):
        for how, new in {"removed": [], "repeated": [line, line], "nothing": [""], "comment": [f"# {line}"],
                         "number": ["7"], "numbers": ["1 2 3"], "more": [f"{line} 9"], "letters": ["x y z"],
                         "large": [f"{line.split()[0]} 70000"], "negative": [f"{line.split()[0]} -1"]}.items():
            yield Change((k,), how, write("\n".join([*lines[:k], *new, *lines[k + 1:]]).encode()))
    yield from encoded(content.decode(), ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"], ["gbk", "big5"])
    yield Change((), "nothing", write(b""), "refused")


def read_masks(opener: Callable, spec: str, folder: Path, file: Path, change: Change | None, before: Any) -> dict:
    """The images that are read are those with a mask, and no label is another one's."""
    names_of(spec, opener, folder, None, str)
    found = {sample.name: sample.label.tobytes() if opener is ImageMasks else sample.masks.tobytes()
             for sample in opener(folder)}
    if before is not None and change.expected == "same":
        assert found == before
    if before is not None and opener is Instances:
        for name in before.keys() & found.keys():
            assert found[name] == before[name]
    return found


FORMATS = {
    "labelimg, XML": Reader(make_labelimg, xml_changes, lambda folder, file, change, before: read_detection(
        "voc-detection", VOCDetection, folder, change, before, affected_voc)),
    **{f"yolo, {name}": Reader(functools.partial(make_yolo, labels=text), token_changes,
                               lambda folder, file, change, before: read_detection(
                                   "yolo", YoloDetection, folder, change, before, affected_line))
       for name, text in (("boxes", BOXES), ("polygons", POLYGONS))},
    "yolo, data.yaml": Reader(lambda folder: make_yolo(folder, BOXES).parents[2] / "data.yaml", yaml_changes,
                              read_yaml),
    "labelme": Reader(make_labelme, json_changes, lambda folder, file, change, before: read_detection(
        "labelme", LabelMe, folder, change, before, affected_labelme)),
    "masks, classes.txt": Reader(
        functools.partial(make_legend, name="classes.txt", text="road\n空\ncar\n"), legend_changes,
        functools.partial(read_masks, ImageMasks, "masks")),
    "masks, legend.txt": Reader(
        functools.partial(make_legend, name="legend.txt", text="road 0\n空 1\ncar 2\n"), legend_changes,
        functools.partial(read_masks, ImageMasks, "masks")),
    "masks, file names": Reader(make_masks, layout_changes("train/images/* train/masks/*"),
                                functools.partial(read_masks, ImageMasks, "masks")),
    "instances, file names": Reader(make_masks, layout_changes("train/images/* train/masks/*"),
                                    functools.partial(read_masks, Instances, "instances")),
}
READERS = structure_readers.READERS | FORMATS
