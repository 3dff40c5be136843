"""How accurately a segmentation draws the borders between classes.

The boundary F-score is that of Csurka, Larlus, Perronnin and Meylan, "What is a good evaluation measure for semantic
segmentation?" (BMVC 2013). For one image and one class c, B_p and B_t are the boundary pixels of c in the prediction
and in the truth, and

    P = share of B_p with a pixel of B_t within the tolerance      R = share of B_t with a pixel of B_p within it
    F = 2 P R / (P + R)

A class's score is the mean of F over the images where the class has a boundary in the prediction or in the truth. The
overall score is the mean over the classes.

Conventions where the paper leaves room: a boundary pixel of c is a pixel of c that shares a side with a pixel of
another class; the image's border is not a boundary. A boundary in only one of the two maps scores 0. Void that is a
strip along the border of an object, as in PASCAL VOC, takes the class of the nearest labeled pixel up to `strip` pixels
away, so that the boundary runs along the middle of the strip. Deeper void counts for neither map and has no boundary.
"""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from .checks import as_labels, check_same_shape, mean_without_nan

STRIP = 3.0  # half the width of PASCAL VOC's strips, with the pixel in their middle
NONE = -1  # in place of a class: void, or no boundary


class BoundaryFScore:
    """Boundary F-scores over a stream of label maps, in constant memory.

    num_classes: the classes are 0 ... num_classes - 1. tolerance: in pixels; None for the paper's 0.75% of an image's
    diagonal, but at least 1. ignore_index: the void label of the truth. strip: see the module. The measures are NaN
    until a boundary has been counted.
    """

    def __init__(self, num_classes: int, tolerance: float | None = None, ignore_index: int | None = 255,
                 strip: float = STRIP):
        if num_classes < 1 or (tolerance is not None and not tolerance >= 0) or not strip >= 0:
            raise ValueError("BoundaryFScore: needs at least one class, and a tolerance and strip of at least 0, got "
                             f"{num_classes}, {tolerance} and {strip}")
        self.num_classes, self.tolerance, self.ignore_index, self.strip = num_classes, tolerance, ignore_index, strip
        self.sums, self.images = np.zeros(num_classes), np.zeros(num_classes, np.int64)  # the sum of F, over how many

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Add the label maps of an image, integers (H, W), or of a batch, (N, H, W).

        Raises ``ValueError`` for other or different shapes and for an unknown class; then nothing is counted.
        """
        name = "BoundaryFScore.update"
        prediction, target = as_labels(name, "prediction", prediction), as_labels(name, "target", target)
        check_same_shape(name, "prediction", prediction, "target", target)
        if prediction.ndim not in (2, 3):
            raise ValueError(f"{name}: label maps must be (H, W) or (N, H, W), got {target.shape}")
        shape = -1, *target.shape[-2:]
        scores = [self._f_scores(*maps) for maps in zip(prediction.reshape(shape), target.reshape(shape), strict=True)]
        for F in scores:
            self.sums += np.nan_to_num(F)
            self.images += np.isfinite(F)

    def _f_scores(self, prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
        """F of each class, (K,); NaN for a class without a boundary."""
        labeled = np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index
        for name, labels in (("prediction", prediction[labeled]), ("target", target[labeled])):
            if labels.size and not 0 <= labels.min() <= labels.max() < self.num_classes:
                raise ValueError(f"BoundaryFScore.update: {name} holds labels from {labels.min()} to {labels.max()}, "
                                 f"outside the classes 0 to {self.num_classes - 1}")
        target = fill_void_strips(target, self.ignore_index, self.strip)
        # A label that is not a class lies in void
        counted = (target != NONE) & (prediction >= 0) & (prediction < self.num_classes)
        prediction = np.where(counted, prediction.astype(np.int64), NONE)
        tolerance = max(1.0, 0.0075 * np.hypot(*target.shape)) if self.tolerance is None else self.tolerance
        B_p, B_t = (np.where(boundary(labels), labels, NONE) for labels in (prediction, target))  # (H, W), classes
        P, R = self._matched(B_p, B_t, tolerance), self._matched(B_t, B_p, tolerance)  # (K,)
        nowhere, P, R = np.isnan(P) & np.isnan(R), np.nan_to_num(P), np.nan_to_num(R)
        F = np.divide(2 * P * R, P + R, out=np.zeros(self.num_classes), where=P + R > 0)
        return np.where(nowhere, np.nan, F)

    def _matched(self, own: np.ndarray, other: np.ndarray, tolerance: float) -> np.ndarray:
        """The share of each class's pixels in ``own`` with one in ``other`` within the tolerance, (K,), or NaN."""
        H, W = own.shape
        r = int(tolerance)
        padded, hit = np.pad(other, r, constant_values=NONE), np.zeros(own.shape, bool)
        for dy in range(-r, r + 1):
            for dx in range(-r, r + 1):
                if dy * dy + dx * dx <= tolerance**2:
                    hit |= own == padded[r + dy:r + dy + H, r + dx:r + dx + W]
        of_class = np.bincount(own[own != NONE], minlength=self.num_classes)
        hits = np.bincount(own[hit & (own != NONE)], minlength=self.num_classes)
        return np.divide(hits, of_class, out=np.full(self.num_classes, np.nan), where=of_class > 0)

    @property
    def per_class(self) -> np.ndarray:
        """The score of each class, (K,); NaN for a class without any boundary."""
        return np.divide(self.sums, self.images, out=np.full(self.num_classes, np.nan), where=self.images > 0)

    @property
    def mean(self) -> float:
        """Mean of `per_class` over the classes that have one."""
        return mean_without_nan(self.per_class)


def boundary(labels: np.ndarray) -> np.ndarray:
    """The pixels of (H, W) that share a side with a pixel of another class; -1 is void and has no boundary."""
    edge = np.zeros(labels.shape, bool)
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        differ = (labels[a] != labels[b]) & (labels[a] != NONE) & (labels[b] != NONE)
        edge[a] |= differ
        edge[b] |= differ
    return edge


def fill_void_strips(target: np.ndarray, ignore_index: int | None = 255, strip: float = STRIP) -> np.ndarray:
    """The truth (H, W) in which void up to ``strip`` pixels from a labeled pixel has its class; deeper void is -1."""
    target = target.astype(np.int64)
    void = target == ignore_index if ignore_index is not None else np.zeros(target.shape, bool)
    if not void.any() or void.all():
        return np.where(void, NONE, target)
    distance, nearest = ndimage.distance_transform_edt(void, return_indices=True)
    return np.where(distance <= strip, target[tuple(nearest)], NONE)


def near_boundary(target: np.ndarray, width: float, ignore_index: int | None = 255,
                  strip: float = STRIP) -> np.ndarray:
    """A trimap: the pixels of a truth (H, W) up to ``width`` pixels on either side of a boundary, bool (H, W).

    It restricts any measure to the borders (Kohli et al., IJCV 2009), as in
    ``matrix.update(prediction, np.where(near_boundary(target, 3), target, 255))``. The boundary itself lies between
    pixels: width 1 selects the pixels that it separates.
    """
    target = as_labels("near_boundary", "target", target)
    if target.ndim != 2 or not width > 0:
        raise ValueError(f"near_boundary: needs a label map (H, W) and a positive width, got {target.shape}, {width}")
    edge = boundary(fill_void_strips(target, ignore_index, strip))
    return ndimage.distance_transform_edt(~edge) < width if edge.any() else edge
