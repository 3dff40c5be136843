"""YOLO: Redmon, Divvala, Girshick and Farhadi, "You Only Look Once: Unified, Real-Time Object Detection", CVPR 2016.

Figure 3, the paper preset; side lengths of the maps and channels:

    448 x 3
     v  7x7/2              224 x 64     v  max pool 2x2
     v  3x3                112 x 192    v  max pool
     v  1x1 3x3 1x1 3x3     56 x 512    v  max pool       channels 128 256 256 512
     v  1x1 3x3, ten times  28 x 1024   v  max pool       four times 256 512, then 512 1024
     v  1x1 3x3, six        14 x 1024                     twice 512 1024, then 1024
     v  3x3/2, 3x3, 3x3      7 x 1024                     24 convolutions in all
     v  fully connected     4096, with dropout behind it
     v  fully connected     7 x 7 x 30

Leaky ReLU of slope 0.1 after each layer but the last, eq. (2). The image is a grid of S x S cells. Each cell predicts
B boxes and one set of class probabilities, together S x S x (5B + K) numbers. In each cell lie

    x y sqrt(w) sqrt(h) C  of the first box,  of the second, ...,  then p(c) for each of the K classes

x and y: the box's center, from the cell's upper left corner, in cells. w and h: shares of the image; the network
predicts their square roots directly. C: the confidence, trained towards the box's IoU with the object, and towards 0
without an object. A detection's score is p(c) C, eq. (1).

An object belongs to the cell that holds its center, and there to the box that currently overlaps it most (if none does,
to the nearest one in x, y, w, h, all as shares of the image, as in the authors' code). If several centers fall into a
cell, only one object is learned, the first in the list, or, with ``shuffle_objects``, a random one at each step, as in
the authors' code: the grid misses small objects in groups (sec. 2.4).

Differs from the paper: no pretraining of the first 20 convolutions on ImageNet at 224; C is trained towards the IoU as
a constant; images are mirrored, as in the authors' code. ``batch_norm`` is not in the paper, but in the authors' later
configurations. The training is the paper's: 135 epochs of VOC 2007 and 2012, of which "the first" with a rate that
rises from 0.001 to 0.01 are 600 steps here, as many as in Darknet's configuration; hue stays, which Darknet changes.
Biases and batch norm decay like weights; Darknet decays weights only. ``compact``: 7 convolutions with batch norm,
images of 112x112, still 7x7 cells; trained by Adam on mirrored images whose colors change by up to a fifth. Fast YOLO
(sec. 2) has "9 convolutional layers instead of 24"; their sizes are not in the paper, and are here 16, 32, ... 1024,
1024, 1024 with six poolings.
Asserted by the tests: 24 convolutions and 2 fully connected layers; 7x7x30; 271,703,550 parameters; Fast YOLO has 9
convolutions and 7x7x30."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor
from ...backend import Array, rng, to_device, xp_of
from ...detection import Detections
from ...nn import init
from .base import Detector, Target, postprocess
from .config import DetectorConfig, PostprocessConfig

# Kernel x channels, "/2" for a stride of 2; "max": 2x2 pooling
YOLO_LAYERS = ("7x64/2 max 3x192 max 1x128 3x256 1x256 3x512 max " + 4 * "1x256 3x512 " + "1x512 3x1024 max "
               + 2 * "1x512 3x1024 " + "3x1024 3x1024/2 3x1024 3x1024")
FAST_LAYERS = "3x16 max 3x32 max 3x64 max 3x128 max 3x256 max 3x512 max 3x1024 3x1024 3x1024"
COMPACT_LAYERS = "3x16 max 3x32 max 1x16 3x64 max 1x32 3x128 max 3x128"


@dataclasses.dataclass(frozen=True, kw_only=True)
class YOLOConfig(PostprocessConfig, DetectorConfig):
    """``layers``: the convolutions, see YOLO_LAYERS. ``image_size``: side to which every image is scaled, whatever its
    ratio; S is what strides and poolings leave of it. ``boxes_per_cell``: B. ``hidden``: neurons of the first fully
    connected layer, with ``dropout`` behind it. ``lambda_coord``, ``lambda_noobj``: the weights of eq. (3).
    ``batch_norm``: behind each convolution. ``shuffle_objects``: a cell with several objects learns any of them, not
    the first."""

    layers: str = YOLO_LAYERS
    image_size: int = 448
    boxes_per_cell: int = 2
    hidden: int = 4096
    dropout: float = 0.5
    batch_norm: bool = False
    lambda_coord: float = 5.0
    lambda_noobj: float = 0.5
    nms_iou: float = 0.5
    shuffle_objects: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class FastYOLOConfig(YOLOConfig):
    """All options of Fast YOLO."""

    layers: str = FAST_LAYERS


class YOLO(Detector):
    """Images (N, C, size, size) -> S x S cells, (N, S, S, 5B + K). Options: ``YOLOConfig``."""

    Config: type[YOLOConfig] = YOLOConfig
    BACKBONE = "features."
    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {"shuffle_objects": True},
        "compact": {"layers": COMPACT_LAYERS, "image_size": 112, "hidden": 256, "dropout": 0.0, "batch_norm": True}}
    INPUT = {"paper": (3, 448, 448), "compact": (3, 112, 112)}
    TRAIN_DEFAULTS: dict[str, dict[str, Any]] = {
        "compact": {"steps": 1500, "optimizer": "adam", "lr": 0.001, "weight_decay": 0.0, "warmup": 100, "batch": 16,
                    "jitter": 0.2},
        "paper": {  # sec. 2.2: 0.01 for 75 epochs, 0.001 for 30, 0.0001 for 30, of VOC 2007's and 2012's 16,551 images
            "steps": 34912, "batch": 64, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0005, "schedule": "step",
            "milestones": (75 / 135, 105 / 135), "gamma": 0.1, "warmup": 600, "warmup_start": 0.1,  # from 0.001
            "shift": 0.2, "exposure": 1.5}}
    display_score = 0.25  # a class's probability times an IoU

    def __init__(self, **options: Any):
        super().__init__(**options)
        config = self.config
        self.B, self.size = config.boxes_per_cell, config.image_size
        self.features, channels, stride = conv_layers(config.layers, config.in_channels, config.batch_norm)
        if self.size % stride:
            config.refuse(f"image_size={self.size}", f"the layers make an image {stride} times smaller, so the size "
                          f"must be a multiple of that, such as {max(self.size // stride, 1) * stride}")
        self.S = S = self.size // stride
        self.fc1 = nn.Linear(channels * S * S, config.hidden)
        self.fc2 = nn.Linear(config.hidden, S * S * (5 * self.B + self.num_classes))
        self.fc2.weight.data = init.normal(self.fc2.weight.shape, 0.01)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (self.in_channels, self.size, self.size):
            raise ValueError(f"{type(self).__name__}: the input must be (N, {self.in_channels}, {self.size}, "
                             f"{self.size}), got {x.shape}")
        x = F.leaky_relu(self.fc1(F.flatten(self.features(x), 1)), 0.1)
        return self.fc2(self.dropout(x)).reshape(-1, self.S, self.S, 5 * self.B + self.num_classes)

    def scale(self, size: tuple[int, int]) -> tuple[float, float]:
        return self.size / size[0], self.size / size[1]

    # ------------------------------------------------------------------------------------------------------
    # Eq. (3)
    # ------------------------------------------------------------------------------------------------------
    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return the five terms of eq. (3), see ``grid_losses``."""
        return self.grid_losses(self(x), targets)

    def grid_losses(self, y: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Return "center", "size", "object", "no_object" and "class": sums over an image, means over the batch
        y (N, S, S, 5B + K)."""
        N, S, B, xp, config = len(y), self.S, self.B, xp_of(y.data), self.config
        cells = assign_cells(targets, S, rng() if self.config.shuffle_objects else None)
        n, i, j, box, p = (to_device(array, y.device) for array in (
            cells.n, cells.i, cells.j, cells.box, np.eye(self.num_classes)[cells.label]))
        owning = y[n, i, j]  # (O, 5B + K), the cells that hold a center
        O, boxes = len(owning), owning[:, :5 * B].reshape(-1, B, 5)
        responsible, iou = responsible_box(boxes.data, box, S)  # on y's device: reading y would wait for it
        predicted = boxes[to_device(np.arange(O), y.device), responsible]  # (O, 5)
        empty = xp.ones((N, S, S, B), bool)
        empty[n, i, j, responsible] = False
        truth, iou, p = (Tensor(array.astype(y.dtype)) for array in (box, iou, p))

        def squared_error(a: Tensor, b: Tensor) -> Tensor:
            return F.mse_loss(a, b, reduction="sum") / N

        C = F.where(empty, y[..., 4:5 * B:5], 0.0)  # (N, S, S, B)
        return {"center": config.lambda_coord * squared_error(predicted[:, :2], truth[:, :2]),  # YOLO, eq. (3)
                "size": config.lambda_coord * squared_error(predicted[:, 2:4], truth[:, 2:]),
                "object": squared_error(predicted[:, 4], iou),
                "no_object": config.lambda_noobj * (C * C).sum() / N,
                "class": squared_error(owning[:, 5 * B:], p)}

    # ------------------------------------------------------------------------------------------------------
    # Detections
    # ------------------------------------------------------------------------------------------------------
    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        y = self(x).numpy()
        return [postprocess(*self.boxes_and_scores(grid), size, self.config)
                for grid, size in zip(y, sizes, strict=True)]

    def boxes_and_scores(self, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode the cells (S, S, 5B + K) of an image: boxes (S S B, 4) in pixels, scores (S S B, K)."""
        S, B = self.S, self.B
        boxes, p = grid[..., :5 * B].reshape(S, S, B, 5), grid[..., 5 * B:]
        corner = np.stack(np.meshgrid(np.arange(S), np.arange(S)), axis=-1)  # (S, S, 2), (j, i)
        center, half = (corner[:, :, None] + boxes[..., :2]) / S, boxes[..., 2:4] ** 2 / 2  # shares of the image
        decoded = np.concatenate([center - half, center + half], axis=-1) * self.size  # (S, S, B, 4)
        scores = boxes[..., 4:] * p[:, :, None]  # (S, S, B, K), YOLO, eq. (1)
        return decoded.reshape(-1, 4).astype(np.float32), scores.reshape(-1, self.num_classes)


class FastYOLO(YOLO):
    """YOLO with nine convolutions (sec. 2). ``compact``: as YOLO's, with half the channels."""

    Config = FastYOLOConfig
    PRESETS: dict[str, dict[str, Any]] = {
        "paper": {"shuffle_objects": True},
        "compact": {**YOLO.PRESETS["compact"], "layers": "3x8 max 3x16 max 3x32 max 3x64 max 3x64"}}


def conv_layers(text: str, in_channels: int, batch_norm: bool) -> tuple[nn.Sequential, int, int]:
    """Return the convolutions that ``text`` lists, their channels, and how many times smaller they make an image."""
    layers: list[nn.Module] = []
    channels, stride = in_channels, 1
    for word in text.split():
        if word == "max":
            layers.append(nn.MaxPool2d(2))
            stride *= 2
            continue
        try:
            kernel, channels_out, s = (int(n) for n in (word + "/1").replace("x", "/").split("/")[:3])
        except ValueError:
            raise ValueError(f"YOLO(layers): {word!r} is neither 'max' nor KERNELxCHANNELS or KERNELxCHANNELS/STRIDE, "
                             "as in 3x64 and 7x64/2") from None
        layers.append(nn.Conv2d(channels, channels_out, kernel, s, padding=kernel // 2, bias=not batch_norm))
        layers += [nn.BatchNorm2d(channels_out)] * batch_norm + [nn.LeakyReLU(0.1)]  # YOLO, eq. (2)
        channels, stride = channels_out, stride * s
    return nn.Sequential(*layers), channels, stride


@dataclasses.dataclass
class Cells:
    """The O cells that hold the center of an object, in NumPy. n, i, j: (O,), image, row and column. box: float64
    (O, 4), x and y in cells, sqrt(w) and sqrt(h) as shares of the image. label: (O,)."""

    n: np.ndarray
    i: np.ndarray
    j: np.ndarray
    box: np.ndarray
    label: np.ndarray


def assign_cells(targets: list[Target], S: int, rng: np.random.Generator | None = None) -> Cells:
    """Assign objects to cells. One per cell: the first, or with ``rng`` a random one; none without area."""
    none = np.zeros(0, np.int64)
    parts = [Cells(none, none, none, np.zeros((0, 4)), none)]
    for n, target in enumerate(targets):
        H, W = target.size
        x1, y1, x2, y2 = target.boxes.astype(np.float64).T / np.array([[W], [H], [W], [H]])  # shares of the image
        x, y, w, h = S * (x1 + x2) / 2, S * (y1 + y2) / 2, x2 - x1, y2 - y1
        i, j = (np.clip(np.floor(v), 0, S - 1).astype(np.int64) for v in (y, x))
        usable = np.flatnonzero((w > 0) & (h > 0))
        usable = usable if rng is None else rng.permutation(usable)
        _, first = np.unique((i * S + j)[usable], return_index=True)
        kept = usable[np.sort(first)]
        box = np.stack([x - j, y - i, np.sqrt(np.maximum(w, 0)), np.sqrt(np.maximum(h, 0))], axis=1)
        parts.append(Cells(np.full(len(kept), n), i[kept], j[kept], box[kept], target.labels[kept]))
    return Cells(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(Cells)))


def responsible_box(boxes: Array, truth: Array, S: int) -> tuple[Array, Array]:
    """Return which of the B boxes (O, B, 5) of each cell is responsible for its object (O, 4), and its IoU, both (O,).
    """
    xp, iou = xp_of(boxes), cell_iou(boxes[..., :4], truth[:, None], S)  # (O, B)
    x, w = (boxes[..., :2] - truth[:, None, :2]) / S, boxes[..., 2:4] ** 2 - truth[:, None, 2:] ** 2
    distance = (x ** 2 + w ** 2).sum(axis=-1)  # (O, B), of shares of the image, as in the authors' code
    best = xp.where(iou.max(axis=1) > 0, iou.argmax(axis=1), distance.argmin(axis=1))
    return best, xp.take_along_axis(iou, best[:, None], axis=1)[:, 0]


def cell_iou(a: Array, b: Array, S: int) -> Array:
    """Return the IoU of boxes (x, y, sqrt(w), sqrt(h)) in the same cell, pair by pair: (..., 4) -> (...)."""
    xp = xp_of(a)
    low = xp.maximum(*(box[..., :2] / S - box[..., 2:4] ** 2 / 2 for box in (a, b)))
    high = xp.minimum(*(box[..., :2] / S + box[..., 2:4] ** 2 / 2 for box in (a, b)))
    inter = xp.maximum(high - low, 0).prod(axis=-1)
    union = (a[..., 2:4] ** 2).prod(axis=-1) + (b[..., 2:4] ** 2).prod(axis=-1) - inter
    return inter / xp.maximum(union, 1e-12)
