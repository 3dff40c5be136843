"""Real data sets rewritten as people keep their own images, and a set of phone photos composed of real images.

    python -m tests.own_images voc BCCD FOLDER       VOC's folders, with class names of one's own
    python -m tests.own_images yolo BCCD FOLDER      YOLO's text files and data.yaml
    python -m tests.own_images masks DSB2018 FOLDER  images/ and masks/, with masks of 0 and 255
    python -m tests.own_images photos CAMVID BCCD FOLDER
                                                     150 + 20 + 40 photos of 3000 x 4000 pixels: enlarged street scenes
                                                     with white blood cells, the one class, and red ones between them

BCCD, DSB2018 and CAMVID are folders as ``minicv data download`` makes them. The images of each split stay in it; the
photos of a split show streets and cells of that split alone.
"""
from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from minicv.data import open_dataset

NAMES = {"RBC": "red cell", "WBC": "white cell", "Platelets": "platelet"}
SPLITS = ("train", "val", "test")
PHOTOS = {"train": 150, "val": 20, "test": 40}
PHOTO = (4000, 3000)  # width, height


def names_of(source: Path, split: str) -> list[str]:
    return (source / "ImageSets" / "Main" / f"{split}.txt").read_text().split()


def write_voc(source: Path, folder: Path) -> None:
    """Write BCCD as VOC with other class names, and images named .JPG."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    for split in SPLITS:
        shutil.copy(source / "ImageSets" / "Main" / f"{split}.txt", folder / "ImageSets" / "Main")
        for name in names_of(source, split):
            shutil.copy(source / "JPEGImages" / f"{name}.jpg", folder / "JPEGImages" / f"{name}.JPG")
            tree = ElementTree.parse(source / "Annotations" / f"{name}.xml")
            for thing in tree.iterfind("object/name"):
                thing.text = NAMES[thing.text.strip()]
            tree.write(folder / "Annotations" / f"{name}.xml")


def write_yolo(source: Path, folder: Path) -> None:
    """Write BCCD as YOLO's text files: images/SPLIT, labels/SPLIT and data.yaml."""
    for split in SPLITS:
        dataset = open_dataset(f"bccd:{source}", split)
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for record in dataset.records:
            shutil.copy(record.image, folder / "images" / split)
            H, W = record.size
            x1, y1, x2, y2 = record.boxes.T / np.array([[W], [H], [W], [H]])
            lines = [f"{k} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for k, x, y, w, h in
                     zip(record.labels, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)]
            (folder / "labels" / split / f"{record.name}.txt").write_text("".join(lines))
    (folder / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\n\nnc: 3\n"
        f"names: {json.dumps(list(NAMES.values()))}\n")


def write_masks(source: Path, folder: Path) -> None:
    """Write the nuclei as one mask of 0 and 255 for each image, in SPLIT/images and SPLIT/masks.

    The last sixth of train.txt becomes val; val.txt, which docs/results.md measures on, becomes test.
    """
    names = {"train": (source / "train.txt").read_text().split(), "test": (source / "val.txt").read_text().split()}
    names["train"], names["val"] = np.split(np.array(names["train"]), [len(names["train"]) * 5 // 6])
    for split in SPLITS:
        for part in ("images", "masks"):
            (folder / split / part).mkdir(parents=True)
        for name in names[split]:
            place = source / "stage1_train" / name
            Image.open(place / "images" / f"{name}.png").convert("RGB").save(folder / split / "images" / f"{name}.png")
            nuclei = [np.asarray(Image.open(path).convert("L")) > 0 for path in sorted((place / "masks").iterdir())]
            mask = np.any(nuclei, axis=0)
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / split / "masks" / f"{name}.png")


# ---------------------------------------------------------------------------------------------------------
# Photos
# ---------------------------------------------------------------------------------------------------------
def cut_cells(dataset, label: int) -> list[Image.Image]:
    """Return the objects of a class, with an oval of soft edges as their transparency."""
    cells = []
    for sample in dataset:
        H, W = sample.image.shape[1:]
        for x1, y1, x2, y2 in sample.boxes[sample.labels == label].round().astype(int).tolist():
            if min(x1, y1) < 1 or x2 >= W or y2 >= H or min(x2 - x1, y2 - y1) < 30:
                continue  # cut by the border
            pixels = (sample.image[:, y1:y2, x1:x2] * 255).round().astype(np.uint8).transpose(1, 2, 0)
            y, x = np.ogrid[-1:1:(y2 - y1) * 1j, -1:1:(x2 - x1) * 1j]
            alpha = np.clip((1 - np.sqrt(x ** 2 + y ** 2)) / 0.06, 0, 1)
            cells.append(Image.fromarray(np.dstack([pixels, (255 * alpha).astype(np.uint8)])))
    return cells


def compose(street: np.ndarray, white: list, red: list, rng: np.random.Generator) -> tuple[Image.Image, list]:
    """Return a photo of 12 megapixels and the boxes (x, y, w, h) of its white cells, one to five of 250 to 1300 pixels.

    Up to six red cells are no objects. Nothing overlaps by more than a fifth of the smaller one.
    """
    photo = Image.fromarray((street * 255).astype(np.uint8).transpose(1, 2, 0)).resize(PHOTO, Image.Resampling.BILINEAR)
    placed: list[tuple[float, ...]] = []
    boxes = []
    kinds = [True] * rng.integers(1, 6) + [False] * rng.integers(0, 7)
    for is_white in kinds:
        cells = white if is_white else red
        cell = cells[rng.integers(len(cells))].rotate(float(rng.choice([0, 90, 180, 270])), expand=True)
        side = np.exp(rng.uniform(np.log(250), np.log(1300)))
        factor = side / max(cell.size)
        w, h = (round(n * factor) for n in cell.size)
        for _ in range(30):
            x, y = int(rng.integers(0, PHOTO[0] - w)), int(rng.integers(0, PHOTO[1] - h))
            if all(max(min(x + w, u + m) - max(x, u), 0) * max(min(y + h, v + n) - max(y, v), 0)
                   <= 0.2 * min(w * h, m * n) for u, v, m, n in placed):
                break
        else:
            continue
        placed.append((x, y, w, h))
        boxes += [[x, y, w, h]] * is_white
        large = cell.resize((w, h), Image.Resampling.BICUBIC)
        photo.paste(large.convert("RGB"), (x, y), large.getchannel("A"))
    light = rng.uniform(0.6, 1.2) * rng.uniform(0.9, 1.1, 3)  # exposure and white balance
    photo = photo.point([min(int(v * factor), 255) for factor in light for v in range(256)])
    noise = rng.integers(-9, 10, (PHOTO[1], PHOTO[0], 1), dtype=np.int8)
    return Image.fromarray((np.asarray(photo).astype(np.int16) + noise).clip(0, 255).astype(np.uint8)), boxes


def write_photos(streets: Path, cells: Path, folder: Path) -> None:
    """Write the photos as JPEGs, with COCO's JSON for each split."""
    (folder / "annotations").mkdir(parents=True)
    for number, (split, count) in enumerate(PHOTOS.items()):
        rng = np.random.default_rng(number)
        (folder / split).mkdir()
        frames, blood = open_dataset(f"camvid:{streets}", split), open_dataset(f"bccd:{cells}", split)
        white, red = cut_cells(blood, 1), cut_cells(blood, 0)
        images, annotations = [], []
        for i in range(count):
            photo, boxes = compose(frames[len(frames) * i // count].image, white, red, rng)
            photo.save(folder / split / f"IMG_{i:04}.jpg", quality=90)
            images.append({"id": i, "file_name": f"IMG_{i:04}.jpg", "width": PHOTO[0], "height": PHOTO[1]})
            annotations += [{"id": len(annotations) + k, "image_id": i, "category_id": 1, "bbox": box, "iscrowd": 0,
                             "area": box[2] * box[3]} for k, box in enumerate(boxes)]
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(
            {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "white cell"}]}))


WRITERS = {"voc": write_voc, "yolo": write_yolo, "masks": write_masks, "photos": write_photos}

if __name__ == "__main__":
    WRITERS[sys.argv[1]](*map(Path, sys.argv[2:]))
