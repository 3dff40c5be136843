"""Faster R-CNN in plain PyTorch: backbone, RPN, RoI pooling, head and losses, for given anchors and RoIs.

PyTorch itself has neither RoI pooling nor non-maximum suppression. ``tests/benchmarks/roi_torch.py`` pools in its own
operations; anchors and RoIs are sampled beforehand, for every contender alike.
"""
from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from ..roi_torch import roi_pool
from .classifiers import vgg_layers

K, ANCHORS, SIDE = 20, 9, 7  # classes, anchors of a cell, side of a pooled RoI


class FasterRCNN(nn.Module):
    def __init__(self, convs=(2, 2, 3, 3, 3), width=64, batch_norm=False, hidden=4096, dropout=0.5):
        super().__init__()
        c, self.stride = 8 * width, 2 ** (len(convs) - 1)
        self.backbone, self.rpn, self.head = nn.Module(), nn.Module(), nn.Module()
        self.backbone.features = nn.Sequential(*vgg_layers(convs, width, batch_norm)[:-1])  # without the last pool
        self.rpn.conv = nn.Conv2d(c, c, 3, padding=1)
        self.rpn.score, self.rpn.box_deltas = nn.Conv2d(c, 2 * ANCHORS, 1), nn.Conv2d(c, 4 * ANCHORS, 1)
        self.head.fc6, self.head.fc7 = nn.Linear(c * SIDE ** 2, hidden), nn.Linear(hidden, hidden)
        self.head.score, self.head.box_deltas = nn.Linear(hidden, K + 1), nn.Linear(hidden, 4 * K)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, boxes):
        """Scores and deltas of boxes (R, 5), then of all anchors"""
        return self.outputs(self.backbone.features(x), boxes)

    def outputs(self, x, boxes):
        h, boxes = F.relu(self.rpn.conv(x)), boxes.clone()
        anchors = [conv(h).permute(0, 2, 3, 1).reshape(len(x), -1, n)
                   for conv, n in ((self.rpn.score, 2), (self.rpn.box_deltas, 4))]
        boxes[:, 1:] /= self.stride
        y = self.dropout(F.relu(self.head.fc6(roi_pool(x, boxes, SIDE).flatten(1))))
        y = self.dropout(F.relu(self.head.fc7(y)))
        return self.head.score(y), self.head.box_deltas(y).reshape(-1, K, 4), *anchors

    def loss(self, x, target):
        """Eq. (1) of Faster R-CNN and of Fast R-CNN. ``target``: see ``networks.sampled``."""
        N, x = len(x), self.backbone.features(x)
        score, deltas, anchor_score, anchor_deltas = self.outputs(x, target["rois"])
        index, positive, u = target["index"], target["positive"], target["labels"]
        rpn_class = F.cross_entropy(anchor_score.reshape(-1, 2)[index], target["is_object"], reduction="sum")
        rpn_box = F.smooth_l1_loss(anchor_deltas.reshape(-1, 4)[positive], target["anchor_deltas"], beta=1 / 9,
                                   reduction="sum")
        foreground = u.nonzero()[:, 0]
        box = F.smooth_l1_loss(deltas[foreground, u[foreground] - 1], target["roi_deltas"], reduction="sum")
        return (rpn_class / len(index) + 10 / (N * x.shape[2] * x.shape[3]) * rpn_box
                + F.cross_entropy(score, u) + box / len(u))
