import numpy as np
import pytest

from minicv.data import open_dataset, write_png
from minicv.data.errors import DataError, DataWarning
from minicv.data.readers.dsb2018 import DSB2018


@pytest.fixture
def root(tmp_path):
    place = tmp_path / "stage1_train/q"
    for folder in ("images", "masks"):
        (place / folder).mkdir(parents=True)
    write_png(place / "images/q.png", np.full((3, 5, 7), 51, np.uint8))
    (tmp_path / "train.txt").write_text("q\n")
    write(tmp_path, "a", np.s_[1:3, 2:6])
    write(tmp_path, "b", np.s_[4:, :2])
    return tmp_path


def write(root, name, where, size=(5, 7)):
    mask = np.zeros(size, bool)
    mask[where] = True
    write_png(root / f"stage1_train/q/masks/{name}.png", mask)


def test_read(root):
    images = open_dataset(f"dsb2018:{root}")
    assert len(images) == 1 and images.class_names == ("nucleus",) and images.problems == []
    sample = images[0]
    assert sample.boxes.tolist() == [[2, 1, 6, 3], [0, 4, 2, 5]] and sample.labels.tolist() == [0, 0]
    assert sample.masks.dtype == bool and sample.masks.sum(axis=(1, 2)).tolist() == [8, 2]
    assert sample.image.shape == (3, 5, 7) and sample.name == "q"
    assert len(DSB2018(root, "all")) == 1


def test_masks_that_overlap_or_are_empty(root):
    write(root, "c", np.s_[2:5, 5:7])  # 6 pixels, of which row 2, column 5 is a's
    write(root, "d", np.s_[:0, :])
    write(root, "e", np.s_[4:, :1])  # all b's
    with pytest.warns(DataWarning, match="3 annotations are wrong") as caught:
        images = DSB2018(root)
    told = str(caught[0].message)
    assert "c.png: 1 of 6 pixels belong to another nucleus" in told and "d.png: no pixel is set; left out" in told
    assert "e.png: 1 of 1 pixels belong to another nucleus" in told
    assert images[0].masks.sum(axis=(1, 2)).tolist() == [8, 2, 5]
    assert images[0].boxes[2].tolist() == [5, 2, 7, 5]


def test_without_nuclei(root):
    for path in (root / "stage1_train/q/masks").iterdir():
        path.unlink()
    sample = DSB2018(root)[0]
    assert sample.boxes.shape == (0, 4) and sample.masks.shape == (0, 5, 7)


def test_wrong(root):
    write(root, "c", np.s_[:1], size=(7, 5))
    with pytest.raises(DataError, match=r"c\.png: size \(7, 5\) differs from the image's \(5, 7\)"):
        DSB2018(root)
    (root / "stage1_train/q/masks/c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png: not a readable image"):
        DSB2018(root)
    (root / "train.txt").write_text("q\nr\n")
    (root / "stage1_train/q/masks/c.png").unlink()
    with pytest.raises(DataError, match=r"r\.png: no such file; the nuclei are expected as"):
        DSB2018(root)
    with pytest.raises(ValueError, match=r"DSB2018: no list .*val\.txt; available: 'train', 'all'"):
        DSB2018(root, "val")
    with pytest.raises(DataError, match="stage1_train: no such folder"):
        DSB2018(root / "nowhere")
    (root / "stage1_train/q/images/q.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"q\.png: not a readable image"):
        DSB2018(root)


def test_real_nuclei(real_data):
    images = open_dataset(f"dsb2018:{real_data / 'dsb2018'}", "val")
    assert len(images) == 30 and images.problems == []
    sample = images[0]
    assert sample.image.shape == (3, 256, 256) and len(sample.masks) == len(sample.boxes) > 0
    assert (sample.masks.sum(axis=0) <= 1).all()


def test_a_mask_of_another_format_is_refused(root):
    (mask, *_) = sorted((root / "stage1_train/q/masks").iterdir())
    mask.rename(mask.with_suffix(".tif"))
    with pytest.raises(DataError, match=r"masks/.*\.tif: only PNGs are read in this folder"):
        DSB2018(root)
