"""Figures."""
from .boxes import draw_boxes, draw_picture, heat_map, overlay_masks, picture_of_detections
from .figures import PALETTE, colour_instances, outline, overlay, panels

__all__ = ["PALETTE", "colour_instances", "outline", "overlay", "panels", "draw_boxes",
           "draw_picture", "heat_map", "overlay_masks", "picture_of_detections"]
