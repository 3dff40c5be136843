"""Measures of segmentations and detections, on plain arrays."""

from .boundary import BoundaryFScore, near_boundary
from .detection import CocoEvaluator, ProposalRecall, VOCEvaluator
from .object_size import ObjectSizeScores
from .panoptic import PanopticQuality
from .rand_warping import (
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
    "BoundaryFScore", "ObjectSizeScores", "CocoEvaluator", "ConfusionMatrix", "PanopticQuality", "ProposalRecall",
    "RandScore", "VOCEvaluator", "best_threshold", "connected_components", "iou", "near_boundary", "pixel_error",
    "rand_error", "rand_f_score", "rand_f_score_at", "rand_score", "warp", "warping_error",
]
