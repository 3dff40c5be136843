"""The fast storey: the operations of ``minicv/ops``, computed quickly.

``FAST`` is the one table between the two storeys. It maps each Function that has a fast version to the subclass that
``Function.apply`` runs instead. Nothing else imports this folder: without it minicv computes the same, only slowly.
"""
from __future__ import annotations

from ..autograd import Function
from ..ops.activation import ReLU, Sigmoid
from ..ops.adaptive_pool import AdaptiveAvgPool2d, AdaptiveMaxPool2d
from ..ops.avg_pool import AvgPool2d
from ..ops.conv import Conv2d, ConvTranspose2d
from ..ops.interpolate import Interpolate, Nearest
from ..ops.loss import CrossEntropy
from ..ops.max_pool import MaxPool2d
from ..ops.norm import BatchNorm, LocalResponseNorm
from ..ops.roi import RoIAlign, RoIPool
from ..ops.softmax import LogSoftmax, Softmax
from ..ops.unpool import UnpoolBedOfNails, UnpoolNearest
from .convolution import FastConv2d, FastConvTranspose2d
from .elementwise import FastReLU, FastSigmoid
from .losses import FastCrossEntropy
from .normalization import FastBatchNorm, FastLocalResponseNorm
from .pooling import FastAdaptiveAvgPool2d, FastAdaptiveMaxPool2d, FastAvgPool2d, FastMaxPool2d
from .resize import FastInterpolate, FastNearest
from .roi import FastRoIAlign, FastRoIPool
from .softmax import FastLogSoftmax, FastSoftmax
from .unpool import FastUnpoolBedOfNails, FastUnpoolNearest

FAST: dict[type[Function], type[Function]] = {
    Conv2d: FastConv2d,
    ConvTranspose2d: FastConvTranspose2d,
    MaxPool2d: FastMaxPool2d,
    AvgPool2d: FastAvgPool2d,
    AdaptiveMaxPool2d: FastAdaptiveMaxPool2d,
    AdaptiveAvgPool2d: FastAdaptiveAvgPool2d,
    UnpoolNearest: FastUnpoolNearest,
    UnpoolBedOfNails: FastUnpoolBedOfNails,
    BatchNorm: FastBatchNorm,
    LocalResponseNorm: FastLocalResponseNorm,
    Interpolate: FastInterpolate,
    Nearest: FastNearest,
    RoIPool: FastRoIPool,
    RoIAlign: FastRoIAlign,
    Softmax: FastSoftmax,
    LogSoftmax: FastLogSoftmax,
    CrossEntropy: FastCrossEntropy,
    ReLU: FastReLU,
    Sigmoid: FastSigmoid,
}
