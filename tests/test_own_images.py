"""Real images, rewritten as people keep their own: every format gives the boxes and pixels of the original."""
import numpy as np
import pytest

from minicv.data import open_dataset
from tests import own_images

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::minicv.data.DataWarning")]


@pytest.mark.parametrize(("writer", "spec"), [("voc", "voc-detection"), ("yolo", "yolo")])
def test_blood_cells(real_data, tmp_path, writer, spec):
    own_images.WRITERS[writer](real_data / "bccd", tmp_path / "cells")
    for split in own_images.SPLITS:
        ours, theirs = open_dataset(f"{spec}:{tmp_path / 'cells'}", split), open_dataset(
            f"bccd:{real_data / 'bccd'}", split)
        assert set(ours.class_names) == set(own_images.NAMES.values()) and len(ours) == len(theirs)
        of = {record.name: record for record in theirs.records}
        for record in ours.records:
            other = of[record.name]
            np.testing.assert_allclose(record.boxes, other.boxes, atol=1e-3)
            assert [ours.class_names[k] for k in record.labels] == [
                own_images.NAMES[theirs.class_names[k]] for k in other.labels]
    np.testing.assert_array_equal(ours[0].image, theirs[[r.name for r in theirs.records].index(ours[0].name)].image)


def test_nuclei(real_data, tmp_path):
    own_images.write_masks(real_data / "dsb2018", tmp_path / "nuclei")
    counts = {}
    for split, original in (("train", "train"), ("val", "train"), ("test", "val")):
        ours, theirs = open_dataset(f"masks:{tmp_path / 'nuclei'}", split), open_dataset(
            f"dsb2018:{real_data / 'dsb2018'}", original)
        assert ours.class_names == ("background", "object")
        counts[split] = len(ours)
        names = [record.name for record in theirs.records]
        sample = ours[0]
        np.testing.assert_array_equal(sample.label, theirs[names.index(sample.name)].masks.any(axis=0))
    assert counts == {"train": 100, "val": 20, "test": 30}


def test_photos(real_data, tmp_path, monkeypatch):
    monkeypatch.setattr(own_images, "PHOTOS", {"train": 1, "val": 0, "test": 1})
    own_images.write_photos(real_data / "camvid", real_data / "bccd", tmp_path / "photos")
    for split in ("train", "test"):
        photos = open_dataset(f"coco:{tmp_path / 'photos'}", split)
        sides = photos[0].boxes[:, 2:] - photos[0].boxes[:, :2]
        assert photos[0].image.shape == (3, 3000, 4000) and photos.class_names == ("white cell",)
        assert len(sides) in range(1, 6) and sides.min() > 100 and sides.max() <= 1300
