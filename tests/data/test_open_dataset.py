import numpy as np
import pytest

from minicv.data import ISBI2012, DataError, open_dataset, write_png
from minicv.data.errors import DataWarning


def test_cells():
    train = open_dataset("cells", count=2, size=24, seed=3)
    test = open_dataset("cells", "test", count=2, size=(24, 32), seed=3)
    assert len(train) == len(test) == 2
    assert train[0].image.shape == (1, 24, 24) and test[0].image.shape == (1, 24, 32)


@pytest.mark.parametrize("name", ["cells", "street-scenes", "shape-boxes", "shapes"])
def test_no_image_is_shared_by_two_splits_whatever_the_seed(name):
    images = {}
    for split in ("train", "val", "test"):
        for seed in range(3):
            dataset = open_dataset(name, split, count=2, size=24, seed=seed)
            again = open_dataset(name, split, count=2, size=24, seed=seed)
            for i in range(2):
                np.testing.assert_array_equal(dataset[i].image, again[i].image)  # the same every time
                images[split, seed, i] = dataset[i].image.tobytes()
    assert len(set(images.values())) == 3 * 3 * 2


def test_val_stands_for_a_missing_test_split_only(tmp_path):
    for name in "abc":
        for folder in ("images", "masks"):
            (tmp_path / f"stage1_train/{name}/{folder}").mkdir(parents=True)
        write_png(tmp_path / f"stage1_train/{name}/images/{name}.png", np.zeros((3, 4, 4), np.uint8))
    (tmp_path / "val.txt").write_text("b")
    with pytest.warns(DataWarning, match="no labeled test split; reading val"):
        assert open_dataset(f"dsb2018:{tmp_path}", "test")[0].name == "b"
    (tmp_path / "test.txt").write_text("c")
    assert open_dataset(f"dsb2018:{tmp_path}", "test")[0].name == "c"
    (tmp_path / "test.txt").write_text("")
    with pytest.raises(DataError, match=r"test\.txt: lists no images"):
        open_dataset(f"dsb2018:{tmp_path}", "test")


def test_isbi2012(tmp_path):
    for kind in ("image", "label"):
        (tmp_path / kind).mkdir()
        write_png(tmp_path / kind / "0.png", np.zeros((4, 4), np.uint8))
    dataset = open_dataset(f"isbi2012:{tmp_path}", "all")
    assert isinstance(dataset, ISBI2012) and dataset.indices == [0]


@pytest.mark.parametrize(
    ("spec", "split", "error", "message"),
    [
        ("ISBI:x", "train", ValueError, r"unknown data set 'ISBI'; did you mean isbi2012\?"),
        ("", "train", ValueError, r"unknown data set ''; there are: cells, isbi2012, camvid"),
        ("isbi2012", "train", ValueError, r"isbi2012 needs a path, as in isbi2012:DIR; minicv data "),
        ("isbi2012:", "train", ValueError, r"isbi2012 needs a path, as in isbi2012:DIR; minicv data "),
        ("cells:x", "train", ValueError, r"cells is generated and takes no path, got 'cells:x'; available"),
        ("cells", "dev", ValueError, "Cells: split must be one of train, test, val, got 'dev'"),
        ("isbi2012:/no/where", "train", DataError, r"/no/where/image: no such folder"),
        ("isbi2012:/no/where", "dev", ValueError, r"split must be"),
    ],
)
def test_errors(spec, split, error, message):
    with pytest.raises(error, match=message):
        open_dataset(spec, split)
