"""Measures of semantic segmentation: the four of FCN (Long et al., CVPR 2015, sec. 5), and the IoU of two masks.

FCN's symbols: n_ij pixels of class i are predicted as class j, t_i = sum_j n_ij pixels belong to class i.
All four come from one confusion matrix over the whole data set, not from a mean over images: a class would have no
value in an image without it.
"""

from collections.abc import Sequence

import numpy as np

from .checks import as_labels, as_mask, check_same_shape, mean_without_nan


class ConfusionMatrix:
    """Counts n_ij over a stream of label maps, and the measures computed from them.

    num_classes: the classes are 0 ... num_classes - 1. ignore_index: a label of the *target* (255 in PASCAL
    VOC, 11 in CamVid) whose pixels are left out, whatever is predicted there. Elsewhere the prediction must be
    a class. The measures are NaN until a pixel has been counted.
    """

    def __init__(self, num_classes: int, ignore_index: int | None = None):
        if num_classes < 1:
            raise ValueError(f"ConfusionMatrix: num_classes must be at least 1, got {num_classes}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix = np.zeros((num_classes, num_classes), np.int64)  # row: truth, column: prediction

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Add the pixels of two integer label maps of the same shape: an image or a batch.

        Raises ValueError for different shapes and for an unknown class; then nothing is counted.
        """
        prediction = as_labels("ConfusionMatrix.update", "prediction", prediction)
        target = as_labels("ConfusionMatrix.update", "target", target)
        check_same_shape("ConfusionMatrix.update", "prediction", prediction, "target", target)
        if self.ignore_index is not None:
            counted = target != self.ignore_index
            prediction, target = prediction[counted], target[counted]
        i = self._classes("target", target)
        j = self._classes("prediction", prediction)
        K = self.num_classes
        self.matrix += np.bincount(i * K + j, minlength=K * K).reshape(K, K)

    def _classes(self, name: str, labels: np.ndarray) -> np.ndarray:
        strange = np.unique(labels[(labels < 0) | (labels >= self.num_classes)])
        if strange.size:
            raise ValueError(f"ConfusionMatrix.update: {name} holds the labels {strange[:10].tolist()}, outside the "
                             f"classes 0 to {self.num_classes - 1}; ignore_index={self.ignore_index} is for the target")
        return labels.ravel().astype(np.int64)

    @property
    def pixel_accuracy(self) -> float:
        """The share of pixels that are right."""
        n_ii, t_i, _ = self._counts()
        return float(n_ii.sum() / t_i.sum()) if t_i.any() else float("nan")  # FCN, sec. 5: sum_i n_ii / sum_i t_i

    @property
    def mean_accuracy(self) -> float:
        """The share of right pixels of each class in the truth, averaged over these classes."""
        n_ii, t_i, _ = self._counts()
        shown = t_i > 0
        return mean_without_nan(n_ii[shown] / t_i[shown])  # FCN, sec. 5: (1 / n_cl) sum_i n_ii / t_i

    @property
    def mean_iu(self) -> float:
        """Mean of `per_class_iu` over the classes in the truth or in the prediction."""
        return mean_without_nan(self.per_class_iu)  # FCN, sec. 5: (1 / n_cl) sum_i IU_i

    @property
    def frequency_weighted_iu(self) -> float:
        """Mean of `per_class_iu` weighted by the pixels of each class in the truth."""
        _, t_i, _ = self._counts()
        shown = t_i > 0
        # FCN, sec. 5: (sum_k t_k)^-1 sum_i t_i n_ii / (t_i + sum_j n_ji - n_ii)
        return float(self.per_class_iu[shown] @ t_i[shown] / t_i.sum()) if shown.any() else float("nan")

    @property
    def per_class_iu(self) -> np.ndarray:
        """Intersection over union of each class, (K,); NaN for a class in neither map, or ignored."""
        n_ii, t_i, union = self._counts()
        iu = np.full(self.num_classes, np.nan)
        np.divide(n_ii, union, out=iu, where=union > 0)  # FCN, sec. 5: n_ii / (t_i + sum_j n_ji - n_ii)
        if self.ignore_index in range(self.num_classes):
            iu[self.ignore_index] = np.nan  # its pixels were left out, so predicting it was never right
        return iu

    def table(self, class_names: Sequence[str] | None = None) -> str:
        """A table: each class with its share of the pixels, accuracy and IU; then the four measures; in percent."""
        names = [str(k) for k in range(self.num_classes)] if class_names is None else list(class_names)
        if len(names) != self.num_classes:
            raise ValueError(f"ConfusionMatrix.table: {len(names)} names for {self.num_classes} classes")
        n_ii, t_i, _ = self._counts()
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, shown as -
            columns = np.stack([t_i / t_i.sum(), n_ii / t_i, self.per_class_iu], axis=1)  # (K, 3)
        wide = max(map(len, [*names, "frequency-weighted IU"]))
        lines = [f"{'class':<{wide}}  {'pixels':>7}  {'accuracy':>8}  {'IU':>6}"]
        for name, row in zip(names, columns, strict=True):
            share, accuracy, iu = map(percent, row)
            lines.append(f"{name:<{wide}}  {share:>7}  {accuracy:>8}  {iu:>6}")
        for name, value in (("pixel accuracy", self.pixel_accuracy), ("mean accuracy", self.mean_accuracy)):
            lines.append(f"{name:<{wide}}  {'':7}  {percent(value):>8}")
        for name, value in (("mean IU", self.mean_iu), ("frequency-weighted IU", self.frequency_weighted_iu)):
            lines.append(f"{name:<{wide}}  {'':7}  {'':8}  {percent(value):>6}")
        return "\n".join(lines)

    def _counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_ii, t_i = self.matrix.diagonal(), self.matrix.sum(axis=1)
        return n_ii, t_i, t_i + self.matrix.sum(axis=0) - n_ii


def percent(value: float) -> str:
    """A fraction in percent; "-" for NaN."""
    return "-" if np.isnan(value) else f"{100 * value:.1f}"


def iou(prediction: np.ndarray, target: np.ndarray) -> float:
    """Intersection over union of two binary masks of the same shape, as in U-Net's table 2.

    Two empty masks give 1: there was nothing to find, and NaN would spoil a mean over images.
    """
    prediction, target = as_mask("iou", "prediction", prediction), as_mask("iou", "target", target)
    check_same_shape("iou", "prediction", prediction, "target", target)
    union = np.count_nonzero(prediction | target)
    return np.count_nonzero(prediction & target) / union if union else 1.0
