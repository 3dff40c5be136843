import numpy as np
import pytest
from PIL import Image

from minicv.data import IGNORE, DataError, DataWarning, NoSplit, open_dataset, write_png
from minicv.data.check import check
from minicv.data.readers.voc_segmentation import VOCSegmentation, palette

LABEL = np.array([[0, 0, 255, 15], [0, 255, 15, 15], [20, 20, 20, 255]], np.uint8)


@pytest.fixture
def root(tmp_path):
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("2007_000032", "2007_000039"):
        Image.fromarray(np.full((3, 4, 3), 102, np.uint8)).save(tmp_path / f"JPEGImages/{name}.jpg", quality=100)
        label = Image.fromarray(LABEL).convert("P")
        label.putdata(LABEL.ravel())
        label.putpalette(palette().ravel().tolist())
        label.save(tmp_path / f"SegmentationClass/{name}.png")
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "JPEGImages/unlabeled.jpg")
    lists = tmp_path / "ImageSets/Segmentation"
    (lists / "train.txt").write_text("2007_000032\n")
    (lists / "val.txt").write_text("2007_000039\n")
    (lists / "trainval.txt").write_text("2007_000032\n2007_000039\n")
    return tmp_path


@pytest.mark.parametrize(("split", "names"), [("train", ["2007_000032"]), ("val", ["2007_000039"]),
                                              ("trainval", ["2007_000032", "2007_000039"])])
def test_samples(root, split, names):
    dataset = VOCSegmentation(root, split)
    assert [sample.name for sample in dataset] == names and dataset.num_classes == 21
    for sample in dataset:
        np.testing.assert_array_equal(sample.label, LABEL)  # 255 is IGNORE already
        np.testing.assert_allclose(sample.image, np.full((3, 3, 4), 0.4), atol=0.01)
    assert IGNORE == 255 and dataset.class_names[15] == "person" and dataset.class_names[20] == "tvmonitor"


def test_the_test_split_is_val(root):
    with pytest.warns(DataWarning, match="no labeled test split; reading val instead"):
        images = open_dataset(f"voc:{root}", "test")
    assert [sample.name for sample in images] == ["2007_000039"] and images.split == "val"


def test_a_test_split_with_labels_is_read(root):
    """VOC2007 has them; a list alone is not enough."""
    tests = root / "ImageSets/Segmentation/test.txt"
    tests.write_text("2007_000001\n")
    with pytest.warns(DataWarning, match="reading val instead"):
        assert open_dataset(f"voc:{root}", "test").split == "val"
    tests.write_text("2007_000039\n2007_000001\n")
    with pytest.raises(DataError, match=r"2007_000001\.jpg: no such file; 1 more are missing"):
        open_dataset(f"voc:{root}", "test")
    tests.write_text("2007_000039\n")
    assert [sample.name for sample in open_dataset(f"voc:{root}", "test")] == ["2007_000039"]
    assert any("2007_000039.jpg: is in both val and test" in fault for fault in check(f"voc:{root}").faults)


def test_colors_by_hand():
    # 15 = 1111 in bits: 0 to red, 1 to green, 2 to blue, each to the highest bit (128); 3 to red again, to 64.
    assert palette()[15].tolist() == [192, 128, 128]
    assert palette()[[0, 1, 2, 4, 255]].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [0, 0, 128], [224, 224, 192]]
    assert VOCSegmentation.colors.shape == (21, 3)
    assert len({tuple(color) for color in palette().tolist()}) == 256


def test_errors(root):
    with pytest.raises(ValueError, match="Segmentation: no split 'test'; available: train, val, trainval"):
        VOCSegmentation(root, "test")
    write_png(root / "SegmentationClass/2007_000032.png", LABEL + (LABEL == 20))
    with pytest.raises(DataError, match=r"000032\.png: holds the unknown labels \[21\]; known: 0-20, 255"):
        VOCSegmentation(root)[0]
    write_png(root / "SegmentationClass/2007_000032.png", np.full((3, 3, 4), [[[1]], [[2]], [[3]]], np.uint8))
    with pytest.raises(DataError, match=r"000032\.png: holds 1 unknown colors, such as \(1, 2, 3\)"):
        VOCSegmentation(root)[0]
    (root / "SegmentationClass/2007_000032.png").unlink()
    with pytest.raises(DataError, match=r"SegmentationClass/2007_000032\.png: no such file"):
        VOCSegmentation(root)
    (root / "ImageSets/Segmentation/val.txt").unlink()
    with pytest.raises(NoSplit, match=r"ImageSets/Segmentation: no split 'val'; available: train, trainval"):
        VOCSegmentation(root, "val")
    with pytest.raises(DataError, match="JPEGImages: no such folder; VOC is expected as JPEGImages, Seg"):
        VOCSegmentation(root / "ImageSets")
