import numpy as np
import pytest

from minicv.data import IGNORE, DataError, open_dataset, write_png
from minicv.data.readers.camvid import CLASSES, GROUPS, CamVid, split_of

LABEL = np.array([[0, 3, 8], [10, 11, 3]], np.uint8)  # sky road car / bicyclist void road
IMAGE = np.full((3, 2, 3), 51, np.uint8)
COLORS = np.array([[(128, 128, 128), (128, 0, 192), (192, 128, 192)],  # Sky, LaneMkgsDriv, Truck_Bus
                    [(192, 0, 192), (0, 0, 0), (128, 64, 128)]], np.uint8)  # MotorcycleScooter, Void, Road


def write_segnet(root, names=("one", "two"), lists=True):
    for split in CamVid.splits:
        for name in names:
            for folder, array in ((split, IMAGE), (f"{split}annot", LABEL)):
                (root / folder).mkdir(exist_ok=True, parents=True)
                write_png(root / folder / f"{name}.png", array)
        if lists:
            (root / f"{split}.txt").write_text("".join(
                f"/anywhere/else/{split}/{name}.png /anywhere/else/{split}annot/{name}.png\n" for name in names))
    return root


def write_original(root, names, images="701_StillsRaw_full", labels="LabeledApproved_full"):
    for folder, ending, array in ((images, "", IMAGE), (labels, "_L", COLORS.transpose(2, 0, 1))):
        (root / folder).mkdir(parents=True)
        for name in names:
            write_png(root / folder / f"{name}{ending}.png", array)
    return root


def check(dataset, names):
    assert [sample.name for sample in dataset] == names
    for sample in dataset:
        np.testing.assert_array_equal(sample.label, np.where(LABEL == 11, IGNORE, LABEL))
        np.testing.assert_array_equal(sample.image, np.full((3, 2, 3), np.float32(0.2)))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_segnets_layout(tmp_path, split):
    check(CamVid(write_segnet(tmp_path), split), ["one", "two"])
    (tmp_path / f"{split}.txt").write_text(f"x/{split}/two.png x/{split}annot/two.png\n")  # the list decides
    check(CamVid(tmp_path, split), ["two"])
    check(open_dataset(f"camvid:{tmp_path}", split), ["two"])


def test_segnets_layout_without_lists(tmp_path):
    check(CamVid(write_segnet(tmp_path, lists=False), "val"), ["one", "two"])


def test_the_originals_layout(tmp_path):
    write_original(tmp_path, ["0001TP_006690", "0016E5_07959", "Seq05VD_f00000", "0001TP_009000"])
    check(CamVid(tmp_path, "train"), ["0001TP_006690"])
    check(CamVid(tmp_path, "val"), ["0016E5_07959"])
    check(CamVid(tmp_path, "test"), ["0001TP_009000", "Seq05VD_f00000"])


def test_the_originals_images_in_folders_by_split(tmp_path):
    write_original(tmp_path, ["b", "a"], "val", "val_labels")
    check(CamVid(tmp_path, "val"), ["a", "b"])


def test_the_groups_are_those_of_all_32_classes():
    colors = [color for group in GROUPS.values() for color in group.values()]
    assert len(colors) == len(set(colors)) == 31  # and Void
    assert len(CLASSES) == 11 and CamVid.colors.shape == (11, 3)
    assert CamVid.colors[CLASSES.index("road")].tolist() == [128, 64, 128]


@pytest.mark.parametrize("half", ["train/two.png", "trainannot/two.png"])
@pytest.mark.parametrize("lists", [True, False])
def test_half_of_a_pair(tmp_path, half, lists):
    (write_segnet(tmp_path, lists=lists) / half).unlink()
    with pytest.raises(DataError, match=f"{half}: no such file"):
        CamVid(tmp_path)


def test_a_half_of_the_originals_pair(tmp_path):
    write_original(tmp_path, ["0001TP_006690", "0006R0_f00930"])
    (tmp_path / "LabeledApproved_full/0006R0_f00930_L.png").unlink()
    with pytest.raises(DataError, match=r"LabeledApproved_full/0006R0_f00930_L\.png: no such file"):
        CamVid(tmp_path)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="CamVid: split must be one of train, val, test, got 'all'"):
        CamVid(tmp_path, "all")
    with pytest.raises(DataError, match="no/where: no such folder; CamVid is expected as train and trainannot"):
        CamVid("/no/where")
    with pytest.raises(DataError, match="train: no such folder"):
        CamVid(tmp_path)
    write_segnet(tmp_path)
    (tmp_path / "train.txt").write_text("train/one.png\n")
    with pytest.raises(DataError, match=r"train\.txt: entry 1 must be an image and its label, .* got 'train/one"):
        CamVid(tmp_path)
    write_png(tmp_path / "valannot/one.png", LABEL + 1)
    with pytest.raises(DataError, match=r"valannot/one\.png: holds the unknown labels \[12\]; known: 0-11"):
        CamVid(tmp_path, "val")[0]
    (tmp_path / "valannot/one.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"valannot/one\.png: not a readable image"):
        CamVid(tmp_path, "val")[0]
    for folder in ("test", "testannot"):
        for path in (tmp_path / folder).iterdir():
            path.unlink()
    (tmp_path / "test.txt").unlink()
    with pytest.raises(DataError, match="contains no images of the split 'test'"):
        CamVid(tmp_path, "test")


def test_a_color_that_is_no_class(tmp_path):
    write_original(tmp_path, ["0001TP_006690"])
    strange = COLORS.copy()
    strange[0, 0] = 1, 2, 3
    write_png(tmp_path / "LabeledApproved_full/0001TP_006690_L.png", strange.transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"_L\.png: holds 1 unknown colors, such as \(1, 2, 3\)"):
        CamVid(tmp_path)[0]


def test_the_real_images(real_data):
    root = real_data / "camvid"
    sizes = {"train": 367, "val": 101, "test": 233}
    for split, size in sizes.items():
        dataset = CamVid(root, split)
        assert len(dataset) == size
        assert {split_of(pair.name) for pair in dataset.pairs} == {split}  # the rule for the original's layout
        sample = dataset[0]
        assert sample.image.shape == (3, 180, 240) and sample.label.shape == (180, 240)
    # Shares of the pixels of every tenth training image; over all, road is 0.318 and sky 0.168.
    train = CamVid(root, "train")
    counts = sum(np.bincount(train[i].label.ravel(), minlength=256) for i in range(0, 367, 10))
    share = counts / counts.sum()
    assert share[11:255].sum() == 0 and 0.02 < share[IGNORE] < 0.06
    assert 0.27 < share[CLASSES.index("road")] < 0.36 and 0.12 < share[CLASSES.index("sky")] < 0.22
    assert share[CLASSES.index("bicyclist")] < 0.01


@pytest.mark.parametrize(("line", "message"), [
    ("train/one.png trainannot/two.png", "entry 2: trainannot/two.png is not the label of train/one.png"),
    ("trainannot/two.png trainannot/two.png", "entry 2: trainannot/two.png is not the label of trainannot/two.png"),
    ("/elsewhere/train/two.png /trainannot/two.png", "lists 'train/two.png' more than once")])
def test_lists_that_cross_or_repeat_pairs(tmp_path, line, message):
    write_segnet(tmp_path)
    (tmp_path / "train.txt").write_text(f"train/two.png trainannot/two.png\n{line}\n")
    with pytest.raises(DataError, match=rf"train\.txt: {message}"):
        CamVid(tmp_path)


def test_images_that_would_be_missed(tmp_path):
    write_segnet(tmp_path, lists=False)
    (tmp_path / "train/three.JPG").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/three\.JPG: only PNGs are read in this folder; save it as PNG, or"):
        CamVid(tmp_path)
    (tmp_path / "train/three.JPG").rename(tmp_path / "train/two.PNG")
    with pytest.raises(DataError, match=r"train/two\.PNG: has the same name as two\.png; remove one of them"):
        CamVid(tmp_path)
