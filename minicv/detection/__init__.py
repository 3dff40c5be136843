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
from .matching import NEGATIVE, NEITHER, POSITIVE, match_anchors, match_proposals
from .nms import batched_nms, nms
from .result import Detections
from .sampling import sample_boxes
from .selective_search import selective_search, sliding_windows

__all__ = [
    "NEGATIVE",
    "NEITHER",
    "POSITIVE",
    "Detections",
    "base_anchors",
    "batched_nms",
    "box_area",
    "box_intersection",
    "box_iou",
    "clip_boxes_to_image",
    "decode_boxes",
    "encode_boxes",
    "grid_anchors",
    "inside_image",
    "large_enough",
    "match_anchors",
    "match_proposals",
    "nms",
    "sample_boxes",
    "selective_search",
    "sliding_windows",
]
