"""Figures."""
from .boxes import draw_boxes, draw_picture, heat_map, overlay_masks
from .detections import draw_found, found_sheet
from .graph import draw_graph
from .images import PALETTE, colour_instances, outline, overlay, panels
from .predictions import picture_of_detections, picture_of_labels
from .segmentation import class_colours, colour_labels, draw_confusion, prediction_sheet

__all__ = ["PALETTE", "class_colours", "colour_instances", "colour_labels", "draw_boxes", "draw_confusion",
           "draw_found", "draw_graph", "draw_picture", "found_sheet", "heat_map", "outline", "overlay",
           "overlay_masks", "panels", "picture_of_detections", "picture_of_labels", "prediction_sheet"]
