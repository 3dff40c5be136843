"""Figures."""
from .figures import PALETTE, colour_instances, outline, overlay, panels
from .segmentation import class_colours, colour_labels, draw_confusion, prediction_sheet

__all__ = ["PALETTE", "class_colours", "colour_instances", "colour_labels", "draw_confusion", "outline", "overlay",
           "panels", "prediction_sheet"]
