"""The kinds of errors of TIDE, by hand, and their costs, against TIDE's own program."""
import numpy as np
import pytest

from minicv.data import DetectionSample
from minicv.detection import Detections
from minicv.metrics.detection_errors import KINDS, RIGHT, UNCOUNTED, ErrorCosts, confusion, find_errors
from tests.metrics.test_detection import found, truth

OBJECTS = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]


def kinds(some, objects):
    verdicts = find_errors(some, objects)
    names = {RIGHT: "right", UNCOUNTED: "-"}
    return [names.get(k) or KINDS[k] for k in verdicts.kind.tolist()], verdicts


@pytest.mark.parametrize(("box", "label", "kind", "about"), [
    ([0, 0, 10, 9], 0, "right", 0), ([0, 0, 10, 5], 0, "right", 0),  # an IoU of 0.5 is enough
    ([0, 0, 10, 4.9], 0, "location", 0), ([0, 0, 10, 1], 0, "location", 0), ([0, 0, 10, 0.9], 0, "background", -1),
    ([20, 0, 30, 9], 0, "class", 1), ([20, 0, 30, 4], 0, "both", -1), ([60, 0, 70, 10], 0, "background", -1)])
def test_each_kind_by_hand(box, label, kind, about):
    """Objects of class 0, 1 and 1; one detection."""
    (name,), verdicts = kinds(found([box], [0.9], [label]), truth(OBJECTS, [0, 1, 1]))
    assert (name, verdicts.about.tolist()) == (kind, [about])
    assert verdicts.found.tolist() == [kind == "right", False, False]
    missed = np.ones(3, bool)
    if kind in ("right", "location", "class"):
        missed[about] = False
    assert verdicts.missed.tolist() == missed.tolist()


def test_the_better_scored_of_two_is_right():
    names, verdicts = kinds(found([[0, 0, 10, 9], [0, 0, 10, 10]], [0.8, 0.7]), truth(OBJECTS[:1]))
    assert names == ["right", "duplicate"] and verdicts.about.tolist() == [0, 0]
    assert verdicts.counts() == {**dict.fromkeys(KINDS, 0), "duplicate": 1}
    # of two near objects, one that is taken leaves the other
    names, verdicts = kinds(found([OBJECTS[0]] * 2, [0.8, 0.7]), truth([[0, 0, 10, 10], [2, 0, 12, 10]]))
    assert names == ["right", "right"] and verdicts.about.tolist() == [0, 1]


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_what_lies_on_left_out_objects_does_not_count(flag):
    objects = truth(OBJECTS, [0, 0, 0], **{flag: [True, False, False]})
    names, verdicts = kinds(found([[0, 0, 10, 9], [0, 0, 9, 10], [60, 0, 70, 10]], [0.9, 0.8, 0.7]), objects)
    assert names == ["-", "-", "background"] and verdicts.missed.tolist() == [False, True, True]
    assert confusion(found([[0, 0, 10, 9]], [0.9]), objects, 1).tolist() == [[0, 2], [0, 0]]


def test_nothing_and_no_objects():
    none = Detections.empty()
    assert find_errors(none, truth(OBJECTS)).missed.tolist() == [True] * 3
    assert kinds(found([OBJECTS[0]], [0.9]), truth([]))[0] == ["background"]
    costs = ErrorCosts(2)
    assert np.isnan(costs.costs()[0]) and all(np.isnan(v) for v in costs.costs()[1].values())


def test_confusions_by_hand():
    """Object 0 is found right and once more as class 1; object 1, of class 1, as class 0; object 2 is missed."""
    some = found([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 9], [60, 0, 70, 10]], [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1])
    matrix = confusion(some, truth(OBJECTS, [0, 1, 1]), 2)
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 1], [0, 2, 0]]
    assert matrix[:2].sum() == 3 and matrix[:, :2].sum() == 4  # each object and each detection once


def test_costs_by_hand():
    """Two objects; a detection of nothing before the right one, and the second object found too loosely."""
    costs = ErrorCosts(1)
    costs.update(found([[60, 0, 70, 10], [0, 0, 10, 10], [20, 0, 30, 4]], [0.9, 0.8, 0.7]), truth(OBJECTS[:2]))
    ap, cost = costs.costs()
    half = 51 / 101  # the recalls 0 to 0.5
    assert ap == pytest.approx(half / 2)  # precision 1/2
    assert cost["background"] == pytest.approx(half - ap)  # precision 1
    assert cost["location"] == pytest.approx(2 / 3 - ap)  # precision 2/3 at recall 1
    assert cost["missed"] == cost["class"] == cost["both"] == cost["duplicate"] == 0


def scene(rng):
    """Detections near and beside drawn objects, some of a wrong class."""
    objects = rng.integers(0, 6)
    corner, size = rng.uniform(0, 60, (objects, 2)), rng.uniform(8, 30, (objects, 2))
    boxes, labels = np.concatenate([corner, corner + size], axis=1).astype(np.float32), rng.integers(0, 3, objects)
    near, classes = [], []
    for box, label in zip(boxes, labels, strict=True):
        for _ in range(rng.integers(0, 4)):
            near.append(box + rng.normal(0, rng.choice([0.5, 3, 6]), 4))
            classes.append(label if rng.random() < 0.7 else rng.integers(0, 3))
    for _ in range(rng.integers(0, 3)):
        corner = rng.uniform(0, 90, 2)
        near.append(np.concatenate([corner, corner + rng.uniform(5, 20, 2)]))
        classes.append(rng.integers(0, 3))
    near = np.array(near, np.float32).reshape(-1, 4)
    near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
    scores = rng.random(len(near)).astype(np.float32)
    rng.random(objects)
    order = np.argsort(-scores)
    sample = DetectionSample(np.zeros((3, 99, 99), np.float32), boxes, labels.astype(np.int64), "x")
    return Detections(near[order], scores[order], np.array(classes, np.int64)[order]), sample


@pytest.mark.parametrize(("seed", "ap", "costs", "counts"), [  # by tidecv 1.0.1: Cls, Loc, Both, Dupe, Bkg, Miss
    (0, 28.71673, (4.9246, 12.18047, 2.35009, 2.51335, 6.73877, 8.33274), (28, 67, 24, 56, 61, 44)),
    (1, 21.487496, (5.11936, 15.429, 0.95479, 0.68751, 5.16147, 9.21482), None),
    (2, 19.408901, (4.50043, 25.61549, 0.92036, 0.84127, 4.19776, 6.36461), None)])
def test_costs_are_those_of_tides_own_program(seed, ap, costs, counts):
    rng, mine, total = np.random.default_rng(seed), ErrorCosts(3), np.zeros(6, int)
    for _ in range(60):
        some, sample = scene(rng)
        mine.update(some, sample)
        total += list(find_errors(some, sample).counts().values())
    assert 100 * mine.costs()[0] == pytest.approx(ap, abs=1e-5)
    assert [100 * v for v in mine.costs()[1].values()] == pytest.approx(costs, abs=1e-5)
    assert counts is None or tuple(total) == counts
