"""CamVid: frames of a drive through Cambridge, every pixel labeled (Brostow et al., ECCV 2008 and PRL 2009).

The original labels 32 classes by color. The field measures 11, grouped as in SegNet (Badrinarayanan et al., TPAMI
2017), and so does this reader. It reads three layouts:

- SegNet's: train/NAME.png and trainannot/NAME.png, likewise val and test; labels 0 to 10, 11 is void. The list files
  train.txt, val.txt and test.txt name the images to use, one pair per line. Only the last two parts of each path count:
  the folders before them are those of the machine that wrote the list.
- the original's: 701_StillsRaw_full/NAME.png and LabeledApproved_full/NAME_L.png, labels as colors. It has no split, so
  SegNet's is used.
- the original's images in folders train and train_labels (NAME_L.png), likewise val and test.
"""
from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from ..sample import IGNORE
from .segmentation import (
    ImageAndLabel,
    SegmentationReader,
    check_split,
    pair_up,
    pngs,
    read_entries,
    refuse_repetitions,
    require_folder,
    translate,
)

GROUPS = {  # class -> the original's classes and colors
    "sky": {"Sky": (128, 128, 128)},
    "building": {"Building": (128, 0, 0), "Archway": (192, 0, 128), "Bridge": (0, 128, 64), "Tunnel": (64, 0, 64),
                 "Wall": (64, 192, 0)},
    "pole": {"Column_Pole": (192, 192, 128), "TrafficCone": (0, 0, 64)},
    "road": {"Road": (128, 64, 128), "LaneMkgsDriv": (128, 0, 192), "LaneMkgsNonDriv": (192, 0, 64)},
    "pavement": {"Sidewalk": (0, 0, 192), "ParkingBlock": (64, 192, 128), "RoadShoulder": (128, 128, 192)},
    "tree": {"Tree": (128, 128, 0), "VegetationMisc": (192, 192, 0)},
    "sign": {"SignSymbol": (192, 128, 128), "Misc_Text": (128, 128, 64), "TrafficLight": (0, 64, 64)},
    "fence": {"Fence": (64, 64, 128)},
    "car": {"Car": (64, 0, 128), "SUVPickupTruck": (64, 128, 192), "Truck_Bus": (192, 128, 192),
            "Train": (192, 64, 128), "OtherMoving": (128, 64, 64)},
    "pedestrian": {"Pedestrian": (64, 64, 0), "Child": (192, 128, 64), "CartLuggagePram": (64, 0, 192),
                   "Animal": (64, 128, 64)},
    "bicyclist": {"Bicyclist": (0, 128, 192), "MotorcycleScooter": (192, 0, 192)},
}
VOID = (0, 0, 0)
CLASSES = tuple(GROUPS)
ORIGINAL = "701_StillsRaw_full", "LabeledApproved_full"
EXPECTED = ("CamVid is expected as train and trainannot, train and train_labels, or "
            f"{ORIGINAL[0]} and {ORIGINAL[1]}")


def split_of(name: str) -> str:
    """Return an image's split in SegNet: 367 "train", 101 "val", 233 "test", by stretches of the four sequences."""
    if "0016E5_07959" <= name <= "0016E5_08159":
        return "val"
    return "test" if name.startswith("Seq05VD") or "0001TP_008550" <= name <= "0001TP_010380" else "train"


COLORS = {color: k for k, group in enumerate(GROUPS.values()) for color in group.values()} | {VOID: IGNORE}


class CamVid(SegmentationReader):
    """CamVid in 11 classes; root in any of the module's layouts; split: "train", "val" or "test"."""

    class_names = CLASSES
    colors = np.array([next(iter(group.values())) for group in GROUPS.values()], np.uint8)

    @classmethod
    def find_pairs(cls, root: Path, split: str) -> list[ImageAndLabel]:
        check_split(cls, split)
        require_folder(root, EXPECTED)
        if (root / ORIGINAL[0]).is_dir():
            images, labels = root / ORIGINAL[0], require_folder(root / ORIGINAL[1], EXPECTED)
            pairs = [pair for pair in _in_folders(images, labels) if split_of(pair.name) == split]
        elif (root / f"{split}_labels").is_dir():
            pairs = _in_folders(require_folder(root / split, EXPECTED), root / f"{split}_labels")
        else:
            images, labels = require_folder(root / split, EXPECTED), require_folder(root / f"{split}annot", EXPECTED)
            list_file = root / f"{split}.txt"
            pairs = _listed(root, list_file) if list_file.exists() else _in_folders(images, labels, suffix="")
        if not pairs:
            raise DataError(f"{root}: contains no images of the split {split!r}")
        return pairs

    @classmethod
    def read_label(cls, path: Path, page: int | None = None) -> np.ndarray:
        return translate(path, {k: k for k in range(len(CLASSES))} | {len(CLASSES): IGNORE}, COLORS)


def _listed(root: Path, list_file: Path) -> list[ImageAndLabel]:
    """Return the pairs of a list of "/anywhere/train/NAME.png /anywhere/trainannot/NAME.png"."""
    pairs = []
    for number, line in enumerate(read_entries(list_file), start=1):
        files = [root.joinpath(*PurePosixPath(part.replace("\\", "/").lstrip("/")).parts[-2:]) for part in line.split()]
        if len(files) != 2 or ".." in line:
            raise DataError(f"{list_file}: entry {number} must be an image and its label, FOLDER/NAME.png twice, got "
                            f"{line!r}")
        if files[0].parent == files[1].parent or files[0].stem != files[1].stem.removesuffix("_L"):
            raise DataError(f"{list_file}: entry {number}: {files[1].parent.name}/{files[1].name} is not the label of "
                            f"{files[0].parent.name}/{files[0].name}; it must have the same name in another folder")
        pairs.append(ImageAndLabel(files[0].stem, files[0], files[1]))
    refuse_repetitions(list_file, [str(pair.image.relative_to(root)) for pair in pairs])
    return pairs


def _in_folders(images: Path, labels: Path, suffix: str = "_L") -> list[ImageAndLabel]:
    return pair_up({path.stem: path for path in pngs(images)},
                   {path.stem.removesuffix(suffix): path for path in pngs(labels) if path.stem.endswith(suffix)},
                   (f"{images}/{{}}.png", f"{labels}/{{}}{suffix}.png"))
