import json

import numpy as np
import pytest

from minicv.data import write_png
from minicv.data.check import check

XML = """<annotation><size><width>100</width><height>60</height></size>
<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def root(tmp_path):
    """a (train) is right; b (train) is a click, c (val) of an unknown class, d (val) empty, and a is in val, too."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name, box in {"a": ("WBC", 1, 1, 40, 40), "b": ("RBC", 3, 3, 3, 3), "c": ("dog", 1, 1, 9, 9)}.items():
        (tmp_path / f"Annotations/{name}.xml").write_text(XML.format(*box))
    (tmp_path / "Annotations/d.xml").write_text("")
    for name in "abcd":
        write_png(tmp_path / f"JPEGImages/{name}.jpg", np.zeros((3, 60, 100), np.uint8))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("c\nd\na\n")
    return tmp_path


def test_every_fault_is_named(root):
    (root / "JPEGImages/b.jpg").write_bytes(b"damaged")
    report = check(f"bccd:{root}")
    told = report.faults
    assert [line.split(": ")[0].rpartition("/")[2] for line in told] == ["b.xml", "b.jpg", "c.xml", "d.xml", "a.jpg"]
    for line, words in zip(told, ("has no area; left out", "not a readable image", "unknown class 'dog'",
                                  "not a readable annotation", "is in both train and val"), strict=True):
        assert words in line
    assert report.contents[0] == "train: 2 images, 100 x 60 pixels, 0 without objects"  # of those that can be read
    # a's WBC, 40 x 40 pixels, is medium; it counts in both splits
    assert [line.split() for line in report.contents[2:]] == [
        ["objects", "train", "val"], ["RBC", "0", "0"], ["WBC", "1", "1"], ["Platelets", "0", "0"],
        ["small,", "below", "32", "x", "32", "0", "0"], ["medium", "1", "1"], ["large,", "from", "96", "x", "96", "0",
                                                                               "0"]]


def test_no_lists(root, tmp_path):
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    report = check(f"bccd:{root}")  # split by share
    assert [line.split(":")[0] for line in report.contents[:3]] == ["train", "val", "test"]
    assert "no such folder" in check(f"dsb2018:{tmp_path / 'nowhere'}").faults[0]


@pytest.mark.slow  # reads 364 images
def test_real_sets(real_data):
    report = check(f"bccd:{real_data / 'bccd'}")
    assert len(report.faults) == 2 and all("has no area; left out" in fault for fault in report.faults)
    assert report.contents[2] == "test: 72 images, 640 x 480 pixels, 0 without objects"
    counts = np.array([line.split()[1:] for line in report.contents[4:7]], int)
    assert counts.sum() == 4888 - 2  # of 364 files, grep "<object>", without the two


def test_coco_and_nuclei(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    write_png(tmp_path / "val2017/b.png", np.zeros((3, 6, 10), np.uint8))
    rows = [{"id": n, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": {"size": [6, 10], "counts": counts}}
            for n, (box, counts) in enumerate([([0, 0, 2, 2], [0, 12, 48]), ([3, 3, 0, 2], [60]), ([1, 1, 2, 2], [7])])]
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "b.png", "height": 6, "width": 10}], "annotations": rows,
        "categories": [{"id": 1, "name": "car"}]}))
    report = check(f"coco:{tmp_path}")
    assert len(report.faults) == 2  # no train, but val: that is no fault
    assert "its mask has no pixel; left out" in report.faults[0]
    assert "a mask that cannot be read (decode_rle: the runs have 7 pixels" in report.faults[1]

    for folder in ("images", "masks"):
        (tmp_path / "stage1_train/q" / folder).mkdir(parents=True)
    write_png(tmp_path / "stage1_train/q/images/q.png", np.zeros((3, 5, 7), np.uint8))
    write_png(tmp_path / "stage1_train/q/masks/m.png", np.zeros((5, 7), bool))
    (tmp_path / "train.txt").write_text("q\nr\n")
    report = check(f"dsb2018:{tmp_path}")
    assert "m.png: no pixel is set; left out" in report.faults[0] and "r.png: no such file" in report.faults[1]
    assert report.contents[0] == "train: 2 images, 7 x 5 pixels, 1 without objects"


def coco_file(root, split, classes=("car", "dog"), objects=1):
    for folder in ("annotations", split):
        (root / folder).mkdir(exist_ok=True)
    write_png(root / split / f"{split}.png", np.zeros((3, 6, 10), np.uint8))
    (root / f"annotations/instances_{split}.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": f"{split}.png", "height": 6, "width": 10}],
        "annotations": [{"id": n, "image_id": 1, "category_id": 1, "bbox": [0, 0, 2, 2]} for n in range(objects)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes, 1)]}))


def test_splits_of_other_classes_without_objects_or_without_a_list(tmp_path):
    """A table of all classes; faults: classes that differ, a split without objects, two files for a split."""
    coco_file(tmp_path, "val")
    report = check(f"coco:{tmp_path}")
    assert report.faults == []
    assert report.contents[0].startswith(
        "train: missing, so there is nothing to train on (COCO: no file instances_train*")
    coco_file(tmp_path, "train", ("dog", "car", "cat"), objects=0)
    report = check(f"coco:{tmp_path}")
    assert [fault.removeprefix(f"{tmp_path}: ") for fault in report.faults] == [
        "no object in any image of train, so there is nothing to learn or find",
        "the classes of val are car, dog; those of train are dog, car, cat"]
    assert [line.split() for line in report.contents[3:6]] == [["dog", "0", "0"], ["car", "0", "1"], ["cat", "0", "0"]]
    (tmp_path / "annotations/instances_train.json").rename(tmp_path / "annotations/instances_train2014.json")
    (tmp_path / "annotations/instances_train2017.json").write_text("{}")
    (fault,) = check(f"coco:{tmp_path}").faults
    assert "instances_train2017.json: a second file for the split 'train'" in fault


def test_a_mask_beside_its_box_is_named(tmp_path):
    coco_file(tmp_path, "train", objects=2)
    path = tmp_path / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    for thing, x in zip(content["annotations"], (1, 4), strict=True):
        thing["segmentation"] = [[x, 0, x + 3, 0, x + 3, 3, x, 3]]
    path.write_text(json.dumps(content))
    (fault,) = check(f"coco:{tmp_path}").faults
    assert fault.endswith("train.png: the mask of the object in box [0.0, 0.0, 2.0, 2.0] lies mostly outside it, in "
                          "[4.0, 0.0, 7.0, 3.0]")


def test_objects_that_nothing_learns_from_do_not_count(tmp_path):
    coco_file(tmp_path, "train", objects=2)
    path = tmp_path / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    assert check(f"coco:{tmp_path}").faults == []
    content["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    (fault,) = check(f"coco:{tmp_path}").faults
    assert fault.startswith(f"{tmp_path}: no object that is neither difficult nor a crowd in any image of train, so ")


def changed(tmp_path, **values):
    """The faults of a set of one object after a change of it."""
    coco_file(tmp_path, "train")
    path = tmp_path / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0].update(values)
    path.write_text(json.dumps(content))
    return check(f"coco:{tmp_path}").faults


def test_a_box_written_as_two_corners_is_named(tmp_path):
    mask = [[3, 1, 6, 1, 6, 3, 3, 3]]
    assert changed(tmp_path, bbox=[3, 1, 3, 2], segmentation=mask) == []
    (fault,) = changed(tmp_path, bbox=[3, 1, 6, 3], segmentation=mask)
    assert fault.endswith("the mask of the object in box [3.0, 1.0, 9.0, 4.0] fits [3.0, 1.0, 6.0, 3.0]; were x1, y1, "
                          "x2, y2 written as x, y, width, height?")
    assert changed(tmp_path, bbox=[2, 0, 6, 5], segmentation=mask) == []  # a whole object, of which a part is seen


def test_boxes_relative_to_the_image_are_named(tmp_path):
    (fault,) = changed(tmp_path, bbox=[0.25, 0.5, 0.25, 0.5])
    assert fault.startswith(f"{tmp_path}: all boxes of train lie within 1 x 1 pixel; are their numbers relative")


def test_an_object_that_is_repeated_is_named(tmp_path):
    coco_file(tmp_path, "train", objects=3)
    (fault,) = check(f"coco:{tmp_path}").faults
    assert fault.endswith("train.png: the car in box [0.0, 0.0, 2.0, 2.0] occurs 3 times in its annotation")


@pytest.mark.parametrize("how", ["copy", "link"])
def test_an_image_in_the_folders_of_two_splits_is_named(tmp_path, how):
    for split in ("train", "val"):
        coco_file(tmp_path, split)
        path = tmp_path / f"annotations/instances_{split}.json"
        path.write_text(path.read_text().replace(f"{split}.png", "a.png"))
        (tmp_path / split / f"{split}.png").rename(tmp_path / split / "a.png")
    write_png(tmp_path / "val/a.png", np.ones((3, 6, 10), np.uint8))
    assert check(f"coco:{tmp_path}").faults == []  # two images of one name
    (tmp_path / "val/a.png").unlink()
    if how == "copy":
        (tmp_path / "val/a.png").write_bytes((tmp_path / "train/a.png").read_bytes())
    else:
        (tmp_path / "val/a.png").symlink_to(tmp_path / "train/a.png")
    (fault,) = check(f"coco:{tmp_path}").faults
    assert fault == (f"{tmp_path}/val/a.png: is in val, and the same image is in train: {tmp_path}/train/a.png")
