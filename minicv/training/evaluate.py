"""Evaluate a segmentation network on a data set."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from ..metrics import best_threshold, pixel_error, rand_f_score_at, warping_error
from ..metrics.checks import mean_without_nan
from ..metrics.segmentation_analysis import SegmentationAnalysis


def predictions(model: Any, dataset: Any, *, quiet: bool, **options: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (sample, prediction) for every image; ``options`` are those of ``model.predict``.

    Shows a progress bar unless ``quiet``, or without a terminal.
    """
    for i in tqdm(range(len(dataset)), disable=True if quiet else None, unit="image", leave=False):
        sample = dataset[i]
        yield sample, model.predict([sample.image], **options)[0]


def analyze_segmentation(model: Any, dataset: Any, threshold_data: Any = None, *, quiet: bool = True,
                         **options: Any) -> SegmentationAnalysis:
    """Return the analysis of a network's labels for all images of a data set.

    With ``threshold_data``, the classes are 0, membrane or gap, and 1, cell, and the analysis has the ISBI 2012
    measures. They are means over the images: the pixel error at threshold 0.5, and the Rand F-score and warping error
    at the threshold with the best mean Rand F-score on ``threshold_data``. ``options`` are those of ``model.predict``.
    """
    analysis, cells, membranes = SegmentationAnalysis(dataset.class_names), [], threshold_data is not None
    for sample, result in predictions(model, dataset, quiet=quiet, **options):
        analysis.update(result.labels, sample)
        if membranes:  # only then: the probabilities of a large data set would fill the memory
            cells.append((result.probabilities[1], sample.label == 1))
    if membranes and len(threshold_data):
        analysis.membranes = membrane_measures(cells, [
            (result.probabilities[1], sample.label == 1)
            for sample, result in predictions(model, threshold_data, quiet=quiet, **options)])
    return analysis


def evaluate_segmentation(model: Any, dataset: Any, threshold_data: Any = None, **options: Any) -> dict[str, float]:
    """Return pixel accuracy, mean accuracy, mean IU and frequency-weighted IU (FCN, sec. 5) over a data set, without
    void, the boundary F-score, and each class's IU, or the ISBI 2012 measures; see ``analyze_segmentation``.

    A number is NaN where there is nothing to measure.
    """
    return analyze_segmentation(model, dataset, threshold_data, **options).measures()


def membrane_measures(cells: list[tuple], threshold_cells: list[tuple]) -> dict[str, float]:
    """Return the ISBI 2012 measures of ``cells``, the threshold chosen on ``threshold_cells``.

    Both are lists of (probability, truth), float and bool (H, W), that a pixel belongs to a cell.
    """
    threshold = best_threshold([p for p, _ in threshold_cells], [truth for _, truth in threshold_cells])
    return {"pixel_error": mean_without_nan([pixel_error(p, truth) for p, truth in cells]),
            "threshold": threshold,
            "rand_f_score": mean_without_nan([rand_f_score_at(p, truth, threshold) for p, truth in cells]),
            "warping_error": mean_without_nan([warping_error(p > threshold, truth) for p, truth in cells])}
