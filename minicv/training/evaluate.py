"""Evaluating a network that labels every pixel: the field's numbers on a data set."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data import IGNORE
from ..metrics import BoundaryFScore, ConfusionMatrix, best_threshold, pixel_error, rand_f_score_at, warping_error
from ..metrics.checks import mean_without_nan
from ..nn import Module


def predictions(model: Module, dataset: Any, quiet: bool, **how: Any) -> Iterator[tuple[Any, Any]]:
    """(sample, what ``model.predict`` says of it) for every picture; ``how`` are predict's options.

    A progress bar, if not ``quiet`` and a terminal is there to show it.
    """
    for i in tqdm(range(len(dataset)), disable=True if quiet else None, unit="image", leave=False):
        sample = dataset[i]
        yield sample, model.predict([sample.image], **how)[0]


def evaluate(model: Module, dataset: Any, training: Any = None, quiet: bool = True, **how: Any) -> dict[str, float]:
    """Pixel accuracy, mean accuracy, mean IU, frequency-weighted IU (FCN, sec. 5) over a whole data set, void left out.

    Beside them the boundary F-score and each class's IU. Given ``training`` images to choose a threshold on, the
    classes are 0 membrane or gap and 1 cell, and the ISBI 2012 measures stand in place of the classes' IU, means over
    images: pixel error at threshold 0.5; Rand F-score and warping error at the threshold that has the best mean Rand
    F-score on ``training``. A number is NaN where there is nothing to measure.
    """
    matrix, cells, of_membranes = ConfusionMatrix(dataset.num_classes, IGNORE), [], training is not None
    counted = False
    borders = BoundaryFScore(dataset.num_classes)
    for sample, result in predictions(model, dataset, quiet, **how):
        counted |= bool((sample.label != IGNORE).any())
        matrix.update(result.labels, sample.label)
        borders.update(result.labels, sample.label)
        if of_membranes:  # of streets, a thousand pictures' probabilities would fill the memory
            cells.append((result.probabilities[1], sample.label == 1))
    found = {name: getattr(matrix, name) if counted else np.nan
             for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")}
    if borders.pictures.any():
        found["boundary_f_score"] = borders.mean
    if not of_membranes and counted:
        found |= {f"iu {name}": float(iu) for name, iu in zip(dataset.class_names, matrix.per_class_iu, strict=True)
                  if not np.isnan(iu)}
    if not of_membranes or not len(training):
        return found
    seen = [(r.probabilities[1], s.label == 1) for s, r in predictions(model, training, quiet, **how)]
    threshold = best_threshold(*zip(*seen, strict=True))
    return {**found, "pixel_error": mean_without_nan([pixel_error(p, truth) for p, truth in cells]),
            "threshold": threshold,
            "rand_f_score": mean_without_nan([rand_f_score_at(p, truth, threshold) for p, truth in cells]),
            "warping_error": mean_without_nan([warping_error(p > threshold, truth) for p, truth in cells])}
