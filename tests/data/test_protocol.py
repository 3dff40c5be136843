"""What every data set does: a length, items by index, iteration that ends; and which split "test" is."""
import json
import shutil
import warnings

import numpy as np
import pytest

from minicv import data, models, training
from minicv.cli import main as cli
from minicv.data import DataError, DataWarning, open_dataset
from minicv.data.generated.dataset import GeneratedDataset
from minicv.data.readers.segmentation import SegmentationReader
from tests import fuzz


def make_voc_segmentation(folder):
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (folder / name).mkdir(parents=True)
    data.write_png(folder / "JPEGImages/a.jpg", fuzz.IMAGE)
    data.write_png(folder / "SegmentationClass/a.png", fuzz.LABEL)
    (folder / "ImageSets/Segmentation/train.txt").write_text("a\n")


def make_cityscapes(folder):
    for top, ending, array in (("leftImg8bit", "leftImg8bit", fuzz.IMAGE), ("gtFine", "gtFine_labelIds", fuzz.LABEL)):
        (folder / top / "train/ulm").mkdir(parents=True)
        data.write_png(folder / top / f"train/ulm/ulm_0_0_{ending}.png", array)


SETS = {  # name -> what writes one image of it, the spec, the split
    "isbi2012": (fuzz.make_isbi, "isbi2012:{}", "all"), "camvid": (fuzz.make_camvid, "camvid:{}", "train"),
    "voc": (make_voc_segmentation, "voc:{}", "train"), "cityscapes": (make_cityscapes, "cityscapes:{}", "train"),
    "voc-detection": (fuzz.make_voc, "voc-detection:{}", "train"), "coco": (fuzz.make_coco, "coco:{}", "val"),
    "dsb2018": (fuzz.make_dsb, "dsb2018:{}", "train"), "coco-panoptic": (fuzz.make_panoptic, "coco-panoptic:{}", "val"),
    "cells": (None, "cells", "train"), "street-scenes": (None, "street-scenes", "train"),
    "shape-boxes": (None, "shape-boxes", "train"),
    "shapes": (None, "shapes", "train")}


def make(name, folder):
    write, spec, split = SETS[name]
    if write is None:
        return open_dataset(spec, split, count=1, size=64)
    write(folder)
    return open_dataset(spec.format(folder), split)


@pytest.mark.parametrize("name", [*SETS, "weight map"])
def test_items(name, tmp_path):
    """An index may be negative, a NumPy integer, a 0-d array; slices, floats and lists are refused; a ``for`` ends."""
    dataset = data.WithWeightMap(make("cells", tmp_path)) if name == "weight map" else make(name, tmp_path)
    assert len(dataset) == 1 and [sample.name for sample in dataset] == [dataset[0].name]
    assert [sample.name for sample in reversed(dataset)] == [dataset[0].name]
    for index in (-1, np.int64(0), np.int64(-1), np.uint8(0), np.array(0)):
        np.testing.assert_array_equal(dataset[index].image, dataset[0].image)
    for index in (1, -2, np.int64(1), 10 ** 30):
        with pytest.raises(IndexError, match=f"index {index} is out of range for 1 images"):
            dataset[index]
    for index in (slice(None), slice(0, 1), 0.0, "0", None, [0], np.array([0])):
        with pytest.raises(TypeError, match="an index is one whole number, got .* use "):
            dataset[index]
    assert len(dataset.class_names) == dataset.num_classes


@pytest.mark.parametrize("name", SETS)
def test_changing_an_item_does_not_change_the_next(name, tmp_path):
    dataset = make(name, tmp_path)
    first, again = dataset[0], dataset[0]
    for part in vars(first):
        value = getattr(first, part)
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value[...] = 0
    for part, value in vars(dataset[0]).items():
        np.testing.assert_array_equal(value, getattr(again, part), err_msg=part)


@pytest.mark.parametrize("name", ["cells", "street-scenes", "shape-boxes", "shapes"])
def test_kept_items_are_drawn_once_and_are_read_only(name):
    drawn, kept = (open_dataset(name, count=2, size=32, seed=1, keep=keep) for keep in (False, True))
    assert kept[1] is kept[-1] and drawn[1] is not drawn[1]
    for part, value in vars(kept[1]).items():
        np.testing.assert_array_equal(value, getattr(drawn[1], part), err_msg=part)
        assert not isinstance(value, np.ndarray) or not value.flags.writeable


@pytest.mark.parametrize("base", [GeneratedDataset, SegmentationReader])
def test_a_data_set_that_is_not_finished_cannot_be_made(base):
    class Unfinished(base):
        function = staticmethod(data.draw_cells)
    with pytest.raises(TypeError, match="abstract class Unfinished"):
        Unfinished(1, 32)


# ------------------------------------------------------------------------------------------------------- which is test

def as_test(name, folder):
    """Give the folder a split "val" and a split "test" of one image each."""
    if name == "dsb2018":
        shutil.copy(folder / "train.txt", folder / "val.txt")
        shutil.copy(folder / "train.txt", folder / "test.txt")
    else:
        for path in sorted(folder.rglob("*_val*")):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, path.with_name(path.name.replace("_val", "_test")))
        (place,) = folder.glob("val*")
        shutil.copytree(place, place.with_name(place.name.replace("val", "test")))


@pytest.mark.parametrize("name", ["coco", "dsb2018", "coco-panoptic"])
def test_val_is_read_only_where_there_is_no_test_and_it_is_said(name, tmp_path):
    make(name, tmp_path)
    spec = SETS[name][1].format(tmp_path)
    as_test(name, tmp_path)
    assert open_dataset(spec, "test").split == "test"
    for path in [*tmp_path.glob("annotations/*_test*.json"), *tmp_path.glob("test.txt")]:
        path.unlink()
    with pytest.warns(DataWarning, match=f"{tmp_path}: no labeled test split; reading val instead"):
        assert open_dataset(spec, "test").split == "val"


@pytest.mark.parametrize("name", ["coco", "dsb2018", "coco-panoptic"])
def test_a_test_split_that_is_damaged_is_not_passed_over(name, tmp_path):
    make(name, tmp_path)
    as_test(name, tmp_path)
    for path in [*tmp_path.glob("annotations/*_test*.json"), *tmp_path.glob("test.txt")]:
        path.write_text("")
    with pytest.raises(DataError, match=r"test.*(json|txt): "):
        open_dataset(SETS[name][1].format(tmp_path), "test")


def test_evaluate_says_that_it_reads_val(tmp_path, capsys):
    make("coco", tmp_path)
    model = models.build("faster_rcnn", num_classes=1, min_size=32, max_size=48)
    training.save_checkpoint(tmp_path / "model.safetensors", model, classes=["car"])
    command = ["evaluate", "--checkpoint", str(tmp_path / "model.safetensors"), "--data", f"coco:{tmp_path}", "--json"]
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        assert cli.main(command) == 0
    printed, said = capsys.readouterr()
    assert "mAP@0.5" in json.loads(printed)
    assert f"{tmp_path}: no labeled test split; reading val instead" in said
