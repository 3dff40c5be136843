import copy
import functools
import json

import numpy as np
import pytest

from minicv.data import open_dataset, write_png
from minicv.data.check import check
from minicv.data.errors import DataError, DataWarning
from minicv.data.readers.panoptic import CocoPanoptic, read_segments

NUMBERS = np.array([[0, 5, 5], [70000, 70000, 300]])  # 70000 = 112 + 256 * 17 + 65536; 300 = 44 + 256


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations/panoptic_val").mkdir(parents=True)
    (tmp_path / "val").mkdir()
    write_png(tmp_path / "val/p.png", np.zeros((3, 2, 3), np.uint8))
    rgb = np.stack([NUMBERS % 256, NUMBERS // 256 % 256, NUMBERS // 65536]).astype(np.uint8)
    write_png(tmp_path / "annotations/panoptic_val/p.png", rgb)
    return tmp_path


def write(root, segments, image_id=1):
    categories = [{"id": 9, "name": "sky", "isthing": 0}, {"id": 2, "name": "car", "isthing": 1}]
    (root / "annotations/panoptic_val.json").write_text(json.dumps({
        "images": [{"id": 1, "file_name": "p.png", "height": 2, "width": 3}], "categories": categories,
        "annotations": [{"image_id": image_id, "file_name": "p.png", "segments_info": [
            {"id": number, "category_id": category, "iscrowd": crowd} for number, category, crowd in segments]}]}))


def test_read(root):
    assert read_segments(root / "annotations/panoptic_val/p.png").tolist() == NUMBERS.tolist()
    write(root, [(70000, 9, 0), (5, 2, 0), (300, 2, 1)])
    images = open_dataset(f"coco-panoptic:{root}", "val")
    assert images.class_names == ("car", "sky") and images.things.tolist() == [True, False]
    sample = images[0]
    assert sample.segments.tolist() == [[0, 2, 2], [1, 1, 3]] and sample.segments.dtype == np.int32
    assert sample.classes.tolist() == [1, 0, 0] and sample.crowd.tolist() == [False, False, True]
    assert sample.image.shape == (3, 2, 3) and sample.name == "p"


def test_wrong(root):
    write(root, [(70000, 9, 0), (5, 2, 0)])
    with pytest.raises(DataError, match=r"p\.png: holds the segments \[300\], which panoptic_val\.json does not desc"):
        open_dataset(f"coco-panoptic:{root}", "val")[0]
    write(root, [(5, 4, 0)])
    with pytest.raises(DataError, match=r"annotations\[0\], segments_info\[0\] \(id 5\): has the unknown "
                                        "category_id 4; "):
        open_dataset(f"coco-panoptic:{root}", "val")
    write(root, [], image_id=6)
    with pytest.raises(DataError, match="has the unknown image_id 6; the ids in images are 1"):
        open_dataset(f"coco-panoptic:{root}", "val")
    (root / "annotations/panoptic_val.json").write_text("")
    with pytest.raises(DataError, match=r"panoptic_val\.json: not readable as JSON"):
        open_dataset(f"coco-panoptic:{root}", "val")


def test_files_that_are_empty_or_of_another_size(root):
    write(root, [(70000, 9, 0), (5, 2, 0), (300, 2, 1)])
    write_png(root / "annotations/panoptic_val/p.png", np.zeros((3, 3, 2), np.uint8))
    with pytest.raises(DataError, match=r"val/p\.png: size \(2, 3\) .*panoptic_val/p\.png, \(3, 2\)"):
        open_dataset(f"coco-panoptic:{root}", "val")[0]
    (root / "annotations/panoptic_val/p.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"p\.png: not a readable image"):
        open_dataset(f"coco-panoptic:{root}", "val")[0]


def test_check_names_every_fault(root):
    """`minicv data check coco-panoptic:PATH`: no train, which is none; a segment without a pixel; one of no class."""
    write(root, [(70000, 9, 0), (5, 2, 0), (300, 2, 1)])
    report = check(f"coco-panoptic:{root}")
    assert report.faults == [] and report.contents[0] == "val: 1 images, 3 x 2 pixels"
    assert [line.split() for line in report.contents[1:]] == [["segments", "val"], ["car", "2"], ["sky", "1"]]
    write(root, [(70000, 9, 0), (5, 2, 0), (300, 2, 1), (77, 2, 0)])
    report = check(f"coco-panoptic:{root}")
    assert len(report.faults) == 1 and report.faults[0].endswith(
        "p.png: 1 of 4 segments that panoptic_val.json describes have no pixel")
    assert report.contents[2].split() == ["car", "2"]
    write(root, [(70000, 9, 0)])
    assert "holds the segments [5, 300], which panoptic_val.json does not describe" in check(
        f"coco-panoptic:{root}").faults[0]
    write(root, [(5, 4, 0)])
    assert "unknown category_id 4" in check(f"coco-panoptic:{root}").faults[0]
    (root / "annotations/panoptic_val.json").unlink()
    report = check(f"coco-panoptic:{root}")
    assert len(report.faults) == 3 and "no file panoptic_train*.json" in report.faults[0]


GOOD = {"images": [{"id": 1, "file_name": "p.png", "height": 2, "width": 3}],
        "categories": [{"id": 9, "name": "sky", "isthing": 0}, {"id": 2, "name": "car", "isthing": 1}],
        "annotations": [{"image_id": 1, "file_name": "p.png", "segments_info": [
            {"id": 70000, "category_id": 9, "iscrowd": 0}, {"id": 5, "category_id": 2, "iscrowd": 0},
            {"id": 300, "category_id": 2, "iscrowd": 0}]}]}


@pytest.mark.parametrize("place, value, message", [
    (("annotations", 0, "segments_info", 0, "id"), 0, r"segments_info\[0\] \(id 0\): id must be a whole number"),
    (("annotations", 0, "segments_info", 0, "id"), 256 ** 3, "id must be a whole number from 1 to 16777215"),
    (("annotations", 0, "segments_info", 0, "id"), 5,
     r"annotations\[0\], segments_info\[1\] \(id 5\): has the same id as "
     r"annotations\[0\], segments_info\[0\] \(id 5\), 5; each needs its own"),
    (("annotations", 0, "segments_info", 0, "iscrowd"), "0", "iscrowd must be 0 or 1, got '0'"),
    (("annotations", 0, "segments_info"), None, r"annotations\[0\]: segments_info must be a list of objects"),
    (("annotations", 0, "segments_info"), [3], r"segments_info\[0\]: must be an object"),
    (("annotations", 0, "file_name"), None, "file_name must be text"),
    (("annotations", 0, "image_id"), 7, "has the unknown image_id 7"),
    (("annotations",), GOOD["annotations"] * 2,
     r"annotations\[1\]: has the same image_id as annotations\[0\], 1; each needs its own"),
    (("categories", 0, "isthing"), None, "isthing must be 0 or 1, got None"),
    (("categories", 0, "id"), 2,
     r"categories\[1\] \(id 2\): has the same id as categories\[0\] \(id 2\), 2; each needs its own"),
    (("categories", 0, "name"), "car", r"has the same name as categories\[0\] .*, 'car'; each needs its own"),
    (("images", 0, "height"), 2.5, "height must be a whole number"),
    (("annotations", 0), {"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}, "open an instances file as coco"),
])
def test_values_that_are_refused(root, place, value, message):
    content = copy.deepcopy(GOOD)
    functools.reduce(lambda part, key: part[key], place[:-1], content)[place[-1]] = value
    (root / "annotations/panoptic_val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=rf"panoptic_val\.json: .*{message}"):
        CocoPanoptic(root, "val")


def test_images_without_an_annotation_are_told(root):
    content = copy.deepcopy(GOOD)
    content["images"].append({"id": 2, "file_name": "q.png", "height": 2, "width": 3})
    (root / "annotations/panoptic_val.json").write_text(json.dumps(content))
    with pytest.warns(DataWarning, match=r"panoptic_val\.json: q\.png: no annotation; left out"):
        assert len(CocoPanoptic(root, "val")) == 1
    assert "q.png: no annotation; left out" in check(f"coco-panoptic:{root}").faults[0]


def test_the_stated_size_and_the_files_are_compared_and_looked_for(root):
    content = copy.deepcopy(GOOD)
    content["images"][0].update(height=3, width=2)
    (root / "annotations/panoptic_val.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"p\.png: size \(2, 3\), but \(3, 2\) in panoptic_val\.json"):
        CocoPanoptic(root, "val")[0]
    (root / "annotations/panoptic_val/p.png").unlink()
    with pytest.raises(DataError, match=r"panoptic_val/p\.png: no such file"):
        CocoPanoptic(root, "val")


def test_iteration_ends(root):
    write(root, [(70000, 9, 0), (5, 2, 0), (300, 2, 1)])
    assert [sample.name for sample in CocoPanoptic(root, "val")] == ["p"]


def test_stuff_in_several_segments_is_told(root):
    write(root, [(70000, 9, 0), (5, 9, 0), (300, 2, 0)])
    with pytest.warns(DataWarning, match=r"p\.png: 2 segments of sky, which is stuff and should have one; all kept"):
        assert CocoPanoptic(root, "val")[0].classes.tolist() == [1, 1, 0]
