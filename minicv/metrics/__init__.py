"""Measures on plain arrays: they know nothing of models."""

from .membranes import (
    RandScore,
    best_threshold,
    connected_components,
    pixel_error,
    rand_error,
    rand_f_score,
    rand_f_score_at,
    rand_score,
    warp,
    warping_error,
)
from .segmentation import ConfusionMatrix, iou

__all__ = [
    "ConfusionMatrix",
    "RandScore",
    "best_threshold",
    "connected_components",
    "iou",
    "pixel_error",
    "rand_error",
    "rand_f_score",
    "rand_f_score_at",
    "rand_score",
    "warp",
    "warping_error",
]
