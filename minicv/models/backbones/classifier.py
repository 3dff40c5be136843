"""What the four classifiers share: the check of the input, the head's pooling, and ``predict``."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ... import nn
from ... import ops as F
from ...autograd import Tensor, no_grad

# Mean and deviation of ImageNet's RGB values in 0..1, by which torchvision's weights were trained.
MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


@dataclass
class Classification:
    """What ``predict`` says of one picture: the class ``label``, and ``probabilities`` float32 (K,)."""

    label: int
    probabilities: np.ndarray


class Classifier(nn.Module):
    """(N, in_channels, H, W) -> scores (N, num_classes), H and W at least ``LEAST``.

    ``INPUT`` (C, H, W) is each preset's natural input.

    ``NOT_LOADED``: how names of published weights begin that have no place here. Subclasses write ``stages(x)``, which
    gives the maps worth having by name, the last one last, and ``head(map)``, which scores the classes. Those on which
    segmentation heads stand say in ``FEATURES`` which stage is "low" (fine, for a decoder), which "middle" (the one
    before the last, for an auxiliary loss) and which "last", and in ``channels`` how many each stage has.
    """

    PRESETS: dict[str, dict] = {}
    INPUT: dict[str, tuple[int, int, int]] = {}
    LEAST = 1
    NOT_LOADED: tuple[str, ...] = ()
    FEATURES: dict[str, str] = {}

    def __init__(self, num_classes: int, in_channels: int, width: int):
        if min(num_classes, in_channels, width) < 1:
            raise ValueError(f"{type(self).__name__}(num_classes={num_classes}, in_channels={in_channels}, "
                             f"width={width}): each must be at least 1")
        self.in_channels = in_channels

    def stages(self, x: Tensor) -> dict[str, Tensor]:
        """The maps along the way by name, (N, C, H, W) each, from the input on."""
        raise TypeError(f"{type(self).__name__} has no stages")

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """The maps "low", "middle" and "last", see ``FEATURES``."""
        maps = self.stages(x)
        return {name: maps[stage] for name, stage in self.FEATURES.items()}

    def head(self, x: Tensor) -> Tensor:
        """Scores (N, num_classes) from the last map."""
        raise TypeError(f"{type(self).__name__} has no head")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(list(self.stages(x).values())[-1])

    def check(self, x: Tensor) -> None:
        """``ValueError`` unless x is (N, in_channels, H, W) and large enough."""
        if x.ndim != 4 or x.shape[1] != self.in_channels or min(x.shape[2:]) < self.LEAST:
            raise ValueError(f"{type(self).__name__}: the input must be (N, {self.in_channels}, H, W), H and W at "
                             f"least {self.LEAST}, got {x.shape}")

    def pooled(self, x: Tensor, size: int) -> Tensor:
        """(N, C, H, W) -> (N, C * size * size): averages over size x size bins, so that any picture size will do."""
        return F.flatten(F.adaptive_avg_pool2d(x, size), 1)

    @no_grad()
    def predict(self, images: list[np.ndarray]) -> list[Classification]:
        """Classify pictures (C, H, W), float32 in 0..1, each of any size that survives the pooling."""
        with nn.evaluating(self):
            return [self._predict_one(image) for image in images]

    def _predict_one(self, image: np.ndarray) -> Classification:
        if image.ndim != 3:
            raise ValueError(f"{type(self).__name__}.predict: a picture must be ({self.in_channels}, H, W), got "
                             f"{image.shape}")
        x = Tensor(normalise(image)[None]).to(self.parameters()[0].device)
        probabilities = F.softmax(self(x), 1).numpy()[0]
        return Classification(int(probabilities.argmax()), probabilities)


def normalise(image: np.ndarray) -> np.ndarray:
    """Pictures (..., C, H, W) in 0..1 as the networks take them: ImageNet's mean subtracted, divided by its deviation.

    RGB by channel; with another number of channels, by the means over the three.
    """
    mean, std = (v[:, None, None] if image.shape[-3] == 3 else v.mean() for v in (MEAN, STD))
    return ((image - mean) / std).astype(np.float32)
