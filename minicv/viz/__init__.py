"""Figures, and images with results drawn on them."""
from .boxes import draw_boxes, draw_heat_map, draw_image, draw_predictions, overlay_masks
from .curves import grouped_bars, plot_lines, plot_losses, plot_means, plot_runs
from .detections import detection_sheet, draw_detections
from .graph import draw_graph
from .images import PALETTE, color_instances, label_edges, overlay_labels, show_images
from .predictions import render_detections, render_legend, render_segmentation
from .segmentation import class_colors, color_labels, draw_confusion_matrix, segmentation_sheet

__all__ = ["PALETTE", "class_colors", "color_instances", "color_labels", "detection_sheet", "draw_boxes",
           "draw_confusion_matrix", "draw_detections", "draw_graph", "draw_heat_map", "draw_image",
           "draw_predictions", "grouped_bars", "label_edges", "overlay_labels", "overlay_masks", "plot_lines",
           "plot_losses", "plot_means", "plot_runs", "render_detections", "render_legend",
           "render_segmentation", "segmentation_sheet", "show_images"]
