import contextlib
import types
from pathlib import Path

import numpy as np
import pytest

from minicv.data.sample import DetectionSample
from minicv.detection import encode_boxes
from minicv.detection.linear_svm import MiningRound
from minicv.detection.ridge import ridge
from minicv.models.detection.svm_detector import BoxFeatures
from minicv.training.svm import (
    FeatureCache,
    extract_features,
    fit_box_regressors,
    fit_svms,
    mean_norm,
    negatives_of_class,
)

TRUTH = np.array([[0, 0, 10, 10], [20, 20, 40, 40]], np.float32)
LABELS = np.array([1, 0])
# IoU with the first object: 0.8 (two columns off) and 0.25; far from both
PROPOSALS = np.array([[0, 0, 10, 8], [0, 0, 5, 5], [50, 50, 60, 60]], np.float32)
BOXES = np.concatenate([TRUTH, PROPOSALS])


class FakeDetector:
    """What the second and third stage ask of a detector."""

    num_classes, box_weight, regression_iou, negative_nms_iou = 3, np.zeros((3, 2, 4)), 0.6, 1.0

    def set_svms(self, svms, scale):
        self.svms, self.scale = svms, scale

    def set_box_regressors(self, fitted):
        self.fitted = fitted

    def features(self, image, boxes):
        assert len(boxes)
        x = np.stack([boxes[:, 0], boxes[:, 3]], axis=1) / 50
        return BoxFeatures(np.concatenate([x, x[:, :1] * 0 + 1], axis=1), x)


class Data:
    def __len__(self):
        return 2

    def __getitem__(self, i):
        difficult = np.array([False, False, True])
        boxes, labels = np.concatenate([TRUTH, [[1, 1, 2, 2]]]).astype("f4"), np.array([1, 0, 2])
        sample = DetectionSample(np.zeros((3, 60, 60), np.float32), boxes, labels, "a", difficult=difficult)
        return sample if i == 0 else sample.select(np.zeros(0, int))


@pytest.fixture
def cache(tmp_path):
    return extract_features(FakeDetector(), Data(), tmp_path / "features", lambda image: PROPOSALS)


def test_the_cache_holds_objects_first_then_proposals(cache):
    boxes, labels, fc7, near, pool5, norm = cache.read(0, "boxes", "labels", "fc7", "near", "pool5", "norm")
    np.testing.assert_array_equal(boxes, BOXES)  # without the difficult one
    np.testing.assert_array_equal(labels, LABELS)
    assert fc7.shape == (5, 3) and fc7.dtype == np.float32
    x = np.stack([BOXES[:, 0], BOXES[:, 3]], axis=1) / 50  # pool5, of which three boxes have an IoU above 0.6
    assert near.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(pool5, x[:3])
    np.testing.assert_allclose(norm, np.sqrt((x**2).sum(axis=1)), rtol=1e-6)  # of all
    boxes, labels, near, pool5 = cache.read(1, "boxes", "labels", "near", "pool5")  # an image without objects
    assert boxes.shape == (3, 4) and len(labels) == len(near) == 0 and pool5.shape == (0, 2)
    files = sorted(p.name for p in cache.folder.iterdir())
    assert files == ["000000.safetensors", "000001.safetensors"]
    assert cache.nbytes == sum(p.stat().st_size for p in cache.folder.iterdir()) > 8 * (3 + 2) * 4


def test_an_image_is_written_whole_or_not_at_all(cache, monkeypatch):
    before = cache.read(0, "fc7")[0]
    monkeypatch.setattr("minicv.training.svm.save", lambda arrays: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cache.write(0, BOXES, LABELS, BoxFeatures(np.zeros((5, 3)), np.zeros((5, 2))))
    np.testing.assert_array_equal(cache.read(0, "fc7")[0], before)
    assert len(list(cache.folder.iterdir())) == 2


def test_too_small_a_disk_is_told_after_the_first_image(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: types.SimpleNamespace(free=100))
    with pytest.raises(RuntimeError, match=r"extract_features: 2 images need about 0 MB in .*, where 0 MB are free; "
                                           "set TMPDIR to a folder with more"):
        extract_features(FakeDetector(), Data(), tmp_path, lambda image: PROPOSALS)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.safetensors"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_of_the_system(tmp_path, monkeypatch):
    """Not safetensors' own, which the command line does not know."""
    monkeypatch.setattr("minicv.training.svm.atomic_write",
                        lambda path: contextlib.nullcontext(Path("/dev/full")))
    with pytest.raises(OSError, match="No space left on device"):
        FeatureCache(tmp_path, 1).write(0, BOXES, LABELS, BoxFeatures(np.zeros((5, 3)), np.zeros((5, 2))))


def test_negatives_by_hand():
    # class 1: its own object and the 0.8 are none, the 0.25 is below 0.3. Class 0: all but its object. Class 2: all.
    assert negatives_of_class(1, BOXES, LABELS).tolist() == [False, True, False, True, True]
    assert negatives_of_class(0, BOXES, LABELS).tolist() == [True, False, True, True, True]
    assert negatives_of_class(2, BOXES, LABELS).all() and negatives_of_class(0, PROPOSALS, np.zeros(0, int)).all()


def test_positives_of_an_svm_are_the_objects_alone(cache, monkeypatch):
    seen = []

    def train(positives, negatives, C, retrain_limit):
        seen.append((positives, list(negatives), C))
        return types.SimpleNamespace(), [MiningRound(2, 2, 1)]

    monkeypatch.setattr("minicv.training.svm.train_svm_with_mining", train)
    model = FakeDetector()
    fit_svms(model, cache, C=0.5)
    assert model.scale == pytest.approx(20 / mean_norm(cache))
    fc7 = cache.read(0, "fc7")[0]
    for k, owner in ((0, [1]), (1, [0]), (2, [])):
        positives, negatives, C = seen[k]
        np.testing.assert_allclose(positives, fc7[owner] * model.scale, rtol=1e-5)
        assert C == 0.5 and len(negatives) == 2
        np.testing.assert_allclose(negatives[0], fc7[negatives_of_class(k, BOXES, LABELS)] * model.scale, rtol=1e-5)
        assert len(negatives[1]) == 3  # all of the image without objects


def test_a_class_without_an_object_or_without_a_negative_finds_nothing(cache, tmp_path):
    """Its SVM would score everything by its bias: -0.99 without positives, which counts as found, or +1."""
    model = FakeDetector()
    fit_svms(model, cache)
    assert [bool(svm.weight.any()) for svm in model.svms] == [True, True, False]
    assert model.svms[2].bias == -2 and model.svms[0].bias != -2
    alone = FeatureCache(tmp_path / "alone", 1)  # one object, and no box that is none
    alone.write(0, BOXES[:1], np.array([1]), BoxFeatures(np.ones((1, 3), "f4"), np.ones((1, 2), "f4")))
    fit_svms(model, alone)
    assert [svm.bias for svm in model.svms] == [-2, -2, -2] and not model.svms[1].weight.any()


def test_of_two_negatives_that_overlap_much_the_first_stays():
    boxes = np.array([[0, 0, 10, 10], [40, 40, 50, 50], [40, 40, 50, 48], [40, 40, 50, 46]], np.float32)
    # box 0 is the object; IoU 0.8 and 0.6 with the first negative, 0.75 between the other two
    assert negatives_of_class(0, boxes, np.array([0])).tolist() == [False, True, True, True]
    assert negatives_of_class(0, boxes, np.array([0]), 0.7).tolist() == [False, True, False, True]
    assert negatives_of_class(0, boxes, np.array([0]), 0.5).tolist() == [False, True, False, False]


def test_regression_learns_from_pairs_above_0_6(cache):
    model = FakeDetector()
    # class 1: the object itself and the proposal with 0.8, class 0: the object itself
    assert fit_box_regressors(model, cache).tolist() == [1, 2, 0]
    t = encode_boxes(TRUTH[[0]], PROPOSALS[[0]])[0]
    x = cache.read(0, "pool5")[0]
    mean = (x[0] + x[2]) / 2  # of the first object and the first proposal
    np.testing.assert_allclose(model.fitted.box_deltas(mean[None], 1)[0], t / 2, atol=1e-4)  # of t and 0
    assert not model.fitted.weight[2].any() and not model.fitted.bias[[0, 2]].any()


def test_regression_sees_features_of_mean_norm_20(tmp_path):
    """Whatever the features are multiplied by: lambda is made for a mean norm of 20."""
    rng, found = np.random.default_rng(0), []
    x, boxes = rng.random((8, 2)).astype("f4"), np.array([[0, 0, 10, 10]] * 8, "f4") + rng.random((8, 4)).astype("f4")
    for factor in (1, 100):
        cache, model = FeatureCache(tmp_path / str(factor), 1), FakeDetector()
        cache.write(0, boxes, np.array([0]), BoxFeatures(x, x * factor))
        fit_box_regressors(model, cache)
        found.append(model.fitted.box_deltas(x * factor, 0))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-7)
    scale = 20 / np.linalg.norm(x, axis=1).mean()
    weight, bias = ridge(x * scale, encode_boxes(np.repeat(boxes[:1], 8, 0), boxes), 1000.0)
    np.testing.assert_allclose(found[0], x * scale @ weight + bias, rtol=1e-4, atol=1e-7)


def test_no_images_with_objects(tmp_path):
    class Empty(Data):
        def __getitem__(self, i):
            return super().__getitem__(1)
    model = FakeDetector()
    cache = extract_features(model, Empty(), tmp_path, lambda image: PROPOSALS)
    fit_svms(model, cache)
    assert fit_box_regressors(model, cache).tolist() == [0, 0, 0]
    fc7 = cache.read(0, "fc7")[0]
    assert all((svm.scores(fc7 * model.scale) < 0).all() for svm in model.svms)
    assert not model.fitted.weight.any()


def test_mean_norms(tmp_path):
    cache = FeatureCache(tmp_path, 1)
    cache.write(0, PROPOSALS, np.zeros(0, np.int64), BoxFeatures(np.array([[3, 4], [0, 0], [6, 8]], "f4"),
                                                                 np.zeros((3, 1), "f4")))
    assert mean_norm(cache) == pytest.approx(5.0) and mean_norm(cache, "pool5") == 0  # of 5, 0 and 10
