"""Box arithmetic on plain arrays: it knows nothing of models. Boxes are (x1, y1, x2, y2) in pixels, see ``boxes``."""
from .anchors import base_anchors, grid_anchors
from .boxes import (
    box_area,
    box_intersection,
    box_iou,
    clip_boxes_to_image,
    decode_boxes,
    encode_boxes,
    inside_image,
    large_enough,
)
from .linear_svm import LinearSVM, train_svm, train_with_hard_negatives
from .matching import NEGATIVE, NEITHER, POSITIVE, match_anchors, match_proposals
from .nms import batched_nms, nms
from .result import Detections
from .ridge import BoxRegression, fit_box_regression
from .sampling import sample_boxes
from .selective_search import selective_search, sliding_windows

__all__ = [
    "NEGATIVE",
    "NEITHER",
    "POSITIVE",
    "BoxRegression",
    "Detections",
    "LinearSVM",
    "base_anchors",
    "batched_nms",
    "box_area",
    "box_intersection",
    "box_iou",
    "clip_boxes_to_image",
    "decode_boxes",
    "encode_boxes",
    "fit_box_regression",
    "grid_anchors",
    "inside_image",
    "large_enough",
    "match_anchors",
    "match_proposals",
    "nms",
    "sample_boxes",
    "selective_search",
    "sliding_windows",
    "train_svm",
    "train_with_hard_negatives",
]
