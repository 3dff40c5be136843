"""The readers of ``tests/fuzz_structure.py``: small data sets that use all of a format, and what is right then."""
from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import minicv
from minicv import data, models, training
from minicv.data import CamVid, Cityscapes, CocoDetection, CocoPanoptic, VOCDetection, VOCSegmentation
from minicv.data.check import check
from minicv.data.readers.segmentation import SegmentationReader
from tests.fuzz_structure import Change, Reader, json_changes, line_changes, xml_changes
from tests.structure_files import OWN_FILES

SIZE = H, W = 24, 32
PIXELS = np.random.default_rng(0).integers(0, 256, (3, H, W), np.uint8)


# ---------------------------------------------------------------------------------------------------------
# Objects: what did not change comes out as before
# ---------------------------------------------------------------------------------------------------------
def objects(dataset: Any) -> dict[str, list[tuple]]:
    """Of each image its objects, as values that can be compared."""
    return {sample.name: [
        (*sample.boxes[r].tolist(), dataset.class_names[sample.labels[r]], bool(sample.crowd[r]),
         bool(sample.difficult[r]), None if sample.area is None else float(sample.area[r]),
         None if sample.masks is None else sample.masks[r].tobytes()) for r in range(len(sample.boxes))]
        for sample in dataset}


@functools.cache
def detector(name: str, num_classes: int) -> Any:
    minicv.seed(0)
    return models.build(name, num_classes=num_classes, min_size=32, max_size=48)


def make_targets(dataset: Any) -> None:
    """What a training asks for: an example of every image."""
    if isinstance(dataset, SegmentationReader):
        minicv.seed(0)
        model = models.build("unet", in_channels=3, num_classes=dataset.num_classes, width=1, depth=1)
        task = training.SegmentationTask(model, dataset, training.SegmentationConfig(steps=1, tile=20))
        for i in range(len(dataset)):
            task.example(i)
        return
    masks = any(sample.masks is not None for sample in dataset)
    model = detector("mask_rcnn" if masks else "faster_rcnn", dataset.num_classes)
    task = training.DetectionTask(model, dataset, training.DetectionConfig(steps=1))
    for i in range(len(dataset)):
        task.example(i)


def read_detection(spec: str, opener: Callable, folder: Path, change: Change | None, before: dict | None,
                   affected: Callable[[tuple], tuple[set[str], set[tuple[str, int]]]]) -> dict:
    """Open, read and check; ``affected(place)``: images that may differ in everything, and single objects that may."""
    report = check(f"{spec}:{folder}")
    try:
        dataset = opener(folder)
        found = objects(dataset)
    except data.DataError:
        assert report.faults, "refused, and data check names 0 faults"
        raise
    if dataset.problems:
        assert report.faults, "problems, and data check names 0 faults"
    if not report.faults:
        make_targets(dataset)
    if before is None:
        return found
    images, single = (set(), set()) if change.expected == "same" else affected(change.place)
    for name, old in before.items():
        if name in images:
            continue
        assert name in found, f"{name} is lost"
        new, own = list(found[name]), {k for image, k in single if image == name}
        for k, each in enumerate(old):
            if k not in own:
                assert each in new, f"object {k} of {name} is lost or changed: {dataset.problems}"
                new.remove(each)
        assert len(new) <= 2 * len(own), f"{name} has objects that nobody wrote"
        if len(new) < len(own) and not (change.how == "removed" and len(change.place) <= 2):
            assert dataset.problems, f"an object of {name} is lost in silence"
    return found


def make_coco(folder: Path) -> Path:
    """Three images, the last without objects; polygons of one and two parts, run lengths as numbers and as text."""
    (folder / "annotations").mkdir()
    (folder / "train").mkdir()
    for name in "abc":
        data.write_png(folder / f"train/{name}.png", PIXELS)
    square = [[4, 2, 20, 2, 20, 14.5, 4, 14.5]]
    counts = {"size": [H, W], "counts": [24 * 3, 24 * 9, 24 * 20]}
    rows = [(5, 1, 3, [4, 2, 16, 12.5], square, 0), (6, 1, 8, [3, 0, 9, 24], counts, 1),
            (7, 2, 3, [1, 1, 28, 12], [[1, 1, 9, 1, 9, 13, 1, 13], [20, 1, 29, 1, 29, 13]], 0),
            (9, 2, 8, [4, 2, 16, 12], {"size": [H, W], "counts": "T3X6d>"}, 0)]
    path = folder / "annotations/instances_train.json"
    path.write_text(json.dumps({
        "info": {"year": 2026}, "images": [{"id": n, "file_name": f"{name}.png", "height": H, "width": W}
                                           for n, name in enumerate("abc", 1)],
        "annotations": [{"id": i, "image_id": image, "category_id": category, "bbox": box, "segmentation": outline,
                         "iscrowd": crowd, "area": 99.5} for i, image, category, box, outline, crowd in rows],
        "categories": [{"id": 3, "name": "狗", "supercategory": "animal"}, {"id": 8, "name": "car"}]},
        ensure_ascii=False), encoding="utf-8")
    return path


OF_ANNOTATION = [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


def affected_coco(place: tuple) -> tuple[set[str], set[tuple[str, int]]]:
    match place:
        case ("images", int(i), *_):
            return {"abc"[i]}, set()
        case ("annotations", int(j), *_):
            return set(), {OF_ANNOTATION[j]}
        case ("categories", int(k), *_):
            return set(), {OF_ANNOTATION[j] for j in (k, k + 2)}
    return (set(), set()) if place and place[0] == "info" else (set("abc"), set())


COMPONENTS = {"bbox": {0, 1, 2, 3}, "category_id": {4}, "iscrowd": {5}, "area": {7}, "segmentation": {8}}


def read_coco(folder: Path, file: Path, change: Change | None, before: dict | None) -> dict:
    """An object of which one value changed has all its others, and that value as a number of the right kind."""
    found = read_detection("coco", CocoDetection, folder, change, before, affected_coco)
    if before is None or len(change.place) < 3 or change.place[0] != "annotations":
        return found
    (image, k), field = OF_ANNOTATION[change.place[1]], change.place[2]
    old = before[image][k]
    for new in set(found[image]) - set(before[image]):
        differ = {c for c, (a, b) in enumerate(zip(old, new, strict=True)) if a != b}
        assert differ <= COMPONENTS.get(field, set()), f"{field} changed, and components {differ} of the object"
        if change.how not in ("removed", "renamed", "capitals") and field in ("iscrowd", "area"):
            value = json.loads(file.read_text(encoding="utf-8"))["annotations"][change.place[1]][field]
            assert type(value) in (int, float, bool), f"{field} {value!r} is read"
            assert new[5 if field == "iscrowd" else 7] == value, f"{field} {value!r} is read as {new}"
    return found


def make_voc(folder: Path) -> Path:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    things = "".join(f"<object><name>{name}</name><pose>Left</pose><difficult>{difficult}</difficult><bndbox>"
                     f"<xmin>{x}</xmin><ymin>2</ymin><xmax>{x + 9}</xmax><ymax>19.5</ymax></bndbox></object>"
                     for name, difficult, x in (("cat", 0, 3), ("狗", 1, 12)))
    for name in "ab狗":
        data.write_png(folder / f"JPEGImages/{name}.jpg", PIXELS)
        (folder / f"Annotations/{name}.xml").write_text(
            f"<annotation><folder>狗子大</folder><filename>{name}.jpg</filename><size><width>{W}</width>"
            f"<height>{H}</height><depth>3</depth></size>{things}</annotation>", encoding="utf-8")
    (folder / "ImageSets/Main/train.txt").write_text("a\nb\n狗\n", encoding="utf-8")
    return folder / "Annotations/a.xml"


def make_voc_list(folder: Path) -> Path:
    make_voc(folder)
    return folder / "ImageSets/Main/train.txt"


def affected_voc(place: tuple) -> tuple[set[str], set[tuple[str, int]]]:
    """The objects are the children 3 and 4 of the root."""
    if isinstance(place[0] if place else None, int):
        return set(), {("a", place[0] - 3)} if place[0] >= 3 else set()
    return {"a"}, set()


def read_voc(folder, file, change, before):
    return read_detection("voc-detection", VOCDetection, folder, change, before, affected_voc)


# ---------------------------------------------------------------------------------------------------------
# Panoptic images
# ---------------------------------------------------------------------------------------------------------
def make_panoptic(folder: Path) -> Path:
    (folder / "annotations/panoptic_train").mkdir(parents=True)
    (folder / "train").mkdir()
    segments = np.zeros((3, H, W), np.uint8)
    segments[0, :, 4:9], segments[1, 3:, 12:] = 5, 2  # 5 and 512
    for name in "ab":
        data.write_png(folder / f"train/{name}.jpg", PIXELS)
        data.write_png(folder / f"annotations/panoptic_train/{name}.png", segments)
    path = folder / "annotations/panoptic_train.json"
    path.write_text(json.dumps({
        "images": [{"id": n, "file_name": f"{name}.jpg", "height": H, "width": W} for n, name in enumerate("ab", 1)],
        "annotations": [{"image_id": n, "file_name": f"{name}.png", "segments_info": [
            {"id": 5, "category_id": 9, "iscrowd": 0}, {"id": 512, "category_id": 4, "iscrowd": 1}]}
            for n, name in enumerate("ab", 1)],
        "categories": [{"id": 9, "name": "空", "isthing": 0}, {"id": 4, "name": "car", "isthing": 1}]},
        ensure_ascii=False), encoding="utf-8")
    return path


def read_panoptic(folder, file, change, before):
    report = check(f"coco-panoptic:{folder}")
    try:
        dataset = CocoPanoptic(folder)
        found = {s.name: (s.segments.tobytes(), [dataset.class_names[k] for k in s.classes], s.crowd.tolist())
                 for s in dataset}
    except data.DataError:
        assert report.faults, "refused, and data check names 0 faults"
        raise
    assert report.faults or not dataset.problems, "problems, and data check names 0 faults"
    if before is not None:
        images = set() if change.expected == "same" else {"ab"[change.place[1]]} if len(change.place) > 1 and (
            change.place[0] != "categories") else set("ab")
        for name in before.keys() - images:
            assert found[name] == before[name], f"{name} has changed"
        assert len(found) == len(before) or dataset.problems or change.how == "removed", "an image is lost in silence"
        if change.place[:1] == ("categories",):
            assert all(found[name][0] == before[name][0] for name in before), "segments have changed"
    return found


# ---------------------------------------------------------------------------------------------------------
# Lists and layouts
# ---------------------------------------------------------------------------------------------------------
def names_of(spec: str, opener: Callable, folder: Path, change: Change | None, name: Callable[[str], str]) -> list[str]:
    """The images of a list, which are those of the lines expected."""
    report = check(f"{spec}:{folder}")
    try:
        dataset = opener(folder)
        found = [sample.name for sample in dataset]
    except data.DataError:
        assert report.faults, "refused, and data check names 0 faults"
        raise
    if not report.faults:
        make_targets(dataset)
    if change is not None and isinstance(change.expected, list):
        assert found == [name(line) for line in change.expected], f"reads {found} of {change.expected}"
    return found


def make_pairs(folder: Path, images: str, labels: str, names: str) -> None:
    label = np.arange(H * W).reshape(H, W) % 3
    for name in names:
        for pattern, array in ((images, PIXELS), (labels, label.astype(np.uint8))):
            path = folder / pattern.format(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            data.write_png(path, array)


def make_voc_labels(folder: Path) -> Path:
    make_pairs(folder, "JPEGImages/{}.jpg", "SegmentationClass/{}.png", "ab狗")
    path = folder / "ImageSets/Segmentation/train.txt"
    path.parent.mkdir(parents=True)
    path.write_text("a\nb\n狗\n", encoding="utf-8")
    for split in ("val", "trainval"):
        (path.parent / f"{split}.txt").write_text("a\n")
    return path


def make_camvid(folder: Path) -> Path:
    for split in ("train", "val", "test"):
        make_pairs(folder, f"{split}/{{}}.png", f"{split}annot/{{}}.png", "ab狗" if split == "train" else split[0])
    path = folder / "train.txt"
    path.write_text("".join(f"/SegNet/CamVid/train/{n}.png /SegNet/CamVid/trainannot/{n}.png\n" for n in "ab狗"),
                    encoding="utf-8")
    return path


def make_dsb(folder: Path) -> Path:
    for name in "ab狗":
        for part in ("images", "masks"):
            (folder / "stage1_train" / name / part).mkdir(parents=True)
        data.write_png(folder / f"stage1_train/{name}/images/{name}.png", PIXELS)
        data.write_png(folder / f"stage1_train/{name}/masks/m.png", np.arange(H * W).reshape(H, W) >= H * W - 99)
    (folder / "train.txt").write_text("a\nb\n狗\n", encoding="utf-8")
    return folder / "train.txt"


def make_cityscapes(folder: Path) -> Path:
    for split in ("train", "val"):
        make_pairs(folder, f"leftImg8bit/{split}/ulm/{split}{{}}_leftImg8bit.png",
                   f"gtFine/{split}/ulm/{split}{{}}_gtFine_labelIds.png", "ab")
    return folder


def make_nuclei(folder: Path) -> Path:
    make_dsb(folder)
    return folder


def layout_changes(patterns: str) -> Callable[[bytes], Iterator[Change]]:
    """Each file that a pattern finds: removed, renamed, emptied, copied, a folder, a hidden twin."""
    def act(pattern, k, how):
        def apply(folder, _):
            path = sorted(folder.glob(pattern))[k]
            content = path.read_bytes()
            if how not in ("copied", "hidden twin", "text beside"):
                path.unlink()
            if how == "a folder":
                path.mkdir()
            names = {"renamed": f"x{path.name}", "capitals": path.name.upper(), "no ending": path.stem,
                     "copied": f"copy of {path.name}", "hidden twin": f"._{path.name}", "text beside": "notes.txt",
                     "emptied": path.name, "blank": f"{path.name} "}
            if how in names:
                path.with_name(names[how]).write_bytes(b"" if how in ("emptied", "hidden twin") else content)
        return apply

    def changes(_):
        for pattern in patterns.split():
            for k in range(2):
                for how in ("removed", "renamed", "capitals", "no ending", "emptied", "a folder", "copied",
                            "hidden twin", "text beside", "blank"):
                    yield Change((pattern, k), how, act(pattern, k, how), "same" if how == "text beside" else None)
    return changes


def read_layout(spec: str, opener: Callable, folder: Path, change: Change | None, before: Any) -> list[str]:
    found = names_of(spec, opener, folder, None, str)
    assert before is None or set(before) <= set(found) or change.how in ("removed", "renamed") and spec == "dsb2018", (
        f"{set(before) - set(found)} are lost in silence")
    return found


READERS = {
    "coco": Reader(make_coco, json_changes, read_coco),
    "coco-panoptic": Reader(make_panoptic, json_changes, read_panoptic),
    "voc-detection, XML": Reader(make_voc, xml_changes, read_voc),
    "voc-detection, list": Reader(make_voc_list, line_changes, lambda folder, file, change, before: names_of(
        "voc-detection", VOCDetection, folder, change, str)),
    "voc, list": Reader(make_voc_labels, line_changes, lambda folder, file, change, before: names_of(
        "voc", VOCSegmentation, folder, change, str)),
    "camvid, list": Reader(make_camvid, line_changes, lambda folder, file, change, before: names_of(
        "camvid", CamVid, folder, change, lambda line: Path(line.split()[0]).stem)),
    "dsb2018, list": Reader(make_dsb, line_changes, lambda folder, file, change, before: names_of(
        "dsb2018", data.DSB2018, folder, change, str)),
    "dsb2018, file names": Reader(
        make_nuclei, layout_changes("stage1_train/*/images/* stage1_train/*/masks/*"),
        lambda folder, file, change, before: read_layout("dsb2018", data.DSB2018, folder, change, before)),
    "cityscapes, file names": Reader(
        make_cityscapes, layout_changes("leftImg8bit/*/*/* gtFine/*/*/*"),
        lambda folder, file, change, before: read_layout("cityscapes", Cityscapes, folder, change, before)),
    **OWN_FILES,
}
