"""One small data set, written in every format by the rules of the tool that writes it.

Ten images of 64 x 48 pixels, each with a red "cat" on the left and, if its number is even, a blue "dog" on the right:
rectangles, so that boxes, outlines and label maps say the same.
"""
from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

H, W, COUNT = 48, 64, 10
CLASSES = "cat", "dog"
COLORS = (200, 30, 30), (30, 30, 200)  # of the objects in the images


class Scene(NamedTuple):
    """boxes: (x1, y1, x2, y2), the first a cat, the second, if any, a dog."""

    name: str
    pixels: np.ndarray  # uint8 (H, W, 3)
    boxes: list[tuple[int, int, int, int]]

    def numbers(self, values=(1, 2), dtype=np.uint8) -> np.ndarray:
        """The objects as numbers (H, W), 0 elsewhere."""
        found = np.zeros((H, W), dtype)
        for value, (x1, y1, x2, y2) in zip(values, self.boxes, strict=False):
            found[y1:y2, x1:x2] = value
        return found


def scene(k: int) -> Scene:
    rng = np.random.default_rng(k)
    pixels = rng.integers(100, 140, (H, W, 3), np.uint8)
    boxes = []
    for left in (2, 34)[:2 - k % 2]:
        x, y = left + int(rng.integers(0, 8)), int(rng.integers(2, 12))
        boxes.append((x, y, x + int(rng.integers(14, 20)), y + int(rng.integers(16, 30))))
    for color, (x1, y1, x2, y2) in zip(COLORS, boxes, strict=False):
        pixels[y1:y2, x1:x2] = color
    return Scene(f"img_{k}", pixels, boxes)


SCENES = [scene(k) for k in range(COUNT)]
SPLIT = {"train": SCENES[:6], "valid": SCENES[6:8], "test": SCENES[8:]}


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def palette_image(numbers: np.ndarray, colors: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(numbers).convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette([value for color in colors for value in color])
    return image


# ---------------------------------------------------------------------------------------------------------
# VOC
# ---------------------------------------------------------------------------------------------------------
def xml(s: Scene, folder: str, ending: str) -> str:
    """labelImg's file: VOC's, counted from 1, with the path of the machine that wrote it."""
    objects = "".join(f"""
    <object>
        <name>{name}</name>
        <pose>Unspecified</pose>
        <truncated>0</truncated>
        <difficult>0</difficult>
        <bndbox>
            <xmin>{x1 + 1}</xmin>
            <ymin>{y1 + 1}</ymin>
            <xmax>{x2}</xmax>
            <ymax>{y2}</ymax>
        </bndbox>
    </object>""" for name, (x1, y1, x2, y2) in zip(CLASSES, s.boxes, strict=False))
    return f"""<annotation>
    <folder>{folder}</folder>
    <filename>{s.name}{ending}</filename>
    <path>C:\\Users\\me\\{folder}\\{s.name}{ending}</path>
    <source><database>Unknown</database></source>
    <size><width>{W}</width><height>{H}</height><depth>3</depth></size>
    <segmented>0</segmented>{objects}
</annotation>"""


def voc(root: Path) -> str:
    """VOC's folders with one's own classes, and its lists."""
    for split, scenes in SPLIT.items():
        for s in scenes:
            save(root / f"JPEGImages/{s.name}.PNG", s.pixels)
            write(root / f"Annotations/{s.name}.xml", xml(s, "JPEGImages", ".PNG"))
        write(root / f"ImageSets/Main/{split.replace('valid', 'val')}.txt", "\n".join(s.name for s in scenes))
    return f"voc-detection:{root}"


def voc_cvat(root: Path) -> str:
    """CVAT's "PASCAL VOC 1.1": the list default.txt is no split."""
    voc(root)
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    write(root / "ImageSets/Main/default.txt", "\n".join(s.name for s in SCENES))
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\ndog:4,5,6::\n")
    return f"voc-detection:{root}"


def labelimg(root: Path) -> str:
    for s in SCENES:
        save(root / f"{s.name}.bmp", s.pixels)
        write(root / f"{s.name}.xml", xml(s, root.name, ".bmp"))
    return f"voc-detection:{root}"


def voc_roboflow(root: Path) -> str:
    for split, scenes in SPLIT.items():
        for s in scenes:
            save(root / split / f"{s.name}.png", s.pixels)
            write(root / split / f"{s.name}.xml", xml(s, "", ".png"))
    return f"voc-detection:{root}"


# ---------------------------------------------------------------------------------------------------------
# YOLO
# ---------------------------------------------------------------------------------------------------------
def boxes_txt(s: Scene) -> str:
    return "".join(f"{k} {(x1 + x2) / 2 / W:.6f} {(y1 + y2) / 2 / H:.6f} {(x2 - x1) / W:.6f} {(y2 - y1) / H:.6f}\n"
                   for k, (x1, y1, x2, y2) in enumerate(s.boxes))


def polygons_txt(s: Scene) -> str:
    return "".join(f"{k} " + " ".join(f"{v:.6f}" for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
                                      for v in (x / W, y / H)) + "\n" for k, (x1, y1, x2, y2) in enumerate(s.boxes))


def yolo(root: Path) -> str:
    """Ultralytics' own layout."""
    for split, scenes in SPLIT.items():
        folder = split.replace("valid", "val")
        for s in scenes:
            save(root / f"images/{folder}/{s.name}.png", s.pixels)
            write(root / f"labels/{folder}/{s.name}.txt", boxes_txt(s))
    write(root / "data.yaml", """# Train/val/test sets as 1) dir: path/to/imgs, 2) file: path/to/imgs.txt, or 3) list
path: ../datasets/pets # dataset root dir
train: images/train # train images (relative to 'path')
val: images/val # val images (relative to 'path')
test: images/test # test images (optional)

# Classes
names:
  0: cat
  1: dog

# Download script/URL (optional)
download: |
  echo "no"
""")
    return f"yolo:{root}"


def yolo_roboflow(root: Path) -> str:
    for split, scenes in SPLIT.items():
        for s in scenes:
            save(root / f"{split}/images/{s.name}.png", s.pixels)
            write(root / f"{split}/labels/{s.name}.txt", boxes_txt(s).rstrip("\n"))
    write(root / "data.yaml", """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['cat', 'dog']

roboflow:
  workspace: me
  project: pets
  url: https://universe.roboflow.com/me/pets
""")
    write(root / "README.roboflow.txt", "exported")
    return f"yolo:{root}"


def yolo_labelimg(root: Path) -> str:
    """labelImg in YOLO mode: beside the images, with classes.txt."""
    for s in SCENES:
        save(root / f"{s.name}.PNG", s.pixels)
        write(root / f"{s.name}.txt", boxes_txt(s))
    write(root / "classes.txt", "cat\ndog\n")
    return f"yolo:{root}"


def yolo_cvat(root: Path) -> str:
    """CVAT's "Ultralytics YOLO Segmentation": polygons, and one list."""
    for s in SCENES:
        save(root / f"images/train/{s.name}.png", s.pixels)
        write(root / f"labels/train/{s.name}.txt", polygons_txt(s))
    write(root / "train.txt", "".join(f"images/train/{s.name}.png\n" for s in SCENES))
    write(root / "data.yaml", "names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\n")
    return f"yolo:{root},val=0.2,test=0.1"


# ---------------------------------------------------------------------------------------------------------
# COCO
# ---------------------------------------------------------------------------------------------------------
def coco_json(scenes: list[Scene], ending: str = ".png", *, parent: bool = False, start: int = 1) -> str:
    """parent: as Roboflow writes categories and ids, from 0 with a parent."""
    categories = [{"id": k + 1, "name": name, "supercategory": "pets" if parent else ""}
                  for k, name in enumerate(CLASSES)]
    if parent:
        categories.insert(0, {"id": 0, "name": "pets", "supercategory": "none"})
    images = [{"id": n, "license": 1, "file_name": s.name + ending, "height": H, "width": W, "date_captured": "2026"}
              for n, s in enumerate(scenes, start)]
    objects = [(n, k, box) for n, s in enumerate(scenes, start) for k, box in enumerate(s.boxes)]
    annotations = [{
        "id": i, "image_id": n, "category_id": k + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1), "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]], "iscrowd": 0,
        "attributes": {"occluded": False}} for i, (n, k, (x1, y1, x2, y2)) in enumerate(objects, start)]
    return json.dumps({"licenses": [{"id": 1, "name": "", "url": ""}], "info": {"year": "2026"},
                       "categories": categories, "images": images, "annotations": annotations})


def coco(root: Path) -> str:
    for split, scenes in SPLIT.items():
        folder = split.replace("valid", "val") + "2026"
        for s in scenes:
            save(root / f"{folder}/{s.name}.png", s.pixels)
        write(root / f"annotations/instances_{folder}.json", coco_json(scenes))
    return f"coco:{root}"


def coco_roboflow(root: Path) -> str:
    for split, scenes in SPLIT.items():
        for s in scenes:
            save(root / f"{split}/{s.name}.png", s.pixels)
        write(root / f"{split}/_annotations.coco.json", coco_json(scenes, parent=True, start=0))
    return f"coco:{root}"


def coco_cvat(root: Path) -> str:
    for s in SCENES:
        save(root / f"images/default/{s.name}.png", s.pixels)
    write(root / "annotations/instances_default.json", coco_json(SCENES))
    return f"coco:{root}"


# ---------------------------------------------------------------------------------------------------------
# LabelMe
# ---------------------------------------------------------------------------------------------------------
def labelme_shape(label: str, box: tuple[int, int, int, int], kind: str) -> dict:
    x1, y1, x2, y2 = box
    points, mask = [[x2, y1], [x1, y2]], None  # a rectangle may be drawn from any corner
    if kind == "polygon":
        points = [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]
    if kind == "mask":
        file = io.BytesIO()
        Image.fromarray(np.full((y2 - y1, x2 - x1), 255, np.uint8)).convert("1").save(file, "PNG")
        points, mask = [[x1, y1], [x2 - 1, y2 - 1]], base64.b64encode(file.getvalue()).decode()
    return {"label": label, "points": [[float(v) for v in p] for p in points], "group_id": None, "description": "",
            "shape_type": kind, "flags": {}, "mask": mask}


def labelme_json(s: Scene, kinds=("polygon", "rectangle")) -> str:
    return json.dumps({"version": "5.5.0", "flags": {}, "shapes": [
        labelme_shape(name, box, kind) for name, box, kind in zip(CLASSES, s.boxes, kinds, strict=False)],
        "imagePath": f"{s.name}.png", "imageData": None, "imageHeight": H, "imageWidth": W}, indent=2)


def labelme(root: Path) -> str:
    for k, s in enumerate(SCENES):
        save(root / f"{s.name}.png", s.pixels)
        write(root / f"{s.name}.json", labelme_json(s, ("mask", "polygon") if k == 4 else ("polygon", "rectangle")))
    return f"labelme:{root}"


# ---------------------------------------------------------------------------------------------------------
# Masks
# ---------------------------------------------------------------------------------------------------------
def masks_0_1(root: Path) -> str:
    for s in SCENES:
        save(root / f"images/{s.name}.jpg", s.pixels, quality=95)
        save(root / f"masks/{s.name}.png", s.numbers((1, 1)))
    return f"masks:{root}"


def masks_0_255(root: Path) -> str:
    for s in SCENES:
        save(root / f"Images/{s.name}.JPG", s.pixels, format="JPEG", quality=95)
        save(root / f"Masks/{s.name}_mask.PNG", s.numbers((255, 255)))
    return f"masks:{root}"


def masks_indexed(root: Path) -> str:
    for split, scenes in SPLIT.items():
        for s in scenes:
            save(root / f"{split}/images/{s.name}.png", s.pixels)
            save(root / f"{split}/masks/{s.name}.png", s.numbers())
    write(root / "classes.txt", "background\ncat\ndog\n")
    return f"masks:{root}"


def masks_palette(root: Path) -> str:
    for s in SCENES:
        save(root / f"images/{s.name}.tif", s.pixels)
        (root / "masks").mkdir(exist_ok=True)
        palette_image(s.numbers(), [(0, 0, 0), (128, 0, 0), (0, 128, 0)]).save(root / f"masks/{s.name}_seg.png")
    write(root / "classes.txt", "background\ncat\ndog\n")
    return f"masks:{root}"


def masks_rgb(root: Path) -> str:
    colors = np.uint8([(0, 0, 0), (255, 0, 0), (0, 0, 255)])
    for split, scenes in SPLIT.items():
        for s in scenes:
            save(root / f"images/{split}/{s.name}.webp", s.pixels, lossless=True)
            save(root / f"masks/{split}/{s.name}.png", colors[s.numbers()])
    write(root / "legend.txt", "background 0 0 0\ncat 255 0 0\ndog 0 0 255\n")
    return f"masks:{root}"


def voc_masks(root: Path) -> str:
    """CVAT's "Segmentation mask 1.1" with its images."""
    for s in SCENES:
        save(root / f"JPEGImages/{s.name}.png", s.pixels)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        palette_image(s.numbers(), [(0, 0, 0), (250, 50, 83), (51, 221, 255)]).convert("RGB").save(
            root / f"SegmentationClass/{s.name}.png")
    write(root / "ImageSets/Segmentation/default.txt", "\n".join(s.name for s in SCENES))
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:250,50,83::\n"
          "dog:51,221,255::\n")
    return f"voc:{root}"


def stack(root: Path, dtype: type) -> str:
    """One TIFF with the images as pages, in gray, and one with the masks."""
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 10.0}[dtype]
    images = [Image.fromarray((s.pixels[..., 0] * dtype(scale)).astype(dtype)) for s in SCENES]
    masks = [Image.fromarray(s.numbers((255, 255))) for s in SCENES]
    for folder, pages in (("images", images), ("masks", masks)):
        (root / folder).mkdir(parents=True)
        pages[0].save(root / folder / "volume.tif", save_all=True, append_images=pages[1:])
    return f"masks:{root}"


def instances(root: Path) -> str:
    for s in SCENES:
        save(root / f"images/{s.name}.png", s.pixels)
        save(root / f"masks/{s.name}.tif", s.numbers((300, 7), np.uint16))
    write(root / "classes.txt", "pet\n")
    return f"instances:{root}"


def instances_colors(root: Path) -> str:
    colors = np.uint8([(0, 0, 0), (17, 80, 3), (5, 5, 90)])
    for s in SCENES:
        save(root / f"images/{s.name}.png", s.pixels)
        save(root / f"masks/{s.name}_instance.png", colors[s.numbers()])
    return f"instances:{root}"


BOXES: dict[str, Callable[[Path], str]] = {
    "voc": voc, "voc of cvat": voc_cvat, "labelimg": labelimg, "voc of roboflow": voc_roboflow,
    "yolo": yolo, "yolo of roboflow": yolo_roboflow, "yolo of labelimg": yolo_labelimg}
OUTLINES = {"yolo of cvat": yolo_cvat, "coco": coco, "coco of roboflow": coco_roboflow, "coco of cvat": coco_cvat,
            "labelme": labelme}
NUMBERED = {"instances": instances, "instances, colors": instances_colors}
TWO_VALUES = {"masks 0 1": masks_0_1, "masks 0 255": masks_0_255,
              "stack of 8 bits": lambda root: stack(root, np.uint8),
              "stack of 16 bits": lambda root: stack(root, np.uint16),
              "stack of floats": lambda root: stack(root, np.float32)}
LABELED = {"masks, indexed": masks_indexed, "masks, palette": masks_palette, "masks, rgb": masks_rgb,
           "voc, masks": voc_masks}
