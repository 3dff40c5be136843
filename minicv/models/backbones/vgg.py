"""VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015.

Table 1, configuration D (VGG16), the paper preset; side lengths of the maps and channels:

    224 x 3
     v  conv1_1, conv1_2               224 x 64      v  max pool 2x2
     v  conv2_1, conv2_2               112 x 128     v  max pool
     v  conv3_1, conv3_2, conv3_3       56 x 256     v  max pool
     v  conv4_1, conv4_2, conv4_3       28 x 512     v  max pool
     v  conv5_1, conv5_2, conv5_3       14 x 512     v  max pool         7 x 512
     v  fc6, fc7, fc8                  4096, 4096, 1000, with dropout after fc6 and fc7

All convolutions are 3x3 with padding 1, each followed by a ReLU: two have the receptive field of one 5x5, three that
of a 7x7, with fewer weights and more ReLUs (sec. 2.3). ``depth`` 11, 13, 16 or 19 is configuration A, B, D or E.

Differs from the paper: average pooling to 7x7 before fc6 admits images of other sizes; at 224 it changes nothing.
Weights start as He et al. (2015) propose, not from a shallower trained network. ``batch_norm`` is torchvision's
addition; its weights load by name. ``compact``: an eighth of the channels, 128 neurons, images of 64x64, 10 classes,
and batch norm.
Asserted by the tests: 138,357,544 parameters, 15,470,264,320 MACs at 224x224.
"""
from __future__ import annotations

from ... import nn
from .classifier import LayerwiseClassifier

CONVS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # VGG, table 1


class VGG(LayerwiseClassifier):
    """(N, in_channels, H, W) -> scores (N, num_classes).

    ``width`` channels in the first block, ``hidden`` neurons in fc6 and fc7, ``pooled`` the side of the map that fc6
    takes. Stages: "conv1_1", "relu1_1", ... "pool1", "conv2_1", ... "pool5". ``ValueError`` for a ``depth`` outside
    table 1.
    """

    PRESETS = {"paper": {}, "compact": {"num_classes": 10, "width": 8, "hidden": 128, "pooled": 2, "batch_norm": True}}
    INPUT = {"paper": (3, 224, 224), "compact": (3, 64, 64)}
    MIN_SIZE = 32

    def __init__(self, num_classes: int = 1000, in_channels: int = 3, depth: int = 16, width: int = 64,
                 hidden: int = 4096, pooled: int = 7, batch_norm: bool = False, dropout: float = 0.5):
        super().__init__(num_classes, in_channels, width)
        if depth not in CONVS:
            raise ValueError(f"VGG(depth={depth}): the depths are {', '.join(map(str, CONVS))}")
        self.side, layers, self.names, c_in = pooled, [], [], in_channels
        for block, convs in enumerate(CONVS[depth], 1):
            c_out = width * min(2 ** (block - 1), 8)  # 64, 128, 256, 512, 512
            for i in range(1, convs + 1):
                norm = [nn.BatchNorm2d(c_out)] * batch_norm
                layers += [nn.Conv2d(c_in, c_out, 3, padding=1), *norm, nn.ReLU()]
                self.names += [f"conv{block}_{i}", *[f"norm{block}_{i}"] * batch_norm, f"relu{block}_{i}"]
                c_in = c_out
            layers.append(nn.MaxPool2d(2, stride=2))
            self.names.append(f"pool{block}")
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(c_in * pooled ** 2, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(hidden, num_classes))
