"""YOLO and its loss, eq. (3), in plain PyTorch."""
from __future__ import annotations

import torch
from torch import nn

PAPER_LAYERS = ("7x64/2 max 3x192 max 1x128 3x256 1x256 3x512 max " + 4 * "1x256 3x512 " + "1x512 3x1024 max "
                + 2 * "1x512 3x1024 " + "3x1024 3x1024/2 3x1024 3x1024")
COMPACT_LAYERS = "3x16 max 3x32 max 1x16 3x64 max 1x32 3x128 max 3x128"
B, K, S = 2, 20, 7  # boxes of a cell, classes, cells along a side


class YOLO(nn.Module):
    def __init__(self, text, image_size=448, hidden=4096, dropout=0.5, batch_norm=False):
        super().__init__()
        layers, c = [], 3
        for word in text.split():
            if word == "max":
                layers.append(nn.MaxPool2d(2))
                continue
            kernel, c_out, stride = (int(n) for n in (word + "/1").replace("x", "/").split("/")[:3])
            layers += [nn.Conv2d(c, c_out, kernel, stride, kernel // 2, bias=not batch_norm),
                       *[nn.BatchNorm2d(c_out)] * batch_norm, nn.LeakyReLU(0.1)]
            c = c_out
        self.features, self.size = nn.Sequential(*layers), image_size
        self.fc1, self.fc2 = nn.Linear(c * S * S, hidden), nn.Linear(hidden, S * S * (5 * B + K))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.fc1(self.features(x).flatten(1)), 0.1)
        return self.fc2(self.dropout(x)).reshape(-1, S, S, 5 * B + K)

    def loss(self, x, target):
        """``target``: image numbers, boxes and labels of the objects, no two in a cell."""
        y, (n, boxes, label) = self(x), target
        center, size = (boxes[:, :2] + boxes[:, 2:]) / 2 / self.size, (boxes[:, 2:] - boxes[:, :2]) / self.size
        j, i = (S * center).long().T
        truth = torch.cat([S * center - torch.stack([j, i], dim=1), size.sqrt()], dim=1)  # (O, 4)
        owning = y[n, i, j]
        predicted = owning[:, :5 * B].reshape(-1, B, 5)
        with torch.no_grad():
            iou = cell_iou(predicted[..., :4], truth[:, None])  # (O, B)
            apart = ((predicted[..., :2] - truth[:, None, :2]) / S).square().sum(-1) \
                + (predicted[..., 2:4].square() - truth[:, None, 2:].square()).square().sum(-1)
            best = torch.where(iou.amax(1) > 0, iou.argmax(1), apart.argmin(1))
        rows = torch.arange(len(best))
        box = predicted[rows, best]
        empty = torch.ones(*y.shape[:3], B)
        empty[n, i, j, best] = 0
        confidence, p = y[..., 4:5 * B:5] * empty, nn.functional.one_hot(label, K)
        total = 5 * (box[:, :4] - truth).square().sum() + (box[:, 4] - iou[rows, best]).square().sum()
        return (total + 0.5 * confidence.square().sum() + (owning[:, 5 * B:] - p).square().sum()) / len(x)


def cell_iou(a, b):
    """The IoU of boxes (x, y, sqrt(w), sqrt(h)) in the same cell."""
    low = torch.maximum(*(box[..., :2] / S - box[..., 2:].square() / 2 for box in (a, b)))
    high = torch.minimum(*(box[..., :2] / S + box[..., 2:].square() / 2 for box in (a, b)))
    inter = (high - low).clamp(min=0).prod(-1)
    return inter / (a[..., 2:].square().prod(-1) + b[..., 2:].square().prod(-1) - inter).clamp(min=1e-12)
