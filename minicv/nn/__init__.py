"""Networks: ``Module`` and the layers, named as in ``torch.nn``."""
from . import init
from .layers import Conv2d, ConvTranspose2d, Linear, ReLU
from .module import Module, ModuleList, Parameter, Sequential

__all__ = ["Conv2d", "ConvTranspose2d", "Linear", "Module", "ModuleList", "Parameter", "ReLU", "Sequential", "init"]
