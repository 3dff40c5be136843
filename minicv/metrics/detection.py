"""Average precision of detectors, by the rules of PASCAL VOC and of COCO, and the recall of proposals.

A detector's detections are sorted by score, over all images, class by class. Going down that list, precision is the
share of right detections so far, recall the share of objects found so far; average precision is the area under
precision over recall. The two benchmarks differ in what is right and in how the area is computed:

VOC (Everingham et al., IJCV 2010, sec. 4.2): a detection is right if its IoU with the object that it overlaps most is
at least 0.5, and no detection before it took that object. A detection of a "difficult" object is neither right nor
wrong, and such objects need not be found. Precision is first made non-increasing (``precision_envelope``). The area is
exact, or, until 2009, the mean at the 11 recalls 0, 0.1, ... 1.

COCO (Lin et al., ECCV 2014; the rules are those of its code, pycocotools): in each image the 100 best detections of a
class, by score, take the free object with the highest IoU, at ten IoU thresholds 0.5, 0.55, ... 0.95. A detection that
matches a crowd, or an object outside the range of areas, does not count, nor does an unmatched one whose own area is
outside the range. The area is the mean at 101 recalls, and AP the mean over the ten thresholds.

Differences from VOC's own code: boxes are continuous, so sides have no "+ 1". The COCO measures ignore "difficult"
objects like those of the wrong area.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..data.sample import DetectionSample
from ..detection import Detections, box_area, box_intersection, box_iou
from .checks import mean_without_nan

# ---------------------------------------------------------------------------------------------------------
# From a sorted list of right and wrong detections to one number
# ---------------------------------------------------------------------------------------------------------


def precision_recall(scores: np.ndarray, right: np.ndarray, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall after each detection, both (D,), from scores (D,), right (D,) bool and the objects' number.

    Detections of equal score keep their order. Without objects the recall is 0.
    """
    found = np.cumsum(np.asarray(right, bool)[descending_order(scores)])
    return found / np.arange(1, len(found) + 1), found / max(objects, 1)


def descending_order(scores: np.ndarray) -> np.ndarray:
    """The order of falling scores; equal ones keep their order, and NaN comes last, as in pycocotools."""
    return np.argsort(-np.asarray(scores, np.float64), kind="stable")


def precision_envelope(precision: np.ndarray) -> np.ndarray:
    """At each recall, the highest precision at this or a higher recall, (..., D): it never rises."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def average_precision(precision: np.ndarray, recall: np.ndarray, points: int | None = None) -> float:
    """The area under a curve of ``precision_recall``: exact (VOC since 2010), or the mean at ``points`` recalls.

    VOC took 11 points until 2009, COCO takes 101: at each of the recalls 0, ..., 1, the envelope at the first detection
    that reaches it, or 0 if none does. The recalls are exact, k / 10. VOC's own code uses multiples of 0.1 in floating
    point: 3 of 10 objects do not reach its 0.30000000000000004.
    """
    if points is None:
        return float(np.sum(np.diff(recall, prepend=0) * precision_envelope(precision)))
    wanted = np.arange(points) / (points - 1)  # linspace's 0.3 is more than 3/10
    place = np.searchsorted(recall, wanted, side="left")  # the first detection with that recall
    return float(np.append(precision_envelope(precision), 0)[place].mean())  # VOC, eqs. (1) and (2)


# ---------------------------------------------------------------------------------------------------------
# PASCAL VOC
# ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class PrecisionRecallCurve:
    """One class of a VOC evaluation. precision, recall, scores: (D,), by falling score, of detections that count."""

    precision: np.ndarray
    recall: np.ndarray
    scores: np.ndarray
    objects: int  # how many, without difficult ones

    def ap(self, points: int | None = None) -> float:
        """Average precision; NaN without objects."""
        return average_precision(self.precision, self.recall, points) if self.objects else float("nan")


class VOCEvaluator:
    """Average precision as PASCAL VOC measures it: ``update`` with every image, then ``ap`` and ``mean_ap``.

    points: None for the exact area, 11 for VOC until 2009. A detection of a difficult object, or of a crowd, is neither
    right nor wrong; the IoU with a crowd is the usual one.
    """

    def __init__(self, num_classes: int, iou_threshold: float = 0.5, points: int | None = None):
        self.num_classes, self.iou_threshold, self.points = num_classes, iou_threshold, points
        self._scores: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
        self._right: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
        self._objects = np.zeros(num_classes, np.int64)

    def update(self, found: Detections, truth: DetectionSample) -> None:
        """Add the detections in an image, and its truth."""
        check_labels("VOCEvaluator.update", self.num_classes, found.labels, truth.labels)
        for k in np.union1d(found.labels, truth.labels).astype(np.int64):
            mine, there = found[found.labels == k], truth.labels == k
            order = descending_order(mine.scores)
            difficult = (np.asarray(truth.difficult) | np.asarray(truth.crowd))[there]
            verdict = voc_match(mine.boxes[order], truth.boxes[there], difficult, self.iou_threshold)
            counts = verdict >= 0
            self._scores[k].append(mine.scores[order][counts])
            self._right[k].append(verdict[counts] == 1)
            self._objects[k] += np.count_nonzero(~difficult)

    def curve(self, k: int) -> PrecisionRecallCurve:
        """The precision-recall curve of a class."""
        scores = np.concatenate([np.zeros(0, np.float32), *self._scores[k]])
        right = np.concatenate([np.zeros(0, bool), *self._right[k]])
        precision, recall = precision_recall(scores, right, int(self._objects[k]))
        return PrecisionRecallCurve(precision, recall, -np.sort(-scores), int(self._objects[k]))

    @property
    def ap(self) -> np.ndarray:
        """Average precision of each class, (K,); NaN for a class without objects."""
        return np.array([self.curve(k).ap(self.points) for k in range(self.num_classes)])

    @property
    def mean_ap(self) -> float:
        """mAP: the mean over the classes that have objects; NaN if none has any."""
        return mean_without_nan(self.ap)


def voc_match(boxes: np.ndarray, truth: np.ndarray, difficult: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The verdict on each detection of one class in one image, int (D,): 1 right, 0 wrong, -1 does not count.

    boxes: (D, 4), by falling score. truth: (G, 4). difficult: (G,), bool. A detection can only match the object of
    highest IoU, the first of equal ones: if that one is taken, the detection is wrong, even if another is near.
    """
    verdict, taken = np.zeros(len(boxes), np.int64), np.zeros(len(truth), bool)
    iou = box_iou(np.asarray(boxes, np.float64), np.asarray(truth, np.float64))  # (D, G)
    for d in range(len(boxes)):
        if len(truth) and iou[d].max() >= threshold:
            g = iou[d].argmax()
            verdict[d] = -1 if difficult[g] else not taken[g]
            taken[g] = True
    return verdict


# ---------------------------------------------------------------------------------------------------------
# COCO
# ---------------------------------------------------------------------------------------------------------
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0, 1, 101)
AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}


class CocoEvaluator:
    """Average precision and recall as COCO measures them: ``update`` with every image, then ``summary``.

    masks: compare masks instead of boxes. max_detections: per class and image, for the three AR; AP uses the last.
    areas: named ranges in square pixels, both ends included; the first holds all objects.
    """

    def __init__(self, num_classes: int, masks: bool = False, max_detections: Sequence[int] = (1, 10, 100),
                 areas: dict[str, tuple[float, float]] = AREA_RANGES):
        self.num_classes, self.masks, self.max_detections = num_classes, masks, tuple(sorted(max_detections))
        self.areas = dict(areas)
        self._images: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in range(num_classes)]
        self._objects = np.zeros((num_classes, len(areas)), np.int64)
        self._known: dict[tuple[int, str, int], tuple[np.ndarray, np.ndarray]] = {}  # curves, until the next update

    def update(self, found: Detections, truth: DetectionSample) -> None:
        """Add the detections in an image, and its truth; with ``masks``, both need masks."""
        self._known.clear()
        check_labels("CocoEvaluator.update", self.num_classes, found.labels, truth.labels)
        for name, side in (("found", found), ("truth", truth)):
            if self.masks and side.masks is None:
                raise ValueError(f"CocoEvaluator.update: {name} has no masks; compare boxes with masks=False")
        for k in np.union1d(found.labels, truth.labels).astype(np.int64):
            mine, there = found[found.labels == k], truth.select(truth.labels == k)
            mine = mine[descending_order(mine.scores)[:self.max_detections[-1]]]
            iou, area, size = overlaps(mine, there, self.masks)
            low, high = np.array(list(self.areas.values())).T[:, :, None]  # (A, 1)
            ignored = (area < low) | (area > high) | there.crowd | there.difficult  # (A, G)
            matched, left_out = coco_match(iou, ignored, np.asarray(there.crowd))  # (A, T, D)
            left_out |= ~matched & ((size < low) | (size > high))[:, None]
            self._images[k].append((mine.scores, matched, left_out))
            self._objects[k] += np.count_nonzero(~ignored, axis=1)

    @property
    def objects(self) -> np.ndarray:
        """How many objects of each class count, (K,)."""
        return self._objects[:, 0]

    def precision(self, k: int, area: str = "all", max_detections: int | None = None) -> np.ndarray | None:
        """Precision at the 101 recalls for each IoU threshold, (T, 101); None for a class without objects."""
        curves = self._curves(k, area, max_detections)
        return None if curves is None else curves[0]

    def _curves(self, k: int, area: str, max_detections: int | None) -> tuple[np.ndarray, np.ndarray] | None:
        """Precision (T, 101) and the final recall (T,); None for a class without objects."""
        a, most = list(self.areas).index(area), max_detections or self.max_detections[-1]
        if not self._objects[k, a]:
            return None
        if (k, area, most) not in self._known:
            self._known[k, area, most] = self._accumulate(k, a, most)
        return self._known[k, area, most]

    def _accumulate(self, k: int, a: int, most: int) -> tuple[np.ndarray, np.ndarray]:
        objects, T = self._objects[k, a], len(IOU_THRESHOLDS)
        scores = np.concatenate([s[:most] for s, _, _ in self._images[k]])
        order = descending_order(scores)
        matched, left_out = (np.concatenate([p[which][a, :, :most] for p in self._images[k]], axis=1)[:, order]
                             for which in (1, 2))
        right = np.cumsum(matched & ~left_out, axis=1)  # (T, D)
        wrong = np.cumsum(~matched & ~left_out, axis=1)
        recall = right / objects
        precision = precision_envelope(right / np.maximum(right + wrong, 1))
        at = np.zeros((T, len(RECALL_POINTS)))
        for t in range(T):
            at[t] = np.append(precision[t], 0)[np.searchsorted(recall[t], RECALL_POINTS, side="left")]
        return at, recall[:, -1] if recall.shape[1] else np.zeros(T)

    def ap(self, area: str = "all", threshold: float | None = None) -> np.ndarray:
        """Average precision of each class, (K,), at one IoU threshold or averaged over all; NaN without objects."""
        return self._per_class(0, area, None, threshold)

    def ar(self, area: str = "all", max_detections: int | None = None) -> np.ndarray:
        """Average recall of each class, (K,), averaged over the IoU thresholds; NaN without objects."""
        return self._per_class(1, area, max_detections, None)

    def _per_class(self, which: int, area: str, max_detections: int | None, threshold: float | None) -> np.ndarray:
        values = np.full(self.num_classes, np.nan)
        chosen = slice(None) if threshold is None else _index(threshold)
        for k in range(self.num_classes):
            curves = self._curves(k, area, max_detections)
            if curves is not None:
                values[k] = curves[which][chosen].mean()
        return values

    def summary(self) -> dict[str, float]:
        """The twelve numbers of COCO: AP, AP50, AP75, APsmall, APmedium, APlarge, and AR likewise.

        Each is the mean over the classes with objects in that range of areas; NaN without such classes.
        """
        names = list(self.areas)
        last = self.max_detections[-1]
        numbers = {"AP": self.ap(), "AP50": self.ap(threshold=0.5), "AP75": self.ap(threshold=0.75)}
        numbers |= {f"AP{name}": self.ap(name) for name in names[1:]}
        numbers |= {f"AR{most}": self.ar(max_detections=most) for most in self.max_detections}
        numbers |= {f"AR{name}": self.ar(name, last) for name in names[1:]}
        return {name: mean_without_nan(v) for name, v in numbers.items()}


def coco_match(iou: np.ndarray, ignored: np.ndarray, crowd: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections match an object, and which of these do not count, both bool (A, T, D). One class, one image.

    iou: (D, G), detections by falling score. ignored: (A, G), objects that need not be found. crowd: (G,), objects that
    any number of detections may match. A detection prefers an object that counts, then the highest IoU, the last of
    equal ones, as in pycocotools.
    """
    (D, G), (A, _), T = iou.shape, ignored.shape, len(IOU_THRESHOLDS)
    matched, left_out = np.zeros((A, T, D), bool), np.zeros((A, T, D), bool)
    free = np.ones((A, T, G), bool)
    a, t = np.indices((A, T))
    for d in range(D if G else 0):
        near = free & (iou[d] >= np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None])  # (A, T, G)
        counting = near & ~ignored[:, None]
        allowed = np.where(counting.any(axis=2, keepdims=True), counting, near)
        g = G - 1 - np.where(allowed, iou[d], -1)[:, :, ::-1].argmax(axis=2)  # (A, T), the last of the highest
        matched[:, :, d] = allowed.any(axis=2)
        left_out[:, :, d] = matched[:, :, d] & ignored[a, g]
        free[a, t, g] &= ~matched[:, :, d] | crowd[g]
    return matched, left_out


def overlaps(mine: Detections, there: DetectionSample, masks: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IoU (D, G), with a crowd the share of the detection inside it; the areas of objects (G,) and detections (D,)."""
    if masks:
        a, b = (m.reshape(len(m), np.prod(m.shape[1:])) for m in (np.asarray(mine.masks, bool),
                                                                    np.asarray(there.masks, bool)))
        common, size, own = shared_pixels(a, b), a.sum(axis=1, dtype=float), b.sum(axis=1, dtype=float)
    else:
        a, b = mine.boxes.astype(np.float64), there.boxes.astype(np.float64)
        common, size, own = box_intersection(a, b), box_area(a), box_area(b)
    union = np.where(np.asarray(there.crowd), size[:, None], size[:, None] + own - common)  # (D, G)
    if there.area is None:
        area = own if there.masks is None else there.masks.sum(axis=(1, 2), dtype=float)
    else:
        area = there.area
    return common / np.maximum(union, 1e-12), area, size


def shared_pixels(a: np.ndarray, b: np.ndarray, part: int = 1 << 20) -> np.ndarray:
    """How many pixels masks (D, P) and (G, P) share, float64 (D, G); in parts small enough for exact float32 counts."""
    common = np.zeros((len(a), len(b)))
    for start in range(0, a.shape[1], part):
        common += a[:, start:start + part].astype(np.float32) @ b[:, start:start + part].T.astype(np.float32)
    return common


def match_detections(found: Detections, truth: DetectionSample, threshold: float = 0.5) -> np.ndarray:
    """The object that each detection in an image matches, int (D,); -1 for a false alarm. By masks if both have them.

    By falling score, a detection takes the object of its class with the highest IoU of at least ``threshold`` among
    those that no detection before it took: COCO's rule, for counting and drawing at one score threshold.
    """
    masks = found.masks is not None and truth.masks is not None
    iou = overlaps(found, truth, masks)[0]
    free, of = found.labels[:, None] == truth.labels, np.full(len(found), -1)  # (D, G)
    for d in descending_order(found.scores):
        near = np.where(free[d], iou[d], -1)
        if near.max(initial=-1) >= threshold:
            of[d] = near.argmax()
            free[:, of[d]] = False
    return of


def _index(threshold: float) -> list[int]:
    found = np.flatnonzero(np.isclose(IOU_THRESHOLDS, threshold)).tolist()
    if not found:
        raise ValueError(f"CocoEvaluator: COCO's IoU thresholds are 0.5, 0.55, ... 0.95, got {threshold}")
    return found


def check_labels(function: str, num_classes: int, *labels: np.ndarray) -> None:
    """Raise ``ValueError`` for an unknown class; the message names ``function``."""
    for some in labels:
        if some.size and some.dtype.kind not in "iu":
            raise ValueError(f"{function}: labels must be integers, got {some.dtype}")
        if some.size and (some.min() < 0 or some.max() >= num_classes):
            raise ValueError(f"{function}: labels must be 0 to {num_classes - 1}, got {some.min()} to {some.max()}")


# ---------------------------------------------------------------------------------------------------------
# Proposals
# ---------------------------------------------------------------------------------------------------------


class ProposalRecall:
    """How well proposals cover the objects, by their number (Uijlings et al., IJCV 2013, sec. 5).

    counts: how many of the best proposals per image to use; each gives a point of the curve.
    """

    def __init__(self, counts: Sequence[int] = (50, 100, 300, 1000, 2000)):
        self.counts = tuple(counts)
        self._best: list[np.ndarray] = []  # of each image, (len(counts), G)
        self._labels: list[np.ndarray] = []

    def update(self, proposals: np.ndarray, truth: DetectionSample) -> None:
        """Add the proposals of an image (R, 4), the best first. Difficult objects and crowds do not count."""
        truth = truth.for_training()
        iou = box_iou(np.asarray(proposals, np.float64), truth.boxes.astype(np.float64))  # (R, G)
        so_far = np.concatenate([np.zeros((1, len(truth.boxes))), np.maximum.accumulate(iou, axis=0)])
        self._best.append(so_far[np.minimum(self.counts, len(proposals))])
        self._labels.append(truth.labels)

    def best_overlaps(self) -> tuple[np.ndarray, np.ndarray]:
        """The highest IoU of each object with a proposal, (len(counts), G), and the objects' labels, (G,)."""
        nothing = np.zeros((len(self.counts), 0)), np.zeros(0, np.int64)
        return np.concatenate([nothing[0], *self._best], axis=1), np.concatenate([nothing[1], *self._labels])

    def recall(self, threshold: float = 0.5) -> np.ndarray:
        """The share of objects with an IoU of at least ``threshold``, (len(counts),); NaN without objects."""
        return np.array([mean_without_nan(best >= threshold) for best in self.best_overlaps()[0]])

    def mabo(self) -> np.ndarray:
        """Mean average best overlap, (len(counts),): the mean over the classes of the mean over their objects.

        NaN without objects.
        """
        best, labels = self.best_overlaps()
        abo = [best[:, labels == k].mean(axis=1) for k in np.unique(labels)]  # Uijlings et al., eq. (7)
        return np.mean(abo, axis=0) if abo else np.full(len(self.counts), np.nan)
