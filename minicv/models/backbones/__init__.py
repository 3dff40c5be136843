"""Networks that classify pictures, and whose convolutions the detectors and segmenters build on."""
from .classifier import Classification

__all__ = ["Classification"]
