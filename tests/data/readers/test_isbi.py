import shutil

import numpy as np
import pytest

from minicv.data import ISBI2012, DataError, write_png
from minicv.data.check import check
from minicv.data.readers.isbi import split_slices


@pytest.fixture
def root(tmp_path):
    """Three slices of 6 x 8 pixels, numbered 1, 2, 10; the label's membrane is column 4."""
    label = np.full((6, 8), 255, np.uint8)
    label[:, 4] = 0
    for kind in ("image", "label"):
        (tmp_path / kind).mkdir()
    for number in (1, 2, 10):
        write_png(tmp_path / f"image/{number}.png", np.full((6, 8), number, np.uint8))
        write_png(tmp_path / f"label/{number}.png", label)
    return tmp_path


def test_samples(root):
    slices = ISBI2012(root)
    assert slices.indices == [1, 2, 10]  # by number, not 1, 10, 2
    assert len(slices) == 3 and slices.num_classes == 2 and slices.class_names == ("membrane", "cell")
    sample = slices[2]
    assert sample.name == "isbi2012-10"
    assert sample.image.dtype == np.float32 and sample.label.dtype == np.int64
    assert sample.instances.dtype == np.int32
    np.testing.assert_array_equal(sample.image, np.full((1, 6, 8), np.float32(10 / 255)))
    np.testing.assert_array_equal(sample.label, [[1, 1, 1, 1, 0, 1, 1, 1]] * 6)
    np.testing.assert_array_equal(sample.instances, [[1, 1, 1, 1, 0, 2, 2, 2]] * 6)
    with pytest.raises(ValueError, match="read-only"):
        sample.label[0, 0] = 7


def test_cells_that_meet_at_a_corner_are_two(root):
    write_png(root / "label/1.png", np.array([[255] * 4 + [0] * 4] * 3 + [[0] * 4 + [255] * 4] * 3, np.uint8))
    assert ISBI2012(root, indices=[1])[0].instances.max() == 2


def test_indices_choose(root):
    assert [sample.name for sample in ISBI2012(root, indices=(10, 1))] == ["isbi2012-10", "isbi2012-1"]


def test_other_files_are_left_alone(root):
    for name in ("notes.txt", "._1.png", "mean.png"):
        (root / "image" / name).write_text("?")
    assert ISBI2012(root).indices == [1, 2, 10]


def test_missing_folders(root):
    with pytest.raises(DataError, match=r"nowhere/image: no such folder; .*as image/N\.png and label/"):
        ISBI2012(root / "nowhere")
    shutil.rmtree(root / "label")
    with pytest.raises(DataError, match=r"label: no such folder"):
        ISBI2012(root, split="train")


def test_empty_folders(tmp_path):
    for kind in ("image", "label"):
        (tmp_path / kind).mkdir()
    with pytest.raises(DataError, match=r"image: contains no images named N\.png"):
        ISBI2012(tmp_path)


@pytest.mark.parametrize("kind", ["image", "label"])
def test_missing_half_of_a_pair(root, kind):
    (root / kind / "2.png").unlink()
    with pytest.raises(DataError, match=rf"{kind}/2\.png: no such file"):
        ISBI2012(root)


def test_splits_by_order_share_no_slice():
    assert split_slices(list(range(30))) == {"train": [*range(20)], "val": [20, 21, 22, 23], "test": [*range(24, 30)]}
    for n in range(1, 70):
        numbers = list(range(5, 5 + 2 * n, 2))
        parts = split_slices(numbers)
        assert parts["train"] + parts["val"] + parts["test"] == numbers and parts["test"]
    assert [len(part) for part in split_slices(list(range(60))).values()] == [40, 8, 12]


def test_too_few_slices_for_a_split(root):
    assert ISBI2012(root, split="train").indices == [1, 2] and ISBI2012(root, split="test").indices == [10]
    with pytest.raises(DataError, match="3 slices are too few for a split 'val'"):
        ISBI2012(root, split="val")


@pytest.mark.parametrize("kind", ["image", "label"])
def test_truncated(root, kind):
    path = root / kind / "10.png"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{kind}/10\.png: not a readable image"):
        ISBI2012(root)


def test_sizes_that_differ(root):
    write_png(root / "label/2.png", np.zeros((6, 9), np.uint8))
    with pytest.raises(DataError, match=r"image/2\.png: size \(6, 8\) .*/label/2\.png, \(6, 9\)"):
        ISBI2012(root)


def test_strange_label_values(root):
    label = np.full((6, 8), 255, np.uint8)
    label[2, 3:5] = 254, 1
    write_png(root / "label/2.png", label)
    with pytest.raises(DataError, match=r"label/2\.png: a mask must have two values, .* 3 of them, \[1, 254, 255\]"):
        ISBI2012(root)


def test_bad_arguments(root):
    with pytest.raises(ValueError, match="ISBI2012: split must be .*, got 'dev'"):
        ISBI2012(root, split="dev")
    with pytest.raises(ValueError, match="ISBI2012: give indices or a split, not both"):
        ISBI2012(root, "test", indices=[1])


def test_the_real_slices(real_data):
    slices = ISBI2012(real_data / "isbi2012", split="test")
    assert slices.indices == [24, 25, 26, 27, 28, 29]
    for sample in slices:
        assert sample.image.shape == (1, 512, 512)
        assert 0.7 < sample.label.mean() < 0.9  # most of a slice is cell
        assert 90 < sample.instances.max() < 150
    assert len(ISBI2012(real_data / "isbi2012", split="train")) == 20


@pytest.mark.parametrize("name", ["01", "²", "１", "-2", "2 copy"])
def test_a_png_whose_name_is_no_number_is_no_slice_and_is_named(root, name):
    for kind in ("image", "label"):
        shutil.copy(root / f"{kind}/1.png", root / f"{kind}/{name}.png")
    assert ISBI2012(root).indices == [1, 2, 10]
    faults = check(f"isbi2012:{root}").faults
    assert [f"{root}/{kind}/{name}.png: is not a slice" in fault for kind, fault in zip(("image", "label"), faults[:2],
                                                                                     strict=True)] == [True, True]
