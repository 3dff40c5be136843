"""Evaluating a network that labels every pixel: the field's numbers on a data set."""
from __future__ import annotations

from typing import Any

import numpy as np

from ..metrics import ConfusionMatrix, best_threshold, pixel_error, rand_f_score_at, warping_error
from ..nn import Module


def evaluate_segmentation(model: Module, dataset: Any, tile: int | None = None) -> dict[str, float]:
    """Pixel accuracy, mean accuracy, mean IU and frequency-weighted IU (FCN, sec. 5) over a whole data set."""
    matrix = ConfusionMatrix(dataset.num_classes)
    for sample in (dataset[i] for i in range(len(dataset))):
        matrix.update(model.predict([sample.image], tile)[0].labels, sample.label)
    return {"pixel_accuracy": matrix.pixel_accuracy, "mean_accuracy": matrix.mean_accuracy, "mean_iu": matrix.mean_iu,
            "frequency_weighted_iu": matrix.frequency_weighted_iu}


def cell_probabilities(model: Module, dataset: Any, tile: int | None = None) -> tuple[list, list]:
    """P(class 1) and the truth of class 1, (H, W) each, for every picture."""
    samples = [dataset[i] for i in range(len(dataset))]
    predicted = [model.predict([s.image], tile)[0].probabilities[1] for s in samples]
    return [np.clip(p, 0, 1) for p in predicted], [s.label == 1 for s in samples]


def evaluate_membranes(model: Module, dataset: Any, training: Any, tile: int | None = None) -> dict[str, float]:
    """The ISBI 2012 measures, means over the pictures of ``dataset``: classes 0 membrane and 1 cell.

    Pixel error at threshold 0.5; Rand F-score and warping error at the threshold with the best mean Rand F-score on
    ``training``, which must not be the test pictures.
    """
    threshold = best_threshold(*cell_probabilities(model, training, tile))
    pairs = list(zip(*cell_probabilities(model, dataset, tile), strict=True))
    return {"pixel_error": float(np.mean([pixel_error(p, truth) for p, truth in pairs])),
            "threshold": threshold,
            "rand_f_score": float(np.mean([rand_f_score_at(p, truth, threshold) for p, truth in pairs])),
            "warping_error": float(np.mean([warping_error(p > threshold, truth) for p, truth in pairs]))}
