"""Box arithmetic on plain arrays, without any model. Boxes are (x1, y1, x2, y2) in pixels, see ``boxes``."""
from .anchors import base_anchors, grid_anchors
from .boxes import (
    box_area,
    box_intersection,
    box_iou,
    clip_boxes_to_image,
    decode_boxes,
    encode_boxes,
    inside_image,
    remove_small_boxes,
)
from .linear_svm import LinearSVM, train_svm, train_svm_with_mining
from .matching import NEGATIVE, NEITHER, POSITIVE, match_anchors, match_proposals
from .nms import batched_nms, nms
from .result import Detections
from .ridge import BoxRegressors
from .sampling import sample_boxes
from .selective_search import selective_search, sliding_windows

__all__ = [
    "NEGATIVE", "NEITHER", "POSITIVE", "BoxRegressors", "Detections", "LinearSVM", "base_anchors", "batched_nms",
    "box_area", "box_intersection", "box_iou", "clip_boxes_to_image", "decode_boxes", "encode_boxes", "grid_anchors",
    "inside_image", "match_anchors", "match_proposals", "nms", "remove_small_boxes", "sample_boxes", "selective_search",
    "sliding_windows", "train_svm", "train_svm_with_mining",
]
