"""What a segmentation finds of objects of different sizes.

One confusion matrix hides small objects: a class's pixels are mostly those of its large ones. Here every object of the
truth, a connected piece of one class (or what the instances say), has a size, its pixels, and every size has its own
measures. A pixel wrongly taken for a class belongs to no object of the truth; it is charged to the size of the
predicted piece that it lies in.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .checks import as_labels, check_one_image, check_same_shape

EIGHT = np.ones((3, 3), bool)  # neighbors across corners count, or thin slanted objects would fall apart


class ObjectSizeScores:
    """Recall and IU by the size of objects, over a stream of label maps, in constant memory.

    num_classes: the classes are 0 ... num_classes - 1. edges: the sizes, in pixels, where one bin ends and the next
    begins: with (32 ** 2, 96 ** 2) as in COCO, below 1024 is small, from 9216 on is large. things: the classes whose
    pieces are objects, not sky or road; None for all. ignore_index: the truth's void label.
    """

    def __init__(self, num_classes: int, edges: Sequence[float] = (32**2, 96**2), things: Sequence[int] | None = None,
                 ignore_index: int | None = 255):
        things = range(num_classes) if things is None else things
        if num_classes < 1 or list(edges) != sorted(set(edges)) or not set(things) <= set(range(num_classes)):
            raise ValueError(f"ObjectSizeScores: needs a class, rising edges and things among the classes, got "
                             f"{num_classes}, {tuple(edges)} and {tuple(things)}")
        self.num_classes, self.edges, self.things, self.ignore_index = num_classes, edges, tuple(things), ignore_index
        counts = np.zeros((4, len(edges) + 1, num_classes), np.int64)  # (what, bins, K)
        self.objects, self.found, self._right, self._union = counts

    def update(self, prediction: np.ndarray, target: np.ndarray, instances: np.ndarray | None = None) -> None:
        """Add one picture: integers (H, W). instances tell touching objects of one class apart, whatever their numbers.

        Raises ``ValueError`` for shapes that differ.
        """
        name = "ObjectSizeScores.update"
        prediction, target = as_labels(name, "prediction", prediction), as_labels(name, "target", target)
        check_same_shape(name, "prediction", prediction, "target", target)
        check_one_image(name, "target", target)
        counted = np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index
        for k in self.things:
            own, predicted = target == k, prediction == k
            pieces = ndimage.label(own, EIGHT)[0] if instances is None else _numbered(instances, own)
            size = np.bincount(pieces.ravel())[1:]  # of each object
            right = np.bincount(pieces[predicted], minlength=len(size) + 1)[1:]
            bins = np.digitize(size, self.edges)
            np.add.at(self.objects[:, k], bins, 1)
            np.add.at(self.found[:, k], bins, 2 * right > size)
            np.add.at(self._right[:, k], bins, right)
            np.add.at(self._union[:, k], bins, size)
            pieces, _ = ndimage.label(predicted, EIGHT)
            size = np.bincount(pieces.ravel())[1:]
            wrong = np.bincount(pieces[predicted & counted & ~own], minlength=len(size) + 1)[1:]
            np.add.at(self._union[:, k], np.digitize(size, self.edges), wrong)

    @property
    def recall(self) -> np.ndarray:
        """The share of objects of each size, (bins,), of which more than half of the pixels are right; NaN for none."""
        return _ratio(self.found.sum(axis=1), self.objects.sum(axis=1))

    @property
    def per_class_iu(self) -> np.ndarray:
        """IU of each size and class, (bins, K); NaN where neither side has anything."""
        return _ratio(self._right, self._union)

    @property
    def mean_iu(self) -> np.ndarray:
        """Mean of `per_class_iu` over the classes that have objects of the size, (bins,); NaN for none."""
        iu = np.where(self.objects > 0, self.per_class_iu, np.nan)
        return np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in iu])


def _numbered(instances: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The instances within a mask as 1, 2, ..., whatever their numbers; 0 outside."""
    pieces = np.zeros(mask.shape, np.int64)
    pieces[mask] = np.unique(instances[mask], return_inverse=True)[1] + 1
    return pieces


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(b.shape, np.nan), where=b > 0)
