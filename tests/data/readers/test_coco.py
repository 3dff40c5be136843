import json
import re

import numpy as np
import pytest

from minicv.data import open_dataset, write_png
from minicv.data.check import check
from minicv.data.errors import DataError, DataWarning
from minicv.data.readers.coco import CocoDetection

SQUARE = [[2.0, 1.0, 6.0, 1.0, 6.0, 4.0, 2.0, 4.0]]


def annotation(bbox=(2, 1, 4, 3), category=3, id=7, **more):
    return {"id": id, "image_id": 1, "category_id": category, "bbox": list(bbox), "area": 11.5, "iscrowd": 0,
            "segmentation": SQUARE, **more}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    write_png(tmp_path / "val2017/b.png", np.full((3, 6, 10), 255, np.uint8))
    return tmp_path


def write(root, *annotations, text=None):
    images = [{"id": 1, "file_name": "b.png", "height": 6, "width": 10}]
    categories = [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]
    (root / "annotations/instances_val2017.json").write_text(text if text is not None else json.dumps(
        {"images": images, "annotations": annotations, "categories": categories}))


def test_read(root):
    rle = {"size": [6, 10], "counts": [0, 6, 54]}  # the first column
    write(root, annotation(), annotation((0, 0, 1, 6), 1, 8, iscrowd=1, segmentation=rle))
    dataset = open_dataset(f"coco:{root}", "val")
    assert dataset.class_names == ("person", "car") and len(dataset) == 1  # by number: 1, 3 -> 0, 1
    sample = dataset[0]
    assert sample.boxes.tolist() == [[2, 1, 6, 4], [0, 0, 1, 6]] and sample.labels.tolist() == [1, 0]
    assert sample.crowd.tolist() == [False, True] and sample.area.tolist() == [11.5, 11.5] and sample.name == "b"
    expected = np.zeros((2, 6, 10), bool)
    expected[0, 1:4, 2:6] = expected[1, :, 0] = True
    np.testing.assert_array_equal(sample.masks, expected)
    assert sample.for_training().labels.tolist() == [1]
    assert CocoDetection(root, "val", masks=False)[0].masks is None


def test_no_objects(root):
    write(root)
    sample = CocoDetection(root, "val")[0]
    assert sample.boxes.shape == (0, 4) and sample.masks.shape == (0, 6, 10)


@pytest.mark.parametrize("bbox, boxes, problem", [
    ((2, 1, 0, 3), [], "has no area; left out"),
    ((6, 4, -4, -3), [[2, 1, 6, 4]], "swapped corners; reordered"),
    ((-3, 1, 6, 2), [[0, 1, 3, 3]], "extends beyond the 10 x 6 image; clipped"),
    ((20, 1, 6, 2), [], "lies outside the 10 x 6 image; left out"),
])
def test_what_is_wrong_is_told_and_reading_goes_on(root, bbox, boxes, problem):
    write(root, annotation(bbox))
    with pytest.warns(DataWarning, match=rf"val2017\.json: b\.png, annotations\[0\] \(id 7\): box .*{problem}"):
        dataset = CocoDetection(root, "val")
    sample = dataset[0]
    assert sample.boxes.tolist() == boxes and len(sample.labels) == len(sample.area) == len(boxes)


def test_parts_of_a_pixel_outside_are_rounding(root):
    write(root, annotation((-0.2, 1, 4, 5.7)))
    dataset = CocoDetection(root, "val")
    np.testing.assert_allclose(dataset[0].boxes, [[0, 1, 3.8, 6]], rtol=1e-6)
    assert dataset.problems == []


@pytest.mark.parametrize("content, message", [
    ("", "not readable as JSON"),
    ("[1]", "needs the lists images, annotations, categories"),
    ('{"images": [], "categories": []}', "needs the lists"),
])
def test_what_cannot_be_read(root, content, message):
    write(root, text=content)
    with pytest.raises(DataError, match=rf"instances_val2017\.json: .*{message}"):
        CocoDetection(root, "val")


def test_wrong_annotations(root):
    write(root, annotation(category=99))
    with pytest.raises(DataError, match=r"\(id 7\): has the unknown category_id 99; the ids in categories are 1, 3"):
        CocoDetection(root, "val")
    write(root, annotation(image_id=5))
    with pytest.raises(DataError, match=r"has the unknown image_id 5; the ids in images are 1"):
        CocoDetection(root, "val")
    write(root, annotation((1, 2, 3)))
    with pytest.raises(DataError, match=r"\(id 7\): bbox must be 4 numbers up to 1e\+09, got \[1, 2, 3\]"):
        CocoDetection(root, "val")
    write(root, annotation(segmentation={"size": [6, 10], "counts": [1, 2]}))
    with pytest.raises(DataError, match=r"\(id 7\): a mask that cannot be read \(decode_rle: the runs have 3 pixels"):
        CocoDetection(root, "val")


def test_files(root):
    with pytest.raises(ValueError, match=r"COCO: no file instances_train\*\.json in .*; available splits: none"):
        CocoDetection(root)
    write(root, annotation())
    (root / "val2017/b.png").rename(root / "c.png")
    with pytest.raises(DataError, match=r"b\.png: no such file"):
        CocoDetection(root, "val")
    (root / "val2017").rmdir()
    with pytest.raises(DataError, match="val2017: no such folder; COCO is expected as"):
        CocoDetection(root, "val")


# ---------------------------------------------------------------------------------------------------------
# Masks
# ---------------------------------------------------------------------------------------------------------
OTHER = [[7.0, 1.0, 9.0, 1.0, 9.0, 4.0, 7.0, 4.0]]
OTHER_MASK = np.zeros((6, 10), bool)
OTHER_MASK[1:4, 7:9] = True


@pytest.mark.parametrize("outline", [
    [[]], [[], []], [[3, 2]], [[3, 2, 5, 2]], [[3, 2, 3, 2, 3, 2]], [[2, 1, 6, 1, 2, 1]], [[2, 1, 6, 4, 2, 1]],
    [[20, 1, 25, 1, 25, 4]], [[-9, -9, -1, -9, -1, -1]], [[2.1, 1.1, 2.3, 1.1, 2.3, 1.3]],
    [[2, 1, 6, 1, 6, 4, 2, 4, 2, 1, 6, 1, 6, 4, 2, 4]],  # twice around: even, so outside
    {"size": [6, 10], "counts": [60]}, {"size": [6, 10], "counts": "l1"}, {"size": [6, 10], "counts": [0, 0, 60]}])
def test_a_mask_without_a_pixel_is_left_out_and_the_others_stay(root, outline):
    write(root, annotation(segmentation=outline), annotation((7, 1, 2, 3), id=8, segmentation=OTHER))
    with pytest.warns(DataWarning, match=r"b\.png, annotations\[0\] \(id 7\): its mask has no pixel; left out"):
        dataset = CocoDetection(root, "val")
    sample = dataset[0]
    assert sample.boxes.tolist() == [[7, 1, 9, 4]] and len(dataset.problems) == 1
    np.testing.assert_array_equal(sample.masks, [OTHER_MASK])
    assert CocoDetection(root, "val", masks=False)[0].boxes.tolist() == [[2, 1, 6, 4], [7, 1, 9, 4]]


@pytest.mark.parametrize("missing", [{"segmentation": []}, {"segmentation": None}, {}])
def test_an_object_without_an_outline(root, missing):
    """Beside others it is left out; alone in its image it keeps its box; in a set of boxes it is no fault."""
    bare = {k: v for k, v in annotation().items() if k != "segmentation"} | missing
    write(root, bare, annotation((7, 1, 2, 3), id=8, segmentation=OTHER))
    with pytest.warns(DataWarning, match=r"\(id 7\): no outline, although other objects have one; left out"):
        sample = CocoDetection(root, "val")[0]
    assert sample.boxes.tolist() == [[7, 1, 9, 4]]
    np.testing.assert_array_equal(sample.masks, [OTHER_MASK])

    write_png(root / "val2017/c.png", np.zeros((3, 6, 10), np.uint8))
    images = [{"id": n, "file_name": f"{name}.png", "height": 6, "width": 10} for n, name in enumerate("bc", 1)]
    things = [bare, annotation((7, 1, 2, 3), id=8, image_id=2, segmentation=OTHER)]
    content = {"images": images, "annotations": things, "categories": [{"id": 3, "name": "car"}]}
    write(root, text=json.dumps(content))
    with pytest.warns(DataWarning, match=r"b\.png: none of its 1 objects has an outline, although other images have "
                                           "some; kept without masks"):
        first, second = CocoDetection(root, "val")
    assert first.boxes.tolist() == [[2, 1, 6, 4]] and first.masks is None
    np.testing.assert_array_equal(second.masks, [OTHER_MASK])

    write(root, bare)
    dataset = CocoDetection(root, "val")
    assert dataset.problems == [] and dataset[0].masks is None and dataset[0].boxes.tolist() == [[2, 1, 6, 4]]


@pytest.mark.parametrize("outline, message", [
    ([[1, 2, 3]], "a polygon must be pairs of finite numbers x, y, got a list of 3"),
    ([[1, 2, 3, 4, 5, float("nan")]], "a polygon must be pairs of finite numbers"),
    ([[1, 2, 3, 4, 5, "6"]], "a polygon must be pairs of finite numbers"),
    ([[1, 2, 3, 4, 5, None]], "a polygon must be pairs of finite numbers"),
    ([[1, 2, 3, 4, 5, 10 ** 400]], "a polygon must be pairs of finite numbers"),
    ([[[1, 2], [3, 4], [5, 6]]], "a polygon must be pairs of finite numbers"),
    ([1, 2, 3, 4, 5, 6], "segmentation must be a list of polygons"),
    ("polygon", "segmentation must be a list of polygons"), (5, "segmentation must be a list of polygons"),
    (True, "segmentation must be a list of polygons"),
    ([{"size": [6, 10], "counts": [60]}], "segmentation must be a list of polygons"),
    ({}, "a mask that cannot be read"), ({"size": [6, 10]}, "a mask that cannot be read"),
    ({"size": [6, 10], "counts": [59]}, "the runs have 59 pixels, a mask of 6 x 10 has 60"),
    ({"size": [6, 10], "counts": [-1, 61]}, "a run of -1 pixels"),
    ({"size": [6, 10], "counts": [None, 60]}, "a mask that cannot be read"),
    ({"size": [6, 10], "counts": [True, 59]}, "a mask that cannot be read"),
    ({"size": [6, 10], "counts": "é"}, "not packed run lengths"),
    ({"size": [6, 10], "counts": "o" * 10 ** 6}, "not packed run lengths"),
    ({"size": [1, 10], "counts": [0, 10]}, r"its mask has the size \(1, 10\) \(H, W\), but its image \(6, 10\)"),
    ({"size": [10, 6], "counts": [0, 60]}, r"its mask has the size \(10, 6\)"),
])
def test_outlines_that_are_refused(root, outline, message):
    write(root, annotation((7, 1, 2, 3), id=8, segmentation=OTHER), annotation(segmentation=outline))
    with pytest.raises(DataError, match=rf"val2017\.json: annotations\[1\] \(id 7\): .*{message}"):
        CocoDetection(root, "val")


# ---------------------------------------------------------------------------------------------------------
# Identifiers, numbers, other files
# ---------------------------------------------------------------------------------------------------------
IMAGE, CAR = {"id": 1, "file_name": "b.png", "height": 6, "width": 10}, {"id": 3, "name": "car"}


def refused(root, message, images=(IMAGE,), categories=(CAR,), annotations=()):
    write(root, text=json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    with pytest.raises(DataError, match=rf"instances_val2017\.json: {message}"):
        CocoDetection(root, "val")


def test_identifiers_must_be_unique(root):
    car, image = r"categories\[0\] \(id 3\)", r"images\[0\] \(id 1\)"
    refused(root, rf"categories\[1\] \(id 3\): has the same id as {car}, 3; each needs its own", categories=[CAR, CAR])
    refused(root, rf"categories\[1\] \(id 3\.0\): has the same id as {car}, 3; each needs its own",
            categories=[CAR, {"id": 3.0, "name": "dog"}])
    for name in ("car", " car"):
        refused(root, rf"categories\[1\] \(id 4\): has the same name as {car}, 'car'; each needs its own",
                categories=[CAR, {"id": 4, "name": name}])
    refused(root, rf"images\[1\] \(id 1\): has the same id as {image}, 1; each needs its own",
            images=[IMAGE, {**IMAGE, "file_name": "c.png"}])
    refused(root, rf"images\[1\] \(id 2\): has the same file_name as {image}, 'b\.png'; each needs its own",
            images=[IMAGE, {**IMAGE, "id": 2}])
    refused(root, r"images\[1\] \(id 1\): has the same file_name as images\[0\] \(id 2\), 'b\.png'; each needs its own",
            images=[{**IMAGE, "id": 2, "file_name": "./b.png"}, IMAGE])


def test_annotations_with_one_id_are_kept_and_told(root):
    write(root, annotation(), annotation((7, 1, 2, 3), segmentation=OTHER))
    with pytest.warns(DataWarning, match=r"annotations\[1\] \(id 7\) has the same id as annotations\[0\]; both kept"):
        assert len(CocoDetection(root, "val")[0].boxes) == 2


def test_ids_may_be_text_or_negative_and_numbers_whole_floats(root):
    image = {"id": "b", "file_name": "b.png", "height": 6.0, "width": 10.0}
    thing = {"image_id": "b", "category_id": -3.0, "bbox": [2, 1, 4, 3]}
    write(root, text=json.dumps({"images": [image], "annotations": [thing], "categories": [{"id": -3, "name": "狗"}]}))
    dataset = CocoDetection(root, "val")
    sample = dataset[0]
    assert dataset.class_names == ("狗",) and sample.labels.tolist() == [0] and sample.area.tolist() == [12]


@pytest.mark.parametrize("entry, field, value, message", [
    ("images", "height", 30.5, "height must be a whole number from 1 to"), ("images", "width", "10", "width must be"),
    ("images", "height", 0, "height must be"), ("images", "height", None, "height must be"),
    ("images", "width", True, "width must be"), ("images", "width", 10 ** 12, "width must be"),
    ("images", "width", 10 ** 8, "100000000 x 6 pixels are more than the"), ("images", "id", None, "id must be"),
    ("images", "file_name", "", "file_name must be text"), ("images", "file_name", 7, "file_name must be text"),
    ("images", "file_name", "a\0b", "file_name must be text"), ("categories", "id", "3", "id must be a whole number"),
    ("categories", "id", True, "id must be"), ("categories", "name", " ", "name must be text"),
    ("annotations", "category_id", "3", "category_id must be"), ("annotations", "category_id", None, "category_id"),
    ("annotations", "image_id", "1", "has the unknown image_id '1'; the ids in images are 1"),
    ("annotations", "image_id", [1], "image_id must be"), ("annotations", "bbox", None, "bbox must be 4 numbers"),
    ("annotations", "bbox", {"x": 1}, "bbox must be"), ("annotations", "bbox", [1, 2, 3, "4"], "bbox must be"),
    ("annotations", "bbox", [1, 2, 3, float("inf")], "bbox must be"), ("annotations", "iscrowd", "0", "iscrowd must"),
    ("annotations", "iscrowd", 2, "iscrowd must be"), ("annotations", "area", "11", "area must be a number from 0"),
    ("annotations", "area", float("nan"), "area must be"), ("annotations", "area", -1, "area must be"),
    ("annotations", "area", 1e300, "area must be"), ("annotations", "id", None, "id must be"),
])
def test_values_of_another_kind(root, entry, field, value, message):
    content = {"images": [dict(IMAGE)], "categories": [dict(CAR)], "annotations": [annotation()]}
    content[entry][0][field] = value
    refused(root, rf"{entry}\[0\].*: {message}", **content)


@pytest.mark.parametrize("content, message", [
    ('[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]', "a list is COCO's format of results"),
    ('{"type": "FeatureCollection", "features": []}', "images: missing among 'type', 'features'"),
    ('{"version": "5.0", "shapes": [], "imagePath": "b.png"}', "images: missing among 'version', 'shapes'"),
    ('{"images": [], "annotations": [{"id": 1, "caption": "a car"}]}', "categories: missing among"),
    ('{"images": {}, "annotations": [], "categories": []}', "images: {}"), ('null', "got None"), ('"a"', "got 'a'"),
    ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "lists no images"),
    ('{"images": [{"id": 1}], "annotations": [], "categories": []}', "lists no categories"),
    ('{"images": [1], "annotations": [], "categories": [{}]}', r"images\[0\]: must be an object"),
    ('{"images": [{}], "annotations": [{"segments_info": []}], "categories": [{}]}', "open a panoptic file as"),
])
def test_other_json_files(root, content, message):
    write(root, text=content)
    with pytest.raises(DataError, match=rf"instances_val2017\.json: .*{message}"):
        CocoDetection(root, "val")


def test_the_file_of_a_split(root):
    """An exact name comes first; two beginnings alike are refused, and no name."""
    write(root, annotation())
    with pytest.raises(ValueError, match="COCO: a split needs a name"):
        CocoDetection(root, "")
    (root / "annotations/instances_val2017.json").rename(root / "annotations/instances_val.json")
    (root / "val2017").rename(root / "val")
    (root / "annotations/instances_val2014.json").write_text("{}")
    assert len(CocoDetection(root, "val")) == 1
    (root / "annotations/instances_val.json").rename(root / "annotations/instances_val2017.json")
    with pytest.raises(DataError, match=r"instances_val2017\.json: a second file for the split 'val', besides "
                                        r"instances_val2014\.json; move one away"):
        CocoDetection(root, "val")


def test_every_wrong_annotation_of_an_image_is_told_by_check(root):
    write(root, annotation((1, 2, 3)), annotation((2, 1, 0, 3), id=8), annotation(category=99, id=9))
    faults = check(f"coco:{root}").faults
    assert [re.search(r"\(id \d\)", fault)[0] for fault in faults] == ["(id 8)", "(id 9)", "(id 7)"]
