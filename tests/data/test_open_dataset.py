import numpy as np
import pytest

from minicv.data import ISBI2012, DataError, open_dataset, write_png


def test_cells():
    train = open_dataset("cells", count=2, size=24, seed=3)
    test = open_dataset("cells", "test", count=2, size=(24, 32), seed=3)
    assert len(train) == len(test) == 2
    assert train[0].image.shape == (1, 24, 24) and test[0].image.shape == (1, 24, 32)


def test_training_and_test_pictures_differ_for_all_seeds():
    names = [
        {sample.name for sample in open_dataset("cells", split, count=2, size=8, seed=seed)}
        for split in ("train", "test")
        for seed in range(3)
    ]
    assert len(set.union(*names)) == 2 * 2 * 3  # a name holds the seed and the index that draw the picture


def test_isbi2012(tmp_path):
    for kind in ("image", "label"):
        (tmp_path / kind).mkdir()
        write_png(tmp_path / kind / "0.png", np.zeros((4, 4), np.uint8))
    dataset = open_dataset(f"isbi2012:{tmp_path}", "all")
    assert isinstance(dataset, ISBI2012) and dataset.indices == [0]


@pytest.mark.parametrize(
    ("spec", "split", "error", "message"),
    [
        ("ISBI:x", "train", ValueError, r"no data set 'ISBI'; available: cells, isbi2012:PATH"),
        ("", "train", ValueError, r"no data set ''; available: cells, isbi2012:PATH"),
        ("isbi2012", "train", ValueError, r"isbi2012 needs a path, got 'isbi2012'; available: cells, isbi"),
        ("isbi2012:", "train", ValueError, r"isbi2012 needs a path, got 'isbi2012:'; available"),
        ("cells:x", "train", ValueError, r"cells is generated and takes no path, got 'cells:x'; available"),
        ("cells", "val", ValueError, r'cells has the splits "train" and "test", got \'val\''),
        ("isbi2012:/no/where", "train", DataError, r"/no/where/image: no such folder"),
        ("isbi2012:/no/where", "val", ValueError, r"split must be"),
    ],
)
def test_errors(spec, split, error, message):
    with pytest.raises(error, match=message):
        open_dataset(spec, split)
