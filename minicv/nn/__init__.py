"""Networks: ``Module`` and the layers, named as in ``torch.nn``."""
from . import init
from .layers import BatchNorm2d, Conv2d, ConvTranspose2d, Dropout, LeakyReLU, Linear, MaxPool2d, ReLU
from .module import Module, ModuleList, Parameter, Sequential, evaluating

__all__ = [
    "BatchNorm2d", "Conv2d", "ConvTranspose2d", "Dropout", "LeakyReLU", "Linear", "MaxPool2d", "Module", "ModuleList",
    "Parameter", "ReLU", "Sequential", "evaluating", "init",
]
