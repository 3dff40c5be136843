"""What all classifiers share: the check of the input, cutting, the head's pooling, and ``predict``."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad
from ...ops.arguments import pair

# Mean and deviation of ImageNet's RGB values in 0..1, for which torchvision's weights were trained.
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


@dataclass
class Classification:
    """What ``predict`` returns for one image: the class ``label``, and ``probabilities`` float32 (K,)."""

    label: int
    probabilities: np.ndarray


class Classifier(nn.Module):
    """(N, in_channels, H, W) -> scores (N, num_classes), H and W at least ``MIN_SIZE``.

    ``INPUT`` (C, H, W) is each preset's natural input. ``HEAD``: beginnings of the names of the classification layers.
    Subclasses write ``stages(x)``, the maps by name, the last one last, and
    ``head(map)``, the scores of the classes. Where segmentation heads build on a network, ``FEATURE_MAPS`` names its
    stage of the "low" map (fine, for a decoder), of the "middle" one (before the last, for an auxiliary loss) and of
    the "last" one; ``channels`` holds the number of channels of each stage.

    ``cut(stage)`` removes what follows a stage: ``forward`` then returns that map, (N, out_channels, H / stride,
    W / stride). ``frozen``: ``forward`` runs in evaluation mode and without a graph, so training does not change it.
    """

    PRESETS: dict[str, dict] = {}
    INPUT: dict[str, tuple[int, int, int]] = {}
    MIN_SIZE = 1
    HEAD: tuple[str, ...] = ("fc.", "classifier.")
    FEATURE_MAPS: dict[str, str] = {}
    SMALL_HEAD: dict[str, Any] = {}  # options that make the classification layers small, for networks to be cut
    stride = out_channels = 0  # of the last map, set by ``cut``
    frozen = False
    channels: dict[str, int]

    def __init__(self, num_classes: int, in_channels: int, width: int):
        if min(num_classes, in_channels, width) < 1:
            raise ValueError(f"{type(self).__name__}(num_classes={num_classes}, in_channels={in_channels}, "
                             f"width={width}): each must be at least 1")
        self.in_channels, self.cut_at = in_channels, ""

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps along the way by name, (N, C, H, W) each, from the input on."""
        raise TypeError(f"{type(self).__name__} has no stages")

    def last_map(self, x: Tensor) -> Tensor:
        """Return the last of the ``stages``."""
        return list(self.stages(x).values())[-1]

    def feature_maps(self, x: Tensor) -> dict[str, Tensor]:
        """Return the maps "low", "middle" and "last", see ``FEATURE_MAPS``."""
        maps = self.stages(x)
        return {name: maps[stage] for name, stage in self.FEATURE_MAPS.items()}

    def head(self, x: Tensor) -> Tensor:
        """Return the scores (N, num_classes) of the last map."""
        raise TypeError(f"{type(self).__name__} has no head")

    def cut(self, stage: str) -> None:
        """Remove the layers behind a stage; "head": the classification layers alone.

        This is the version of networks that can be cut nowhere else.
        """
        if stage != "head":
            raise TypeError(f"{type(self).__name__}.cut({stage!r}): only 'head' can be removed")
        delattr(self, "fc" if hasattr(self, "fc") else "classifier")
        self.cut_at = stage

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen:
            with no_grad(), nn.evaluating(self):
                return self.compute(x)
        return self.compute(x)

    def compute(self, x: Tensor) -> Tensor:
        """``forward`` of a network that is not frozen."""
        x = self.last_map(x)
        return x if self.cut_at else self.head(x)

    def check(self, x: Tensor) -> None:
        """``ValueError`` unless x is (N, in_channels, H, W) and large enough."""
        if x.ndim != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.MIN_SIZE:
            raise ValueError(f"{type(self).__name__}: the input must be (N, {self.in_channels}, H, W), H and W at "
                             f"least {self.MIN_SIZE}, got {x.shape}")

    def pooled(self, x: Tensor, size: int) -> Tensor:
        """(N, C, H, W) -> (N, C * size * size): averages over size x size bins, which accept an image of any size."""
        return F.flatten(F.adaptive_avg_pool2d(x, size), 1)

    @no_grad()
    def predict(self, images: list[np.ndarray]) -> list[Classification]:
        """Classify images (C, H, W), float32 in 0..1, each of any size from ``MIN_SIZE`` up."""
        with nn.evaluating(self):
            return [self._predict_one(image) for image in images]

    def _predict_one(self, image: np.ndarray) -> Classification:
        if image.ndim != 3:
            raise ValueError(f"{type(self).__name__}.predict: an image must be ({self.in_channels}, H, W), got "
                             f"{image.shape}")
        x = Tensor(normalize(image)[None]).to(next(self.parameters()).device)
        probabilities = F.softmax(self(x), 1).numpy()[0]
        return Classification(int(probabilities.argmax()), probabilities)


def normalize(image: np.ndarray) -> np.ndarray:
    """Return images (..., C, H, W) in 0..1 minus ImageNet's mean, divided by its deviation: the networks' input.

    RGB by channel; another number of channels by the means over these three.
    """
    mean, std = (v[:, None, None] if image.shape[-3] == 3 else v.mean() for v in (MEAN, STD))
    return ((image - mean) / std).astype(np.float32)


class LayerwiseClassifier(Classifier):
    """A classifier whose ``features`` are one layer after the other, each with a name in ``names``: AlexNet, VGG.

    ``side``: of the map that the first fully connected layer takes.
    """

    SMALL_HEAD = {"hidden": 1, "pooled": 1}
    features: nn.Sequential
    classifier: nn.Sequential
    names: list[str]
    side: int

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """Return the map after each layer, by the layer's name."""
        self.check(x)
        maps = {}
        for name, layer in zip(self.names, self.features, strict=True):
            x = maps[name] = self.apply_layer(name, layer, x)
        return maps

    def last_map(self, x: Tensor) -> Tensor:
        self.check(x)
        for name, layer in zip(self.names, self.features, strict=True):
            x = self.apply_layer(name, layer, x)  # no earlier map is kept
        return x

    def apply_layer(self, name: str, layer: nn.Module, x: Tensor) -> Tensor:
        return layer(x)

    def head(self, x: Tensor) -> Tensor:
        return self.classifier(self.pooled(x, self.side))

    def cut(self, stage: str) -> None:
        if stage not in (*self.names, "head"):
            raise ValueError(f"{type(self).__name__}: no stage {stage!r} to cut at; it has {', '.join(self.names)}")
        end = len(self.names) if stage == "head" else self.names.index(stage) + 1
        layers = list(self.features)[:end]
        self.features, self.names, self.cut_at = nn.Sequential(*layers), self.names[:end], stage
        del self.classifier
        convs = [m for layer in layers for m in layer.modules() if isinstance(m, nn.Conv2d)]
        strides = [pair(m.stride, "stride", 1)[0] for layer in layers for m in layer.modules()
                   if isinstance(m, nn.Conv2d | nn.MaxPool2d)]
        self.stride = math.prod(int(n) for n in strides)
        self.out_channels = convs[-1].weight.shape[0]
        if stage != "head":
            self.MIN_SIZE = self.stride  # pixels: the poolings that are removed need more
