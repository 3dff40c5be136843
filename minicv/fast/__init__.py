"""The fast storey: the operations of ``minicv/ops``, computed quickly.

``FAST`` is the one table between the two storeys. For each Function that has a fast version it names the subclass that
``Function.apply`` runs instead. Nothing else imports this folder: without it minicv computes the same, slowly.
"""
from __future__ import annotations

from ..autograd import Function
from ..ops.conv import Conv2d, ConvTranspose2d
from .convolution import FastConv2d, FastConvTranspose2d

FAST: dict[type[Function], type[Function]] = {
    Conv2d: FastConv2d,
    ConvTranspose2d: FastConvTranspose2d,
}
