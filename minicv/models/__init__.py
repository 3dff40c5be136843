"""The networks by name: ``minicv.models.build("unet")``. One file per paper."""
from __future__ import annotations

from importlib import import_module
from typing import Any

from ..errors import suggest
from ..nn import Module
from .options import check_options, matches_type, model_options

__all__ = ["MODELS", "build", "is_backbone", "matches_type", "model_class", "model_options", "names"]

MODELS: dict[str, str] = {  # module and class
    "alexnet": "backbones.alexnet:AlexNet",
    "deconvnet": "segmentation.deconvnet:DeconvNet",
    "deeplabv3": "segmentation.deeplab:DeepLabV3",
    "deeplabv3plus": "segmentation.deeplab:DeepLabV3Plus",
    "fast_rcnn": "detection.fast_rcnn:FastRCNN",
    "faster_rcnn": "detection.faster_rcnn:FasterRCNN",
    "fast_yolo": "detection.yolo:FastYOLO",
    "fcn16s": "segmentation.fcn:FCN16s",
    "fcn32s": "segmentation.fcn:FCN32s",
    "fcn8s": "segmentation.fcn:FCN8s",
    "googlenet": "backbones.googlenet:GoogLeNet",
    "mask_rcnn": "detection.mask_rcnn:MaskRCNN",
    "pspnet": "segmentation.pspnet:PSPNet",
    "rcnn": "detection.rcnn:RCNN",
    "resnet18": "backbones.resnet:ResNet18",
    "resnet34": "backbones.resnet:ResNet34",
    "resnet50": "backbones.resnet:ResNet50",
    "resnet101": "backbones.resnet:ResNet101",
    "sppnet": "detection.sppnet:SPPNet",
    "unet": "segmentation.unet:UNet",
    "vgg16": "backbones.vgg:VGG",
    "xception": "backbones.xception:Xception",
    "yolo": "detection.yolo:YOLO",
}


def names(room: str = "") -> list[str]:
    """Return the names of all networks, or of one room: "backbones", "segmentation" or "detection"."""
    return sorted(name for name, path in MODELS.items() if path.startswith(room))


def model_class(name: str) -> type[Module]:
    """Return the class of a network; ``ValueError`` for an unknown name."""
    if name not in MODELS:
        raise ValueError(f"no model named {name!r}; {suggest(name, names())}")
    module, attribute = MODELS[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def build(name: str, preset: str = "compact", **options: Any) -> Module:
    """Return a network with new weights, drawn from the generator that ``minicv.seed`` sets.

    ``preset`` "compact" trains on two cores in minutes; "paper" has the paper's sizes. ``options`` replace single
    arguments of the class. Checkpoints store the choice, ``model.build_args``. Raises ``ValueError`` for an unknown
    name, preset or option.
    """
    cls: Any = model_class(name)
    if preset not in cls.PRESETS:
        raise ValueError(f"build({name!r}, preset={preset!r}): the presets are {', '.join(cls.PRESETS)}")
    check_options(f"build({name!r})", cls, options)
    model = cls(**{**cls.PRESETS[preset], **options})
    model.build_args = {"model": name, "preset": preset, "options": options}
    return model


def is_backbone(model: Module, name: str) -> bool:
    """Return whether a parameter or buffer belongs to the network's backbone.

    The names of a backbone begin with the class's ``BACKBONE``; without it, and for classifiers, whose ``HEAD`` does
    not belong to it, it is all of the network.
    """
    return name.startswith(getattr(model, "BACKBONE", "")) and not name.startswith(getattr(model, "HEAD", ()))
