"""Recognize the format of a folder by what lies in it, and say why."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element

from ..files import abbreviate
from .errors import DataError
from .files.decode import image_endings
from .files.text import read_json, read_xml
from .readers.coco import ROBOFLOW
from .readers.folders import find_files, find_places, list_files, resolve, split_folders
from .readers.image_masks import MASKS, list_masks
from .readers.labelme import FOLDERS as JSON_FOLDERS
from .readers.legend import FILES, Stored, read_legend
from .readers.voc_detection import FOLDERS as XML_FOLDERS
from .readers.yolo import LABELS, find_config
from .registry import DATASETS, available
from .spec import parse_spec

LOOKED_AT = 20  # masks


def recognize(root: Path) -> dict[str, str]:
    """Return the formats that a folder fits, by name, each with the reason.

    Raises ``DataError`` if there is no such folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    found = {}
    for name, reason_for in EVIDENCE.items():
        try:
            if reason := reason_for(root):
                found[name] = reason
        except (DataError, OSError):  # a file that cannot be read is no evidence
            continue
    return found


def recognized_spec(text: str) -> tuple[str, str]:
    """Return the spec of a folder that is given without a name, and why; any other spec as it is, and "".

    Raises ``DataError`` if no format fits, or more than one.
    """
    spec = parse_spec(text)
    path = spec.name + (f":{spec.path}" if spec.path else "")
    if spec.name in DATASETS and (spec.path or not DATASETS[spec.name].needs_path) or not (
            path and Path(path).is_dir()):
        return text, ""
    found = recognize(Path(path))
    if not found:
        raise DataError(f"{path}: fits no format; it holds {abbreviate(sorted(p.name for p in Path(path).iterdir()))}. "
                        f"The formats: {available()}")
    if len(found) > 1:
        raise DataError(f"{path}: {len(found)} formats fit; name one, as in {next(iter(found))}:{text}. "
                        + "; ".join(f"{name}: {reason}" for name, reason in found.items()))
    ((name, reason),) = found.items()
    return f"{name}:{text}", reason


def _folders(*names: str) -> Callable[[Path], str]:
    """Return a function that says that these folders or files exist."""
    return lambda root: f"has {' and '.join(names)}" if all((root / name).exists() for name in names) else ""


def _glob(pattern: str) -> Callable[[Path], str]:
    def reason(root: Path) -> str:
        found = sorted(root.glob(pattern))
        return f"has {found[0].relative_to(root)}" if found else ""
    return reason


def _first(root: Path, folders: tuple[str, ...], ending: str) -> Path | None:
    """Return the first annotation with an ending, beside images or in a folder of its own."""
    for images, beside in find_places(root, folders).values():
        if beside.is_dir() and (files := [path for path in list_files(beside, {ending}) if path.stem != "classes"]):
            return files[0] if list_files(images, image_endings()) else None
    return None


def _voc_detection(root: Path) -> str:
    if (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir():
        return "has JPEGImages and Annotations"
    if path := _first(root, XML_FOLDERS, ".xml"):
        content: Element = read_xml(path)
        return f"{path.relative_to(root)} is a VOC annotation, and there are images" * (content.tag == "annotation")
    return ""


def _yolo(root: Path) -> str:
    if (config := find_config(root)) is not None:
        return f"has {config.name}"
    path = _first(root, LABELS, ".txt")
    return f"has {path.relative_to(root)}, and images of these names" if path and any(
        files.images.keys() & files.annotations.keys() for files in find_files(root, LABELS, {".txt"}).values()) else ""


def _coco(root: Path) -> str:
    if reason := _glob("annotations/instances_*.json")(root):
        return reason
    return next((f"has {folder.name}/{ROBOFLOW}" for folder in split_folders(root).values()
                 if (folder / ROBOFLOW).is_file()), "")


def _labelme(root: Path) -> str:
    path = _first(root, JSON_FOLDERS, ".json")
    content = read_json(path) if path else None
    return f"{path.relative_to(root)} has shapes" if path and isinstance(content, dict) and "shapes" in content else ""


def _values(root: Path) -> tuple[int, list[int]]:
    """Return how many masks there are, and the numbers of different values in the first ones."""
    masks = list_masks(root)
    counts = []
    for path, page in masks[:LOOKED_AT]:
        stored = Stored.of(path, page)
        counts.append(len({tuple(c) for c in stored.values.reshape(-1, 3).tolist()} if stored.colored
                          else set(stored.values.ravel().tolist())))
    return len(masks), counts


def _masks(root: Path) -> str:
    total, counts = _values(root)
    stated = [name for name in (*FILES, "classes.txt") if resolve(root / name).is_file()]
    folder = next(beside.name for _, beside in find_places(root, MASKS).values())
    return f"has {total} masks in {folder}, " + (
        f"and {stated[0]} names the classes" if stated else f"with up to {max(counts)} values each" if counts else
        "which cannot be read") if total else ""


def _instances(root: Path) -> str:
    stated = read_legend(root)
    if stated and len(stated.names) > 1:
        return ""
    total, counts = _values(root)
    differ = len(set(counts)) > 1 and max(counts) > 2
    return f"has {total} masks, whose numbers of values differ, {min(counts)} to {max(counts)}, as those of numbered " \
           "objects do" if differ else ""


EVIDENCE: dict[str, Callable[[Path], str]] = {
    "masks": _masks, "instances": _instances, "voc": _folders("JPEGImages", "SegmentationClass"),
    "voc-detection": _voc_detection, "yolo": _yolo, "coco": _coco, "labelme": _labelme,
    "coco-panoptic": _glob("annotations/panoptic_*.json"), "cityscapes": _folders("leftImg8bit", "gtFine"),
    "dsb2018": _folders("stage1_train"),
    "camvid": lambda root: next((reason for pair in (("train", "trainannot"), ("train", "train_labels"),
                                                     ("701_StillsRaw_full", "LabeledApproved_full"))
                                 if (reason := _folders(*pair)(root))), ""),
    "isbi2012": lambda root: _folders("image/0.png", "label/0.png")(root),
}
