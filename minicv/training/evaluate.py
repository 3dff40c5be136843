"""Evaluate a segmentation network on a data set."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data import IGNORE
from ..metrics import BoundaryFScore, ConfusionMatrix, best_threshold, pixel_error, rand_f_score_at, warping_error
from ..metrics.checks import mean_without_nan


def predictions(model: Any, dataset: Any, *, quiet: bool, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (sample, prediction) for every image; ``options`` are those of ``model.predict``.

    Shows a progress bar unless ``quiet``, or without a terminal.
    """
    for i in tqdm(range(len(dataset)), disable=True if quiet else None, unit="image", leave=False):
        sample = dataset[i]
        yield sample, model.predict([sample.image], **options)[0]


def evaluate_segmentation(model: Any, dataset: Any, threshold_data: Any = None, *, quiet: bool = True,
                          **options: Any) -> dict[str, float]:
    """Return pixel accuracy, mean accuracy, mean IU and frequency-weighted IU (FCN, sec. 5) over a data set, without
    void, the boundary F-score, and each class's IU.

    With ``threshold_data``, the classes are 0, membrane or gap, and 1, cell, and the ISBI 2012 measures replace the
    classes' IU. They are means over the images: the pixel error at threshold 0.5, and the Rand F-score and warping
    error at the threshold with the best mean Rand F-score on ``threshold_data``. A number is NaN where there is nothing
    to measure.
    """
    matrix, cells, membranes = ConfusionMatrix(dataset.num_classes, IGNORE), [], threshold_data is not None
    counted = False
    borders = BoundaryFScore(dataset.num_classes)
    for sample, result in predictions(model, dataset, quiet=quiet, **options):
        counted |= bool((sample.label != IGNORE).any())
        matrix.update(result.labels, sample.label)
        borders.update(result.labels, sample.label)
        if membranes:  # only then: the probabilities of a large data set would fill the memory
            cells.append((result.probabilities[1], sample.label == 1))
    found = {name: getattr(matrix, name) if counted else np.nan
             for name in ("pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu")}
    if borders.images.any():
        found["boundary_f_score"] = borders.mean
    if not membranes and counted:
        found |= {f"iu {name}": float(iu) for name, iu in zip(dataset.class_names, matrix.per_class_iu, strict=True)
                  if not np.isnan(iu)}
    if membranes and len(threshold_data):
        found |= membrane_measures(cells, [(result.probabilities[1], sample.label == 1) for sample, result in
                                           predictions(model, threshold_data, quiet=quiet, **options)])
    return found


def membrane_measures(cells: list[tuple], threshold_cells: list[tuple]) -> dict[str, float]:
    """Return the ISBI 2012 measures of ``cells``, the threshold chosen on ``threshold_cells``.

    Both are lists of (probability, truth), float and bool (H, W), that a pixel belongs to a cell.
    """
    threshold = best_threshold([p for p, _ in threshold_cells], [truth for _, truth in threshold_cells])
    return {"pixel_error": mean_without_nan([pixel_error(p, truth) for p, truth in cells]),
            "threshold": threshold,
            "rand_f_score": mean_without_nan([rand_f_score_at(p, truth, threshold) for p, truth in cells]),
            "warping_error": mean_without_nan([warping_error(p > threshold, truth) for p, truth in cells])}
