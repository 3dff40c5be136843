"""All that is measured of a detector on a data set: average precision and recall, confusions, errors, worst images."""
from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..data.sample import DetectionSample
from ..detection import Detections
from .checks import mean_without_nan
from .detection import AREA_RANGES, IOU_THRESHOLDS, RECALL_POINTS, CocoEvaluator, VOCEvaluator
from .detection_errors import RIGHT, ErrorCosts, Verdicts, confusion, find_errors

MATRIX_IOU = 0.5
COLUMNS = ("AP", "AP50", "AP75", *(f"AP{area}" for area in list(AREA_RANGES)[1:]), "AR100")


@dataclasses.dataclass(frozen=True)
class JudgedImage:
    """An image of a data set: its number there, its name, the detections that are shown, and the verdicts on them."""

    index: int
    name: str
    found: Detections
    verdicts: Verdicts

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return sum(self.verdicts.counts().values())


class DetectionAnalysis:
    """``update`` with every image in the order of the data set, then ask for ``measures``, ``class_rows``, ...

    score: detections with a lower score are left out of the confusion matrix, the counts of errors and the worst
    images. They count in average precision and recall, and in the costs of errors. worst: how many images to keep.
    """

    def __init__(self, class_names: Sequence[str], score: float = 0.5, worst: int = 12):
        self.class_names, self.score, K = list(class_names), score, len(class_names)
        self.voc, self.coco, self.masks = VOCEvaluator(K), CocoEvaluator(K), CocoEvaluator(K, masks=True)
        self.costs, self.matrix = ErrorCosts(K), np.zeros((K + 1, K + 1), np.int64)
        self.images, self.with_masks, self.right, self._worst_count = 0, False, 0, worst
        self.error_counts: dict[str, int] = {}
        self._worst: list[tuple[int, int, JudgedImage]] = []  # a heap: errors, -number, image

    def update(self, found: Detections, truth: DetectionSample) -> None:
        """Add the detections in an image, and its truth."""
        self.voc.update(found, truth)
        self.coco.update(found, truth)
        if found.masks is not None and truth.masks is not None:
            self.masks.update(found, truth)
            self.with_masks = True
        self.costs.update(found, truth)
        shown = dataclasses.replace(found, masks=None)[found.scores >= self.score]
        self.matrix += confusion(shown, truth, len(self.class_names), MATRIX_IOU)
        judged = JudgedImage(self.images, truth.name, shown, find_errors(shown, truth))
        for kind, count in judged.verdicts.counts().items():
            self.error_counts[kind] = self.error_counts.get(kind, 0) + count
        self.right += int(np.count_nonzero(judged.verdicts.kind == RIGHT))
        if judged.errors:
            heapq.heappush(self._worst, (judged.errors, -self.images, judged))
            if len(self._worst) > self._worst_count:
                heapq.heappop(self._worst)
        self.images += 1

    @property
    def worst(self) -> list[JudgedImage]:
        """The images with the most errors, the worst first."""
        return [judged for _, _, judged in sorted(self._worst, key=lambda each: (-each[0], -each[1]))]

    def measures(self) -> dict[str, float]:
        """Return the field's measures by name; NaN where no object counts.

        "mAP@0.5" and "AP@0.5 CLASS" by PASCAL VOC's rules; "COCO AP", ... the twelve of COCO; and, if both the network
        and the data set have masks, "mask AP", ...
        """
        aps = self.voc.ap  # NaN for a class without objects
        result = {"mAP@0.5": mean_without_nan(aps)}
        result |= {f"AP@0.5 {name}": float(ap) for name, ap in zip(self.class_names, aps, strict=True)}
        for prefix, evaluator in self.evaluators():
            result |= {f"{prefix} {name}": value for name, value in evaluator.summary().items()}
        return result

    def evaluators(self) -> list[tuple[str, CocoEvaluator]]:
        """Return COCO's evaluators of boxes and, if there are any, of masks, with their names."""
        return [("COCO", self.coco), ("mask", self.masks)][:1 + self.with_masks]

    def class_rows(self) -> list[dict[str, Any]]:
        """Return for each class its name, its objects, VOC's "AP@0.5", and ``COLUMNS``; "mask AP", ... with masks."""
        rows: list[dict[str, Any]] = [
            {"class": name, "objects": int(n), "AP@0.5": float(ap)}
            for name, n, ap in zip(self.class_names, self.coco.objects, self.voc.ap, strict=True)]
        for prefix, evaluator in self.evaluators():
            columns = {"AP": evaluator.ap(), "AP50": evaluator.ap(threshold=0.5), "AP75": evaluator.ap(threshold=0.75)}
            columns |= {f"AP{area}": evaluator.ap(area) for area in list(AREA_RANGES)[1:]}
            columns |= {"AR100": evaluator.ar()}
            for row, *values in zip(rows, *columns.values(), strict=True):
                row |= {name if prefix == "COCO" else f"{prefix} {name}": float(value)
                        for name, value in zip(columns, values, strict=True)}
        return rows

    def ap_by_iou(self) -> dict[str, list[float]]:
        """Return AP at each of COCO's IoU thresholds, of boxes and of masks."""
        return {prefix: [mean_without_nan(evaluator.ap(threshold=t)) for t in IOU_THRESHOLDS]
                for prefix, evaluator in self.evaluators()}

    def curves(self, threshold: float = 0.5) -> dict[str, np.ndarray]:
        """Return the precision of each class with objects at the 101 recalls 0, 0.01, ... 1, at an IoU threshold."""
        t = int(np.argmin(abs(IOU_THRESHOLDS - threshold)))
        curves = ((name, self.coco.precision(k)) for k, name in enumerate(self.class_names))
        return {name: curve[t] for name, curve in curves if curve is not None}

    def document(self) -> dict[str, Any]:
        """Return everything as JSON holds it: the measures, and what a report shows beside them."""
        ap50, costs = self.costs.costs()
        return {**self.measures(), "images": self.images, "score": self.score, "classes": self.class_rows(),
                "IoU thresholds": IOU_THRESHOLDS.round(2).tolist(), "AP by IoU": self.ap_by_iou(),
                "recall": RECALL_POINTS.round(2).tolist(),
                "precision": {f"{t:.2f}": {name: curve.tolist() for name, curve in self.curves(t).items()}
                              for t in (0.5, 0.75)},
                "confusion matrix": {"rows": [*self.class_names, "background"],
                                     "columns": [*self.class_names, "missed"], "counts": self.matrix.tolist()},
                "right": self.right, "AP50 of the errors' costs": ap50,
                "errors": {kind: {"count": count, "cost": costs[kind]} for kind, count in self.error_counts.items()},
                "worst images": [{"name": image.name, "errors": image.verdicts.counts()} for image in self.worst]}
