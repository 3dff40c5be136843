"""Networks that classify images, and whose convolutions detectors and segmentation networks build on."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..options import check_options
from .alexnet import AlexNet
from .classifier import Classification, Classifier
from .googlenet import GoogLeNet
from .resnet import ResNet18, ResNet34, ResNet50, ResNet101
from .vgg import VGG
from .xception import Xception

__all__ = ["BACKBONES", "Classification", "Classifier", "build_backbone"]

BACKBONES: dict[str, type[Classifier]] = {
    "alexnet": AlexNet, "googlenet": GoogLeNet, "resnet18": ResNet18, "resnet34": ResNet34, "resnet50": ResNet50,
    "resnet101": ResNet101, "vgg16": VGG, "xception": Xception}


def build_backbone(name: str, cut_at: str | None = "head", *, preset: str = "paper",
                   choices: Iterable[str] = tuple(BACKBONES), **options: Any) -> Classifier:
    """Return the classifier ``name``, in its preset changed by ``options``, without the layers behind ``cut_at``.

    ``cut_at``: the name of a stage; "head" to remove the classification layers alone; None to keep everything. A cut
    network's ``forward`` returns the last map (N, out_channels, H / stride, W / stride); published weights load, those
    of the removed layers are left in the file. ``choices``: the names that the caller can use. Raises ``ValueError``
    for an unknown name, preset, stage or option, and ``TypeError`` for a network that cannot be cut at a stage.
    """
    choices = tuple(choices)
    if name not in choices:
        raise ValueError(f"backbone={name!r}: choose one of {', '.join(choices)}")
    cls = BACKBONES[name]
    if preset not in cls.PRESETS:
        raise ValueError(f"backbone {name}: preset {preset!r} is unknown; choose one of {', '.join(cls.PRESETS)}")
    check_options(f"backbone {name}", cls, options)
    options = {**cls.PRESETS[preset], **options}
    if cut_at is None:
        return cls(**options)
    options |= cls.SMALL_HEAD  # of the layers that are removed
    backbone = cls(**{**options, "num_classes": 1})
    backbone.cut(cut_at)
    return backbone
