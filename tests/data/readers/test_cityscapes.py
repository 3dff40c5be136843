import warnings

import numpy as np
import pytest

from minicv.data import IGNORE, DataError, DataWarning, open_dataset, write_png
from minicv.data.readers.cityscapes import Cityscapes

IDS = np.array([[7, 8, 26], [0, 33, 29]], np.uint8)  # road sidewalk car / unlabeled bicycle caravan
CLASSES = np.array([[0, 1, 13], [IGNORE, 18, IGNORE]])


def write(root, split="train", city="bern", name="bern_000001_000019", ending="labelIds", label=IDS):
    for top in ("leftImg8bit", "gtFine"):
        (root / top / split / city).mkdir(parents=True, exist_ok=True)
    write_png(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", np.full((3, 2, 3), 51, np.uint8))
    write_png(root / f"gtFine/{split}/{city}/{name}_gtFine_{ending}.png", label)


@pytest.fixture
def root(tmp_path):
    write(tmp_path, city="ulm", name="ulm_000000_000019")
    write(tmp_path)
    write(tmp_path, "val", "lindau", "lindau_000000_000019", "labelTrainIds", CLASSES.astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize(("split", "names"), [("train", ["bern_000001_000019", "ulm_000000_000019"]),
                                              ("val", ["lindau_000000_000019"])])
def test_samples(root, split, names):
    dataset = Cityscapes(root, split)
    assert [sample.name for sample in dataset] == names and dataset.num_classes == 19
    for sample in dataset:
        np.testing.assert_array_equal(sample.label, CLASSES)
        assert sample.image.shape == (3, 2, 3)
    assert dataset.class_names[13] == "car" and dataset.colors[13].tolist() == [0, 0, 142]


def test_label_ids_come_first_where_both_are_there(root):
    write(root, ending="labelTrainIds", label=np.full((2, 3), 5, np.uint8))
    np.testing.assert_array_equal(Cityscapes(root)[0].label, CLASSES)


def test_the_test_split_is_val(root):
    with pytest.warns(DataWarning, match="no labeled test split; reading val instead"):
        images = open_dataset(f"cityscapes:{root}", "test")
    assert [sample.name for sample in images] == ["lindau_000000_000019"] and images.split == "val"


@pytest.mark.parametrize(("label", "split"), [(0, "val"), (7, "test")])
def test_a_test_split_counts_if_its_labels_are_not_all_void(root, label, split):
    for top in ("leftImg8bit", "gtFine"):
        (root / top / "test/bonn").mkdir(parents=True)
    write_png(root / "leftImg8bit/test/bonn/bonn_0_0_leftImg8bit.png", np.zeros((3, 2, 4), np.uint8))
    write_png(root / "gtFine/test/bonn/bonn_0_0_gtFine_labelIds.png", np.full((2, 4), label, np.uint8))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert open_dataset(f"cityscapes:{root}", "test").split == split
    assert len(told) == (split == "val")


def test_errors(root):
    with pytest.raises(ValueError, match="Cityscapes: split must be one of train, val, got 'test'"):
        Cityscapes(root, "test")
    write(root, label=IDS + 1)
    with pytest.raises(DataError, match=r"bern_000001_000019_gtFine_labelIds\.png: holds the unknown labels \[34\]; "
                                        "known: 0-33"):
        Cityscapes(root)[0]
    (root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds\.png: no such file"):
        Cityscapes(root)
    (root / "leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit\.png: no such"):
        Cityscapes(root, "val")
    (root / "gtFine/val/lindau/lindau_000000_000019_gtFine_labelTrainIds.png").unlink()
    with pytest.raises(DataError, match=r"leftImg8bit/val: contains no images CITY/NAME_leftImg8bit\.png"):
        Cityscapes(root, "val")
    with pytest.raises(DataError, match="leftImg8bit/train: no such folder; Cityscapes is expected as leftImg8bit"):
        Cityscapes(root / "gtFine")
