"""AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012.

Figure 2 in one column, as in Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (2014).
Side lengths of the maps and channels of the paper preset:

    224 x 3
     v  conv1 11x11, stride 4           55 x 64
     v  max pool 3x3, stride 2          27 x 64
     v  conv2 5x5                       27 x 192
     v  max pool 3x3, stride 2          13 x 192
     v  conv3, conv4, conv5 3x3         13 x 384, 256, 256
     v  max pool 3x3, stride 2           6 x 256
     v  fc6, fc7, fc8                   4096, 4096, 1000, with dropout before fc6 and fc7

ReLU after each layer but the last. The windows of the pools overlap (sec. 3.4).

Differs from the paper: one column where the paper has two on two GPUs, with 64, 192, 384, 256, 256 channels instead of
96, 256, 384, 384, 256, and no local response normalization; ``lrn=True`` adds it where sec. 3.3 has it. Dropout stands
before fc6 and fc7, where the paper has it behind them. Weights start as He et al. (2015) propose and biases at
0; the paper draws weights from N(0, 0.01) and starts the biases of conv2, conv4, conv5 and the fully connected layers
at 1. Average pooling to 6x6 before fc6 admits images of other sizes; at 224 it changes nothing. This is torchvision's
AlexNet; its weights load by name. ``compact``: a quarter of the channels, 128 neurons, images of 64x64,
10 classes.
Asserted by the tests: 61,100,840 parameters, 714,188,480 MACs at 224x224."""
from __future__ import annotations

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from .classifier import LayerwiseClassifier

LAYERS = ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "conv3", "relu3", "conv4", "relu4", "conv5", "relu5",
          "pool5"]


class AlexNet(LayerwiseClassifier):
    """(N, in_channels, H, W) -> scores (N, num_classes).

    ``width`` channels after conv1, ``hidden`` neurons in fc6 and fc7, ``pooled`` the side of the map that fc6 takes.
    Stages: "conv1", "relu1", "pool1", ... "pool5".
    """

    PRESETS = {"paper": {}, "compact": {"num_classes": 10, "width": 16, "hidden": 128, "pooled": 1}}
    INPUT = {"paper": (3, 224, 224), "compact": (3, 64, 64)}
    MIN_SIZE = 63

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, width: int = 64, hidden: int = 4096,
                 pooled: int = 6, dropout: float = 0.5, lrn: bool = False):
        super().__init__(num_classes, in_channels, width)
        self.names, self.side, self.lrn = LAYERS, pooled, lrn
        c1, c2, c3, c4 = width, 3 * width, 6 * width, 4 * width  # 64, 192, 384, 256
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, c1, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c1, c2, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, stride=2),
            nn.Conv2d(c2, c3, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c3, c4, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c4, c4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(c4 * pooled ** 2, hidden), nn.ReLU(),
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, num_classes))

    def apply_layer(self, name: str, layer: nn.Module, x: Tensor) -> Tensor:
        x = layer(x)
        if self.lrn and name in ("relu1", "relu2"):
            x = F.local_response_norm(x, 5, alpha=5 * 1e-4, beta=0.75, k=2)  # AlexNet, sec. 3.3
        return x
