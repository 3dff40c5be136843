"""What is wrong with detections, and what each kind of error costs (TIDE: Bolya et al., ECCV 2020).

A detection is right if its IoU with an object of its class is at least tf = 0.5 and no better scored detection took
that object. Every other detection has one error (TIDE, sec. 3.2), the first of these that fits, as in the paper's code:

    location    the IoU with an object of its class is between tb = 0.1 and tf: the box is loose
    class       the IoU with an object of another class is at least tf
    duplicate   the IoU with an object of its class is at least tf, but another detection took the object
    background  the IoU with every object is at most tb: nothing is there
    both        wrong class and wrong location: all others

An object is missed if no detection matches it and no error of location or class is about it. The cost of a kind is the
AP at IoU 0.5 that would be gained without it (sec. 3.3): of the errors of class and location about an object that no
detection matches, the best scored one becomes right; all other errors of the kind are removed; missed objects need not
be found. Costs do not add up to 1 - AP, since errors hide each other.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from ..data.sample import DetectionSample
from ..detection import Detections
from .checks import mean_without_nan
from .detection import average_precision, check_labels, descending_order, overlaps, precision_recall

KINDS = ("class", "location", "both", "duplicate", "background", "missed")
CLASS, LOCATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(6)
RIGHT, UNCOUNTED = -1, -2


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """The verdicts on D detections and G objects of one image.

    kind: int (D,), an index into ``KINDS``, RIGHT, or UNCOUNTED for one on a difficult object or a crowd. about: int
    (D,), the object that a detection matches, or that its error is about; -1 for none. found, missed: bool (G,).
    Difficult objects and crowds are neither.
    """

    kind: np.ndarray
    about: np.ndarray
    found: np.ndarray
    missed: np.ndarray

    def counts(self) -> dict[str, int]:
        """Return how many errors of each kind there are."""
        return {name: int(np.count_nonzero(self.kind == k)) for k, name in enumerate(KINDS[:MISSED])} | {
            "missed": int(self.missed.sum())}


def find_errors(found: Detections, truth: DetectionSample, tf: float = 0.5, tb: float = 0.1) -> Verdicts:
    """Return the verdicts on the detections and the objects of one image, by their boxes."""
    kind, about = np.full(len(found), UNCOUNTED), np.full(len(found), -1)
    left_out = np.asarray(truth.difficult) | np.asarray(truth.crowd)
    iou = overlaps(dataclasses.replace(found, masks=None), truth, masks=False)[0]  # (D, G)
    same = found.labels[:, None] == truth.labels
    on_left_out = (iou * (same & left_out)).max(axis=1, initial=0) >= tf
    iou = iou * ~left_out
    own, other = iou * same, iou * ~same
    free = own.copy()
    taken = np.zeros(len(truth.labels), bool)
    for d in descending_order(found.scores):
        if free[d].max(initial=0) >= tf:
            kind[d], about[d] = RIGHT, free[d].argmax()
            taken[about[d]], free[:, about[d]] = True, 0
    for d in np.flatnonzero((kind != RIGHT) & ~on_left_out):
        if tb <= own[d].max(initial=0) < tf:
            kind[d], about[d] = LOCATION, own[d].argmax()
        elif other[d].max(initial=0) >= tf:
            kind[d], about[d] = CLASS, other[d].argmax()
        elif own[d].max(initial=0) >= tf:
            kind[d], about[d] = DUPLICATE, own[d].argmax()
        else:
            kind[d] = BACKGROUND if iou[d].max(initial=0) <= tb else BOTH
    missed = ~taken & ~left_out
    missed[about[(kind == CLASS) | (kind == LOCATION)]] = False
    return Verdicts(kind, about, taken, missed)


class ErrorCosts:
    """The cost of each kind of error over a data set: ``update`` with every image, then ``costs``."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._parts: list[np.ndarray] = []  # of each image: score, class, kind, about, class of that object; (5, D)
        self._objects = np.zeros(num_classes, np.int64)
        self._missed = np.zeros(num_classes, np.int64)
        self._found: list[np.ndarray] = []  # of each image, (G,)

    def update(self, found: Detections, truth: DetectionSample) -> None:
        """Add the detections in an image, and its truth."""
        check_labels("ErrorCosts.update", self.num_classes, found.labels, truth.labels)
        verdicts, first = find_errors(found, truth), sum(map(len, self._found))
        objects = np.append(truth.labels, -1)[verdicts.about]
        about = np.where(verdicts.about >= 0, verdicts.about + first, -1)
        self._parts.append(np.stack([found.scores.astype(np.float64), found.labels, verdicts.kind, about, objects]))
        self._found.append(verdicts.found)
        counted = ~(np.asarray(truth.difficult) | np.asarray(truth.crowd))
        self._objects += np.bincount(truth.labels[counted], minlength=self.num_classes)
        self._missed += np.bincount(truth.labels[verdicts.missed], minlength=self.num_classes)

    def costs(self) -> tuple[float, dict[str, float]]:
        """Return AP at IoU 0.5, the mean over the classes with objects, and how much more it is without each kind.

        NaN without objects.
        """
        scores, labels, kinds, about, objects = np.concatenate([np.zeros((5, 0)), *self._parts], axis=1)
        right = kinds == RIGHT
        counts = kinds != UNCOUNTED
        before = self._mean_ap(scores[counts], labels[counts], right[counts], self._objects)
        costs, fixable = {}, self._fixable(scores, (kinds == CLASS) | (kinds == LOCATION), about.astype(np.int64))
        for k, name in enumerate(KINDS):
            fixed = fixable & (kinds == k)
            kept = counts & ((kinds != k) | fixed)
            after = self._mean_ap(scores[kept], np.where(fixed, objects, labels)[kept], (right | fixed)[kept],
                                  self._objects - self._missed * (k == MISSED))
            costs[name] = float("nan") if np.isnan(before) else max(after - before, 0.0) if after == after else 0.0
        return before, costs

    def _fixable(self, scores: np.ndarray, wrong: np.ndarray, about: np.ndarray) -> np.ndarray:
        """Return which of the ``wrong`` can become right: the best scored about each object that nothing matches."""
        free = ~np.append(np.concatenate([np.zeros(0, bool), *self._found]), True)
        fixable = np.zeros(len(scores), bool)
        for d in descending_order(scores):
            if wrong[d] and free[about[d]]:
                fixable[d], free[about[d]] = True, False
        return fixable

    def _mean_ap(self, scores: np.ndarray, labels: np.ndarray, right: np.ndarray, objects: np.ndarray) -> float:
        """Return the mean over the classes with objects of AP at 101 recalls."""
        aps = [average_precision(*precision_recall(scores[labels == k], right[labels == k], int(objects[k])), 101)
               for k in np.flatnonzero(objects)]
        return mean_without_nan(aps)


def confusion(found: Detections, truth: DetectionSample, num_classes: int, threshold: float = 0.5) -> np.ndarray:
    """Return which class each object of an image was found as, int (K + 1, K + 1).

    Rows are the objects' classes, columns the detections'; the last row counts false alarms, the last column objects
    that were not found. Each object and each detection counts once: right detections first, then, by falling score,
    each other one takes the free object of any class with the highest IoU of at least ``threshold``. Difficult objects,
    crowds and the detections on them are left out.
    """
    K, verdicts = num_classes, find_errors(found, truth, threshold)
    counted = ~(np.asarray(truth.difficult) | np.asarray(truth.crowd))
    free, used = counted & ~verdicts.found, verdicts.kind == RIGHT
    matrix = np.zeros((K + 1, K + 1), np.int64)
    np.add.at(matrix, (truth.labels[verdicts.about[used]], found.labels[used]), 1)
    iou = overlaps(dataclasses.replace(found, masks=None), truth, masks=False)[0]
    for d in descending_order(found.scores):
        if verdicts.kind[d] in (RIGHT, UNCOUNTED):
            continue
        near = np.where(free, iou[d], 0)
        if near.max(initial=0) >= threshold:
            matrix[truth.labels[near.argmax()], found.labels[d]] += 1
            free[near.argmax()] = False
        else:
            matrix[K, found.labels[d]] += 1
    np.add.at(matrix, (truth.labels[free], K), 1)
    return matrix
