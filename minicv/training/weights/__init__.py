"""Weights of other programs and other networks: read, put in place, and written for PyTorch."""
from .export import export_weights
from .read import Weights, read_weights
from .take import Taken, load_pretrained, take_weights
from .torch_files import write_torch

__all__ = ["Taken", "Weights", "export_weights", "load_pretrained", "read_weights", "take_weights", "write_torch"]
