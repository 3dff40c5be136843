"""Figures."""
from .boxes import draw_boxes, draw_image, overlay_heat_map, overlay_masks
from .detections import detection_sheet, draw_detections
from .graph import draw_graph
from .images import PALETTE, color_instances, label_edges, overlay_labels, show_images
from .predictions import render_detections, render_segmentation
from .segmentation import class_colors, color_labels, draw_confusion_matrix, segmentation_sheet

__all__ = ["PALETTE", "class_colors", "color_instances", "color_labels", "detection_sheet", "draw_boxes",
           "draw_confusion_matrix", "draw_detections", "draw_graph", "draw_image", "label_edges", "overlay_heat_map",
           "overlay_labels", "overlay_masks", "render_detections", "render_segmentation", "segmentation_sheet",
           "show_images"]
