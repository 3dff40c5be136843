"""Recall and IU of a segmentation by the size of the objects.

A confusion matrix hides small objects: most pixels of a class belong to its large objects. Here every object of the
truth, a connected piece of one class (or a given instance), falls into a bin by its number of pixels, and every bin has
its own measures. A pixel wrongly predicted as a class belongs to no true object; it counts in the bin of the predicted
piece that it lies in.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .checks import as_labels, check_one_image, check_same_shape

EIGHT = np.ones((3, 3), bool)  # 8-connected: thin slanted objects would fall apart otherwise


class ObjectSizeScores:
    """Recall and IU by the size of objects, over a stream of label maps, in constant memory.

    num_classes: the classes are 0 ... num_classes - 1. edges: the sizes, in pixels, at which the next bin begins: with
    (32 ** 2, 96 ** 2), as in COCO, objects below 1024 are small, from 9216 on large. things: the classes whose pieces
    are objects, unlike sky or road; None for all. ignore_index: the void label of the truth.
    """

    def __init__(self, num_classes: int, edges: Sequence[float] = (32**2, 96**2), things: Sequence[int] | None = None,
                 ignore_index: int | None = 255):
        things = range(num_classes) if things is None else things
        if num_classes < 1 or list(edges) != sorted(set(edges)) or not set(things) <= set(range(num_classes)):
            raise ValueError(f"ObjectSizeScores: needs at least one class, rising edges, and things among the classes, "
                             f"got {num_classes}, {tuple(edges)} and {tuple(things)}")
        self.num_classes, self.edges, self.things, self.ignore_index = num_classes, edges, tuple(things), ignore_index
        counts = np.zeros((4, len(edges) + 1, num_classes), np.int64)  # (what, bins, K)
        self.objects, self.found, self._right, self._union = counts

    def update(self, prediction: np.ndarray, target: np.ndarray, instances: np.ndarray | None = None) -> None:
        """Add the label maps of one image, integers (H, W). ``instances`` separates touching objects of one class.

        Raises ``ValueError`` for different shapes.
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
        """The share of objects per size, (bins,), with more than half of their pixels right; NaN without objects."""
        return _ratio(self.found.sum(axis=1), self.objects.sum(axis=1))

    @property
    def per_class_iu(self) -> np.ndarray:
        """IU of each size and class, (bins, K); NaN where neither map has an object."""
        return _ratio(self._right, self._union)

    @property
    def mean_iu(self) -> np.ndarray:
        """Mean of `per_class_iu` over the classes that have objects of the size, (bins,); NaN for none."""
        iu = np.where(self.objects > 0, self.per_class_iu, np.nan)
        return np.array([np.nanmean(row) if np.isfinite(row).any() else np.nan for row in iu])


def _numbered(instances: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The instances within a mask, renumbered 1, 2, ...; 0 outside."""
    pieces = np.zeros(mask.shape, np.int64)
    pieces[mask] = np.unique(instances[mask], return_inverse=True)[1] + 1
    return pieces


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(b.shape, np.nan), where=b > 0)
