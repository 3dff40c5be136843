"""Figures."""
from .figures import PALETTE, colour_instances, outline, overlay, panels

__all__ = ["PALETTE", "colour_instances", "outline", "overlay", "panels"]
