import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data.readers.detection import boxes_of_masks
from minicv.data.sample import DetectionSample
from minicv.detection import Detections
from minicv.metrics.detection import (
    CocoEvaluator,
    ProposalRecall,
    VOCEvaluator,
    average_precision,
    match_detections,
    precision_envelope,
    precision_recall,
    voc_match,
)
from tests.oracle import require

nan = float("nan")


def found(boxes, scores, labels=None, masks=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.array(scores, np.float32), np.zeros(len(boxes), int) if labels is None else
                      np.array(labels, np.int64), masks)


def truth(boxes, labels=None, masks=None, **more):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels, np.int64)
    more = {name: np.array(v) for name, v in more.items()}
    return DetectionSample(np.zeros((3, 1, 1), np.float32), boxes, labels, "x", masks, **more)


# ------------------------------------------------------------------------------------------- the area
def test_average_precision_by_hand():
    # right, wrong, right, wrong, right; 4 objects. Precision 1, 1/2, 2/3, 1/2, 3/5; recall 1/4, 1/4, 1/2, 1/2, 3/4
    scores, right = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1, 0, 1, 0, 1], bool)
    precision, recall = precision_recall(scores, right, 4)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(recall, [1 / 4, 1 / 4, 1 / 2, 1 / 2, 3 / 4])
    np.testing.assert_allclose(precision_envelope(precision), [1, 2 / 3, 2 / 3, 3 / 5, 3 / 5])
    # exact: 1/4 at 1, 1/4 at 2/3, 1/4 at 3/5
    assert average_precision(precision, recall) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)
    # 11 points: 0, .1, .2 -> 1; .3, .4, .5 -> 2/3; .6, .7 -> 3/5; .8, .9, 1 -> 0
    assert average_precision(precision, recall, 11) == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)


@pytest.mark.parametrize("n", range(11))
def test_a_recall_of_exactly_a_wanted_one_reaches_it(n):
    """Ten objects, of which the first n answers find n: n + 1 of the 11 recalls are reached, with precision 1."""
    precision, recall = precision_recall(np.arange(10.0, 0, -1), np.arange(10) < n, 10)
    assert average_precision(precision, recall, 11) == pytest.approx((n + 1) / 11 if n else 0)


def test_eleven_points_of_vocs_own_code_miss_a_recall_of_three_tenths():
    """VOCdevkit takes max(precision where recall >= t) at t = 0:0.1:1, whose fourth is 0.30000000000000004."""
    precision, recall = np.ones(3), np.arange(1, 4) / 10  # 3 of 10 objects
    vocs = np.mean([precision[recall >= t].max(initial=0) for t in np.arange(0, 1.1, 0.1)])
    assert average_precision(precision, recall, 11) == pytest.approx(4 / 11) and vocs == pytest.approx(3 / 11)


def test_ends_of_average_precision():
    everything = precision_recall(np.array([0.9, 0.8]), np.array([True, True]), 2)
    for points in (None, 11, 101):
        assert average_precision(*everything, points) == 1
        assert average_precision(np.zeros(0), np.zeros(0), points) == 0
        assert average_precision(*precision_recall(np.ones(2), np.zeros(2, bool), 5), points) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30), st.integers(0, 10))
@settings(deadline=None)
def test_exact_area_is_the_sum_over_the_objects(rows, missed):
    """By the definition: each object found adds 1/n times the best precision at its recall or beyond."""
    scores, right = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows], bool)
    objects = int(right.sum()) + missed
    precision, recall = precision_recall(scores, right, objects)
    order, area = sorted(range(len(rows)), key=lambda i: -scores[i]), 0.0
    hits = [n for n, i in enumerate(order) if right[i]]
    for n in hits:
        area += max((sum(m <= e for m in hits) / (e + 1) for e in range(n, len(rows))), default=0) / objects
    assert average_precision(precision, recall) == pytest.approx(area)


# ------------------------------------------------------------------------------------------------ VOC
def test_voc_match_by_hand():
    objects = np.array([[0, 0, 10, 10], [3, 0, 13, 10], [50, 50, 60, 60.0]])
    difficult = np.array([False, False, True])
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 59], [50, 50, 60, 60], [0, 0, 10, 4.9],
                      [90, 0, 99, 9]])
    # right; the same object again: wrong, though the second object has 70/130 = 0.54 with it; difficult, any number of
    # times; 0.49 of the first: wrong; nowhere: wrong
    assert voc_match(boxes, objects, difficult).tolist() == [1, 0, -1, -1, 0, 0]
    assert voc_match(np.array([[0, 0, 10, 5.0]]), objects, difficult).tolist() == [1]  # 0.5 is enough
    assert voc_match(boxes[:0], objects, difficult).shape == (0,)
    assert voc_match(boxes, objects[:0], difficult[:0]).tolist() == [0] * 6


def test_voc_over_images_by_hand():
    for points, expected in ((None, (0.5 + 0.5 * 2 / 3)), (11, (6 + 5 * 2 / 3) / 11)):
        voc = VOCEvaluator(3, points=points)
        voc.update(found([[0, 0, 10, 10], [40, 40, 50, 50]], [0.9, 0.6]), truth([[0, 0, 10, 10]]))
        voc.update(found([[5, 5, 15, 15], [70, 70, 80, 80], [5, 5, 15, 15]], [0.5, 0.7, 0.8], [0, 0, 2]),
                   truth([[5, 5, 15, 15], [70, 70, 80, 80]], [0, 0], difficult=[False, True]))
        # class 0, by score: 0.9 right, 0.7 does not count (difficult), 0.6 wrong, 0.5 right. Two objects count.
        # precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1. Class 1: nothing at all; class 2: an answer, but no object
        curve = voc.curve(0)
        np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3])
        np.testing.assert_allclose(curve.scores, np.float32([0.9, 0.6, 0.5]))
        np.testing.assert_allclose(voc.ap, [expected, nan, nan])
        assert voc.mean_ap == pytest.approx(expected)


def test_voc_does_not_ask_for_crowds():
    voc = VOCEvaluator(1)
    voc.update(found([[0, 0, 10, 10], [40, 40, 60, 60]], [0.8, 0.9]),
               truth([[0, 0, 10, 10], [40, 40, 60, 60], [70, 70, 80, 80]], crowd=[False, True, True]))
    assert voc.mean_ap == 1  # one object, found; one crowd found, which does not count; one not found


def test_voc_errors():
    voc = VOCEvaluator(2)
    assert np.isnan(voc.mean_ap)
    with pytest.raises(ValueError, match="VOCEvaluator.update: labels must be 0 to 1, got 2 to 2"):
        voc.update(found([[0, 0, 1, 1]], [1], [2]), truth([]))
    voc.update(found([], []), truth([]))
    voc.update(found([], []), truth([[0, 0, 1, 1]]))
    np.testing.assert_allclose(voc.ap, [0, nan])


# ----------------------------------------------------------------------------------------------- COCO
def random_images(seed, count=8, classes=3, masks=False, ties=False):
    """Images with objects of all sizes, crowds among them, and answers near them, twice, elsewhere and mistaken."""
    rng, samples = np.random.default_rng(seed), []
    H, W = 150, 170
    y, x = np.indices((H, W)) + 0.5
    for _ in range(count):
        G, D = rng.integers(0, 7), rng.integers(0, 14)

        def some(n, low=3, high=130, rng=rng):
            corner, side = rng.uniform(0, (W - 10, H - 10), (n, 2)), np.exp(rng.uniform(*np.log((low, high)), (n, 2)))
            return np.concatenate([corner, np.minimum(corner + side, (W, H))], 1).astype(np.float32)
        there, answers = some(G), some(D)
        labels, guesses = rng.integers(0, classes, G), rng.integers(0, classes, D)
        for d in range(D):
            if G and rng.random() < 0.8:
                g = rng.integers(G)
                answers[d] = there[g] + rng.normal(0, 0.08, 4) * np.tile(there[g, 2:] - there[g, :2], 2)
                guesses[d] = labels[g]
        answers[:, 2:] = np.maximum(answers[:, 2:], answers[:, :2] + 1)
        scores = (rng.integers(0, 4, D) / 4 if ties else rng.random(D)).astype(np.float32)

        def ellipses(boxes):
            x1, y1, x2, y2 = boxes.T[:, :, None, None]
            return ((2 * x - x1 - x2) / (x2 - x1)) ** 2 + ((2 * y - y1 - y2) / (y2 - y1)) ** 2 <= 1
        parts = (ellipses(there), ellipses(answers)) if masks else (None, None)
        if masks:
            there, keep = boxes_of_masks(parts[0]), parts[0].any(axis=(1, 2))
            there, labels, parts = there[keep], labels[keep], (parts[0][keep], parts[1])
        samples.append((found(answers, scores, guesses, parts[1]),
                         truth(there, labels, parts[0], crowd=rng.random(len(there)) < 0.2)))
    return samples


def coco_says(samples, kind):
    """The twelve numbers of pycocotools, and its precision, (T, 101, K, A, 3)."""
    coco, cocoeval, mask = (require(f"pycocotools.{name}") for name in ("coco", "cocoeval", "mask"))
    annotations, results = [], []
    for i, (answers, objects) in enumerate(samples):
        def packed(m):
            rle = mask.encode(np.asfortranarray(m.astype(np.uint8)))
            return {**rle, "counts": rle["counts"].decode()}
        for g in range(len(objects.boxes)):
            x1, y1, x2, y2 = objects.boxes[g].astype(float).tolist()
            area = (x2 - x1) * (y2 - y1) if objects.masks is None else int(objects.masks[g].sum())
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": int(objects.labels[g]),
                                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": int(objects.crowd[g]),
                                **({} if objects.masks is None else {"segmentation": packed(objects.masks[g])})})
        for d in range(len(answers)):
            x1, y1, x2, y2 = answers.boxes[d].astype(float).tolist()
            results.append({"image_id": i, "category_id": int(answers.labels[d]), "score": float(answers.scores[d]),
                            **({"bbox": [x1, y1, x2 - x1, y2 - y1]} if kind == "bbox"
                               else {"segmentation": packed(answers.masks[d])})})
    with contextlib.redirect_stdout(io.StringIO()):
        there = coco.COCO()
        images = [{"id": i, "height": 150, "width": 170} for i in range(len(samples))]
        there.dataset = {"images": images, "annotations": annotations, "info": {},
                         "categories": [{"id": k, "name": str(k)} for k in range(3)]}
        there.createIndex()
        judge = cocoeval.COCOeval(there, there.loadRes(results), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats, judge.eval["precision"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_coco_is_pycocotools(seed, ties, masks):
    samples = random_images(seed, masks=masks, ties=ties)
    coco = CocoEvaluator(3, masks=masks)
    for answers, objects in samples:
        coco.update(answers, objects)
    stats, precision = coco_says(samples, "segm" if masks else "bbox")
    summary = coco.summary()
    assert list(summary) == ["AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100",
                             "ARsmall", "ARmedium", "ARlarge"]
    np.testing.assert_allclose(np.nan_to_num(list(summary.values()), nan=-1), stats, atol=1e-12)
    assert 0.05 < summary["AP"] < 0.95
    for k in range(3):
        for a, area in enumerate(("all", "small", "medium", "large")):
            ours = coco.precision(k, area)
            theirs = precision[:, :, k, a, 2]
            np.testing.assert_allclose(-np.ones_like(theirs) if ours is None else ours, theirs, atol=1e-12)


def test_coco_by_hand():
    coco = CocoEvaluator(2)
    # IoU 0.8: right at 0.5 ... 0.8, seven of the ten thresholds. A second, lower answer on the same object is wrong.
    coco.update(found([[0, 0, 10, 8], [0, 0, 10, 10.0]], [0.9, 0.3]), truth([[0, 0, 10, 10]]))
    summary = coco.summary()
    # at 0.5 to 0.8: AP 1. At 0.85, 0.9, 0.95: the first is wrong, the second right: precision 1/2
    assert summary["AP"] == pytest.approx((7 + 3 / 2) / 10) and summary["AP50"] == 1
    assert summary["APsmall"] == summary["AP"] and np.isnan(summary["APlarge"])  # 100 square pixels
    assert summary["AR1"] == pytest.approx(7 / 10) and summary["AR10"] == 1
    np.testing.assert_allclose(coco.ap(), [summary["AP"], nan])
    np.testing.assert_allclose(coco.ap(threshold=0.85), [0.5, nan])


def test_coco_leaves_out_crowds_and_difficult_objects():
    coco = CocoEvaluator(1)
    coco.update(found([[0, 0, 10, 10], [50, 50, 55, 55], [70, 70, 80, 80]], [0.5, 0.9, 0.8]),
                truth([[0, 0, 10, 10], [40, 40, 60, 60], [70, 70, 80, 80]], crowd=[False, True, False],
                      difficult=[False, False, True]))
    # the second lies wholly in the crowd (25 / 25, not 25 / 400), the third has the difficult object: only one counts
    assert coco.summary()["AP"] == 1
    empty = CocoEvaluator(1)
    empty.update(found([], []), truth([]))
    assert all(np.isnan(v) for v in empty.summary().values())


def test_objects_found_by_hand():
    there = truth([[0, 0, 10, 10], [3, 0, 13, 10], [50, 50, 60, 60]], [0, 0, 1])
    mine = found([[3, 0, 13, 9], [0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [50, 50, 60, 60]],
                 [0.5, 0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0, 1])
    # By score: the second takes object 0, so the third, though it has 0.9 with that, takes object 1, of which it has
    # 63/127 = 0.496: not enough, unless 0.4 is asked for; then object 1 is gone for the first answer, which has 0.9 of
    # it. The fourth is at object 2, but of another class; the last one finds it.
    assert match_detections(mine, there).tolist() == [1, 0, -1, -1, 2]
    assert match_detections(mine, there, 0.4).tolist() == [-1, 0, 1, -1, 2]
    assert match_detections(mine[:0], there).shape == (0,)
    assert match_detections(mine, truth([])).tolist() == [-1] * 5
    # masks, where both have them: three pixels of a row found, two of them there
    mask = np.array([[[True, True, True, False]]])
    mine, there = found([[0, 0, 1, 1]], [1], masks=mask), truth([[5, 5, 6, 6]], masks=mask & (np.arange(4) < 2))
    assert match_detections(mine, there, 0.6).tolist() == [0]  # 2/3
    assert match_detections(mine, there, 0.7).tolist() == [-1]
    assert match_detections(found([[0, 0, 1, 1]], [1]), there).tolist() == [-1]  # the boxes are apart


def test_coco_errors():
    with pytest.raises(ValueError, match="CocoEvaluator.update: found has no masks; compare boxes with masks=False"):
        CocoEvaluator(1, masks=True).update(found([[0, 0, 1, 1]], [1]), truth([]))
    with pytest.raises(ValueError, match="thresholds are 0.5, 0.55, ... 0.95, got 0.4"):
        CocoEvaluator(1).ap(threshold=0.4)


# ------------------------------------------------------------------------------------------ proposals
def test_proposals_by_hand():
    recall = ProposalRecall(counts=(1, 2, 9))
    recall.update([[0, 0, 10, 4], [0, 0, 10, 8]], truth([[0, 0, 10, 10], [20, 0, 30, 10]], [0, 1]))
    recall.update(np.zeros((0, 4)), truth([[0, 0, 10, 10], [0, 0, 5, 5]], [0, 0], difficult=[False, True]))
    # best overlaps after 1, 2 and all: 0.4, 0.8, 0.8; 0, 0, 0; of the second image 0; the difficult one is left out
    np.testing.assert_allclose(recall.best_overlaps()[0], [[0.4, 0, 0], [0.8, 0, 0], [0.8, 0, 0]])
    np.testing.assert_allclose(recall.recall(0.4), [1 / 3] * 3)
    np.testing.assert_allclose(recall.recall(), [0, 1 / 3, 1 / 3])
    # class 0: (0.8 + 0) / 2, class 1: 0; mean of the two
    np.testing.assert_allclose(recall.mabo(), [0.1, 0.2, 0.2])
    assert np.isnan(ProposalRecall().recall()).all() and np.isnan(ProposalRecall().mabo()).all()
