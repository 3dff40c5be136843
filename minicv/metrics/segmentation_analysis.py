"""All that is measured of a network that labels pixels on a data set: the classes, confusions and worst images."""
from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.sample import IGNORE, Sample
from .boundary import BoundaryFScore
from .segmentation import ConfusionMatrix

MEASURES = ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")


@dataclasses.dataclass(frozen=True)
class JudgedLabels:
    """An image of a data set: its number there, its name, the labels that a network gave it (H, W), and how good.

    mean_iu: over the classes in its truth or its labels. confusions: the shares of its pixels, largest first, with the
    true class and the one they were given.
    """

    index: int
    name: str
    labels: np.ndarray
    mean_iu: float
    confusions: list[tuple[float, int, int]]


class SegmentationAnalysis:
    """``update`` with every image in the order of the data set, then ask for ``measures``, ``class_rows``, ...

    worst: how many images to keep. membranes: the measures of ISBI 2012, which take the place of the classes' IU.
    """

    def __init__(self, class_names: Sequence[str], worst: int = 12):
        self.class_names, K = list(class_names), len(class_names)
        self.matrix, self.borders = ConfusionMatrix(K, IGNORE), BoundaryFScore(K)
        self.images, self.membranes, self._worst_count = 0, dict[str, float](), worst
        self._worst: list[tuple[float, int, JudgedLabels]] = []  # a heap: -mean IU, -number, image

    def update(self, labels: np.ndarray, sample: Sample) -> None:
        """Add the labels (H, W) that a network gave an image, and its truth."""
        own = ConfusionMatrix(len(self.class_names), IGNORE)
        own.update(labels, sample.label)
        self.matrix.matrix += own.matrix
        self.borders.update(labels, sample.label)
        total = own.matrix.sum()
        if total:
            wrong = own.matrix * (1 - np.eye(len(own.matrix), dtype=np.int64))
            order = np.argsort(-wrong, axis=None, kind="stable")[:5]
            confusions = [(float(wrong.flat[n] / total), *divmod(int(n), len(wrong))) for n in order if wrong.flat[n]]
            judged = JudgedLabels(self.images, sample.name, labels, own.mean_iu, confusions)
            heapq.heappush(self._worst, (-own.mean_iu, -self.images, judged))
            if len(self._worst) > self._worst_count:
                heapq.heappop(self._worst)
        self.images += 1

    @property
    def worst(self) -> list[JudgedLabels]:
        """The images with the lowest mean IU, the worst first."""
        return [judged for _, _, judged in sorted(self._worst, key=lambda each: (-each[0], -each[1]))]

    def measures(self) -> dict[str, float]:
        """Return the field's measures by name; NaN where there is nothing to measure."""
        counted = bool(self.matrix.matrix.any())
        found = {name: getattr(self.matrix, name) for name in MEASURES}
        if self.borders.images.any():
            found["boundary_f_score"] = self.borders.mean
        if not self.membranes and counted:
            found |= {f"iu {name}": float(iu) for name, iu in zip(self.class_names, self.matrix.per_class_iu,
                                                                 strict=True) if not np.isnan(iu)}
        return found | self.membranes

    def class_rows(self) -> list[dict[str, Any]]:
        """Return for each class its name, its share of the true and of the given pixels, its accuracy and its IU."""
        counts = self.matrix.matrix
        total, truth, given = max(counts.sum(), 1), counts.sum(axis=1), counts.sum(axis=0)
        return [{"class": name, "pixels": truth[k] / total, "predicted": given[k] / total,
                 "accuracy": counts[k, k] / truth[k] if truth[k] else float("nan"), "IU": float(iu)}
                for k, (name, iu) in enumerate(zip(self.class_names, self.matrix.per_class_iu, strict=True))]

    def document(self) -> dict[str, Any]:
        """Return everything as JSON holds it: the measures, and what a report shows beside them."""
        return {**self.measures(), "images": self.images,
                "classes": [{key: value if isinstance(value, str) else float(value) for key, value in row.items()}
                            for row in self.class_rows()],
                "confusion matrix": {"rows": self.class_names, "columns": self.class_names,
                                     "counts": self.matrix.matrix.tolist()},
                "worst images": [{"name": image.name, "mean_iu": image.mean_iu, "confusions": [
                    {"share": share, "truth": self.class_names[i], "predicted": self.class_names[j]}
                    for share, i, j in image.confusions]} for image in self.worst]}
