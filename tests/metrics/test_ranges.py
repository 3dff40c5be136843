"""Measures at the ends: nothing counted, every integer type, numbers above 2 ** 24, ties and NaN."""
import warnings

import numpy as np
import pytest

from minicv import metrics
from minicv.data.sample import DetectionSample
from minicv.detection import Detections
from minicv.metrics.detection import descending_order, overlaps, precision_recall, shared_pixels
from minicv.metrics.instances import count_instances
from minicv.training.evaluate import evaluate_segmentation
from minicv.viz import color_instances, color_labels, overlay_labels
from minicv.viz.images import to_rgb

INTEGERS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.uint64, np.int64]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def truth(boxes=(), size=(20, 20), **options):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return DetectionSample(np.zeros((3, *size), np.float32), boxes, np.zeros(len(boxes), np.int64), "x", **options)


def found(boxes=(), scores=()):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(boxes), np.int64))


# -------------------------------------------------------------------------------------------------- nothing to count
CROWD = truth([[0, 0, 9, 9]], crowd=np.array([True]))
HARD = truth([[0, 0, 9, 9]], difficult=np.array([True]))
SOME = found([[0, 0, 9, 9]], [0.5])


@pytest.mark.parametrize("samples", [
    [], [(found(), truth())], [(SOME, truth())], [(found(), CROWD)], [(SOME, CROWD)], [(SOME, HARD)],
    [(found(), HARD)]])
def test_detectors_without_an_object_to_find(samples):
    voc, coco, recall = metrics.VOCEvaluator(2), metrics.CocoEvaluator(2), metrics.ProposalRecall((1, 2))
    for answers, there in samples:
        voc.update(answers, there)
        coco.update(answers, there)
        recall.update(answers.boxes, there)
    assert np.isnan(voc.ap).all() and np.isnan(voc.mean_ap)
    assert len(coco.summary()) == 12 and np.isnan(list(coco.summary().values())).all()
    assert np.isnan(coco.ap()).all() and np.isnan(coco.ar("small", 1)).all() and coco.precision(0) is None
    best, labels = recall.best_overlaps()
    assert best.shape == (2, 0) and labels.shape == (0,)
    assert np.isnan(recall.recall()).all() and np.isnan(recall.mabo()).all()


VOID = np.full((4, 5), 255)


@pytest.mark.parametrize("update", [False, True])
def test_label_maps_without_a_pixel_that_counts(update):
    matrix, borders, sizes = (metrics.ConfusionMatrix(3, 255), metrics.BoundaryFScore(3), metrics.ObjectSizeScores(3))
    panoptic = metrics.PanopticQuality(2)
    if update:
        for measure in (matrix, borders, sizes):
            measure.update(np.zeros((4, 5), int), VOID)
        panoptic.update(np.zeros((4, 5), int), np.zeros(0, int), np.zeros((4, 5), int), np.zeros(0, int))
    for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu", "per_class_iu"):
        assert np.isnan(getattr(matrix, name)).all()
    assert matrix.table(["a", "b", "c"]).count("-") >= 13
    assert np.isnan(borders.mean) and np.isnan(borders.per_class).all()
    assert np.isnan(sizes.recall).all() and np.isnan(sizes.mean_iu).all()
    assert np.isnan(panoptic.mean()).all() and np.isnan(panoptic.per_class).all()
    assert np.isnan(panoptic.mean(np.zeros(2, bool))).all()


def test_images_without_a_cell():
    none, one = np.zeros((5, 5), bool), np.pad(np.ones((3, 3), bool), 1)
    assert np.isnan(metrics.rand_score(none.astype(int), none.astype(int))).all()
    assert np.isnan(metrics.rand_error(one.astype(int), none.astype(int)))
    assert np.isnan(metrics.rand_f_score_at(one.astype(float), none, 0.5))
    assert metrics.best_threshold([one.astype(float)], [none]) == 0.5
    some = metrics.best_threshold([one * 0.9, one * 0.9], [one, none])
    assert some == metrics.best_threshold([one * 0.9], [one])
    assert count_instances(one.astype(int), none.astype(int)) == (0, 0, 0)
    assert metrics.iou(none, none) == 1 and metrics.warping_error(none, none) == 0


def test_evaluating_images_without_a_cell_or_without_a_label():
    class Sample:
        image, label, name = np.zeros((1, 6, 6), np.float32), np.zeros((6, 6), int), "empty"

    class Set(list):
        num_classes, class_names = 2, ("gap", "cell")

    class Model:
        def predict(self, images, **how):
            from minicv.models.segmentation.base import Segmentation
            return [Segmentation(np.zeros((6, 6), int), np.full((2, 6, 6), 0.5, np.float32))]

    result = evaluate_segmentation(Model(), Set([Sample()]), Set([Sample()]))
    assert result["pixel_accuracy"] == 1 and result["pixel_error"] == 0 and np.isnan(result["rand_f_score"])
    assert np.isnan(evaluate_segmentation(Model(), Set(), Set([Sample()]))["mean_iu"])
    Sample.label = np.full((6, 6), 255)
    assert np.isnan(evaluate_segmentation(Model(), Set([Sample()]), Set())["mean_iu"])


# --------------------------------------------------------------------------------------------- integers of all types

@pytest.mark.parametrize("dtype", INTEGERS)
def test_label_maps_of_every_integer_type_give_the_same(dtype):
    """Class numbers up to 20: row times columns of the matrix do not fit into eight bits."""
    rng = np.random.default_rng(0)
    target, prediction = rng.integers(0, 21, (2, 12, 15))
    instances = rng.integers(0, 7, (12, 15))

    def measured(a, b, c):
        matrix, borders = metrics.ConfusionMatrix(21, 20), metrics.BoundaryFScore(21)
        sizes, panoptic = metrics.ObjectSizeScores(21, (2, 9)), metrics.PanopticQuality(3)
        matrix.update(a, b)
        borders.update(a, b)
        sizes.update(a, b, c)
        panoptic.update(a, np.arange(20) % 3, b, np.arange(20) % 3, np.arange(20) % 2)
        return [matrix.matrix, borders.per_class, sizes.per_class_iu, sizes.recall, panoptic.per_class,
                *metrics.rand_score(a, b), *count_instances(a, b)]

    expected = measured(prediction, target, instances)
    for one, other in zip(measured(*(x.astype(dtype) for x in (prediction, target, instances))), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_masks_as_labels():
    mask = np.array([[True, False, True]])
    matrix = metrics.ConfusionMatrix(2)
    matrix.update(mask, ~mask)
    assert matrix.matrix.tolist() == [[0, 2], [1, 0]]
    assert metrics.iou(mask, np.uint8(255) * mask) == 1 and metrics.pixel_error(mask, ~mask) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64])
def test_labels_out_of_range_are_refused_and_nothing_is_counted(dtype):
    wrong, right = np.array([[0, 3, 100]]).astype(dtype), np.zeros((1, 3), dtype)
    for measure in (metrics.ConfusionMatrix(3), metrics.BoundaryFScore(3)):
        for pair in ((wrong, right), (right, wrong)):
            with pytest.raises(ValueError, match="100"):
                measure.update(*pair)
        assert np.isnan(measure.mean_iu if isinstance(measure, metrics.ConfusionMatrix) else measure.mean)


def test_labels_of_objects_are_integers():
    answers = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1))
    for measure in (metrics.VOCEvaluator(2), metrics.CocoEvaluator(2)):
        with pytest.raises(ValueError, match=r"update: labels must be integers, got float64"):
            measure.update(answers, truth())
        measure.update(Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0)), truth([[0, 0, 5, 5]]))  # of none, any


def test_crowds_are_bools_one_for_each_segment():
    one = np.array([[1, 1]])
    quality = metrics.PanopticQuality(1)
    quality.update(one, [0], one, [0], crowd=[1])  # 1 is not ~1
    assert (quality.tp, quality.fp, quality.fn) == (0, 0, 0)
    with pytest.raises(ValueError, match="1 true segments, but 2 values of crowd"):
        quality.update(one, [0], one, [0], crowd=[0, 1])


# ----------------------------------------------------------------------------------------------------- large numbers

def test_counts_above_the_integers_of_float32():
    matrix = metrics.ConfusionMatrix(2)
    matrix.matrix[:] = [[2**24, 1], [0, 2**40]]
    assert matrix.pixel_accuracy == (2**24 + 2**40) / (2**24 + 2**40 + 1) < 1
    assert matrix.per_class_iu[0] == 2**24 / (2**24 + 1) < 1
    n = 2**24 + 3
    a = np.ones((1, n), bool)
    assert shared_pixels(a, a) == n
    b = a.copy()
    b[0, :2] = False
    np.testing.assert_array_equal(shared_pixels(np.stack([a[0], b[0]]), b), [[n - 2], [n - 2]])


def test_masks_and_boxes_larger_than_an_int32_can_count():
    far = [[0, 0, 60000, 60000]]
    iou, area, size = overlaps(found(far, [1]), truth(far), masks=False)
    assert iou == 1 and area == size == 3.6e9
    sizes = np.array([[2**31, 5]])
    assert metrics.rand_warping._pairs(sizes) == 2**31 * (2**31 - 1) + 20


def test_masks_of_other_types_count_as_masks():
    mask = np.zeros((1, 20, 20), np.uint8)
    mask[0, :4, :5] = 255
    answers = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, int), mask)
    iou, _, size = overlaps(answers, truth([[0, 0, 5, 4]], masks=mask > 0), masks=True)
    assert iou == 1 and size == 20


# ------------------------------------------------------------------------------------------------------- ties and NaN

def test_of_equal_scores_the_first_is_first_and_nan_is_last():
    nan = np.nan
    scores = [0.5, nan, 0.9, 0.5, -np.inf, nan, 0.9, np.inf]
    expected = np.argsort([-s for s in scores], kind="mergesort")  # pycocotools' own line
    assert descending_order(np.array(scores)).tolist() == expected.tolist() == [7, 2, 6, 0, 3, 4, 1, 5]
    assert descending_order(np.array([3, 200, 0], np.uint8)).tolist() == [1, 0, 2]  # -200 of eight bits would be 56
    precision, recall = precision_recall(np.array([1, 0, 255], np.uint8), np.array([0, 1, 1], np.uint8), 2)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 2, 1 / 2, 1])


def test_detections_with_nan_scores_come_last():
    there = truth([[0, 0, 10, 10]])
    voc, coco = metrics.VOCEvaluator(1), metrics.CocoEvaluator(1)
    answers = found([[0, 0, 10, 10], [0, 0, 10, 10]], [np.nan, 0.2])
    for measure in (voc, coco):
        measure.update(answers, there)
    assert voc.mean_ap == coco.summary()["AP"] == 1


# ----------------------------------------------------------------------------------------------------------- images

@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_integers(dtype):
    top = np.iinfo(dtype).max
    image = np.array([[[0, top // 2, top]]], dtype)
    np.testing.assert_array_equal(to_rgb(image)[0, :, 0], [0, 127, 255])
    assert overlay_labels(image, np.array([[0, 0, 1]], np.uint8)).shape == (1, 3, 3)


def test_images_with_nan_and_beyond_the_range():
    np.testing.assert_array_equal(to_rgb(np.array([[np.nan, -1, 2, np.inf]]))[0, :, 0], [0, 0, 255, 255])


@pytest.mark.parametrize("dtype", [*INTEGERS, bool])
def test_instances_and_labels_of_every_type(dtype):
    top = 1 if dtype is bool else int(min(np.iinfo(dtype).max, 2**40))
    instances = np.array([[0, 1, top]]).astype(dtype)
    colors = color_instances(instances)
    assert (colors[0, 0] == 0).all() and (colors[0, 1] > 0).any() and (colors[0, 2] > 0).any()
    palette = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert color_labels(instances[:, :2], palette).tolist() == [palette.tolist()]
