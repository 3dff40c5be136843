"""From a classifier to a fully convolutional network: FCN (Long et al., CVPR 2015), sec. 3.1 and fig. 2.

A fully connected layer takes a map of C channels and side x side pixels as one long vector. Its row of weights for
neuron o, read as (C, side, side), is a filter, and the neuron is that filter at the one place where it fits:

    y_o = b_o + sum_{c,i,j} w[o, (c, i, j)] x[c, i, j]    ->    conv2d of x with W[o, c, i, j], without padding

The weights are the same, and so is the output, as a map of 1 x 1. On a larger image the filter fits at several places,
and the output is a grid: the classifier's scores for windows that lie 32 pixels apart. The paper's example: AlexNet has
one output for 227x227, and 10x10 for 500x500 (where pools round sizes up, as in the authors' software; 9x9 where they
round down, as here).

The grid is *equal* to the scores of windows cut out of the image in networks without padding, as the tests assert. In
the others it is only similar: padding puts zeros around a window that is cut out, but within an image the window has
neighbors. Only features near a window's border differ.
"""
from __future__ import annotations

import copy
from typing import Any

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ..backbones.classifier import Classifier


class Convolutional(nn.Module):
    """(N, in_channels, H, W) -> a grid of scores (N, num_classes, h, w), with a classifier's own weights.

    ``window``: side of the average pooling that ends GoogLeNet and ResNet, or None if ``head`` starts with
    the convolution that was fc6.
    """

    def __init__(self, backbone: Classifier, head: nn.Sequential, window: int | None):
        self.backbone, self.head, self.window = backbone, head, window
        self.training = backbone.training

    def forward(self, x: Tensor) -> Tensor:
        x = list(self.backbone.stages(x).values())[-1]
        return self.head(x if self.window is None else F.avg_pool2d(x, self.window, stride=1))


def convolutionalize(classifier: Any, size: int = 224) -> Convolutional:
    """Return the classifier as a network for any image size; the parameters are shared, not copied.

    ``size``: side of the images that it was made for. Only GoogLeNet and ResNet need it: they average over the whole
    map, so their window has the size of the map of such an image. Raises ``TypeError`` for another network.
    """
    backbone = copy.copy(classifier)
    if isinstance(getattr(classifier, "classifier", None), nn.Sequential):
        backbone.cut("head")
        return Convolutional(backbone, as_convolutions(classifier.classifier, classifier.side), None)
    if isinstance(getattr(classifier, "fc", None), nn.Linear):
        backbone.cut("head")
        dropout = nn.Dropout(getattr(classifier, "dropout", 0.0))
        dropout.training = classifier.training
        head = nn.Sequential(dropout, as_convolution(classifier.fc, 1))
        return Convolutional(backbone, head, -(-size // 32))
    raise TypeError(f"convolutionalize: {type(classifier).__name__} has neither a Sequential `classifier` nor a Linear "
                    "`fc` at its end, as the networks of minicv.models.backbones have")


def as_convolutions(layers: nn.Sequential, side: int) -> nn.Sequential:
    """Return the layers with fully connected ones rewritten as convolutions: the first side x side, the others 1x1."""
    rewritten = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            layer, side = as_convolution(layer, side), 1
        rewritten.append(layer)
    return nn.Sequential(*rewritten)


def as_convolution(linear: nn.Linear, side: int) -> nn.Conv2d:
    """Return a fully connected layer over a map of side x side pixels as a convolution: a view of the same weights."""
    O, n = linear.weight.shape
    if n % side ** 2:
        raise ValueError(f"as_convolution: a layer of {n} inputs does not fit a map of {side}x{side} pixels, as "
                         f"{n} is no multiple of {side ** 2}")
    with nn.init.blank():
        conv = nn.Conv2d(n // side ** 2, O, side, bias=linear.bias is not None)
    conv.weight.data = linear.weight.data.reshape(O, n // side ** 2, side, side)  # (O, C*side*side) -> (O, C, i, j)
    conv.bias = linear.bias
    return conv
