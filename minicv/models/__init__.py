"""The networks by name: ``minicv.models.build("unet")``. One file per paper."""
from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from ..nn import Module

LARGEST = 1_000_000  # of any option: more layers, channels or classes would only fill the memory

MODELS = {
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
    "resnet18": "backbones.resnet:ResNet18",
    "resnet34": "backbones.resnet:ResNet34",
    "resnet50": "backbones.resnet:ResNet50",
    "rcnn": "detection.rcnn:RCNN",
    "resnet101": "backbones.resnet:ResNet101",
    "sppnet": "detection.sppnet:SPPNet",
    "unet": "segmentation.unet:UNet",
    "vgg16": "backbones.vgg:VGG",
    "xception": "backbones.xception:Xception",
    "yolo": "detection.yolo:YOLO",
}


def names(kind: str = "") -> list[str]:
    """The networks there are, or those of one kind: "backbones", "segmentation"."""
    return sorted(name for name, path in MODELS.items() if path.startswith(kind))


def model_class(name: str) -> type[Module]:
    """The class of a network; ``ValueError`` lists the names there are."""
    if name not in MODELS:
        raise ValueError(f"no model named {name!r}; there are: {', '.join(names())}")
    module, attribute = MODELS[name].split(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def build(name: str, preset: str = "compact", **options: Any) -> Module:
    """A network with fresh weights (``minicv.seed``).

    ``preset`` "compact" trains on two cores in minutes; "paper" has the paper's sizes. ``options`` replace single
    arguments of the class. Checkpoints keep the choice, ``model.build_args``. Raises ``ValueError`` for an unknown
    name, preset or option.
    """
    cls: Any = model_class(name)
    if preset not in cls.PRESETS:
        raise ValueError(f"build({name!r}, preset={preset!r}): the presets are {', '.join(cls.PRESETS)}")
    known = model_options(cls)
    unknown = options.keys() - known.keys()
    if unknown:
        raise ValueError(f"build({name!r}): no option {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    for option, value in options.items():
        kind = known[option].annotation
        if not fits(value, kind):
            raise ValueError(f"build({name!r}): {option}={value!r}; it must be {kind}")
    large = [f"{k}={v}" for k, v in options.items() if any(isinstance(n, int) and n > LARGEST for n in
                                                         (v if isinstance(v, list | tuple) else [v]))]
    if large:
        raise ValueError(f"build({name!r}): {', '.join(large)}; no option may exceed {LARGEST:,}")
    model = cls(**{**cls.PRESETS[preset], **options})
    model.build_args = {"model": name, "preset": preset, "options": options}
    return model


def model_options(cls: Any) -> Mapping[str, inspect.Parameter]:
    """Return a model class's options by name: its arguments, or the fields of its ``Config``."""
    return inspect.signature(getattr(cls, "Config", cls)).parameters


def fits(value: Any, kind: str) -> bool:
    """Is a value of the kind that an option's annotation names? A float may be an integer, but not NaN."""
    kind, _, none = kind.partition(" | ")
    if none and value is None:
        return True
    if "[" in kind and not kind.startswith("dict"):  # Sequence[int], tuple[int, int]
        inner = kind[kind.index("[") + 1:-1].split(", ")
        return isinstance(value, list | tuple) and (len(inner) == 1 or len(inner) == len(value)) and all(
            fits(v, inner[0]) for v in value)
    if kind in ("int", "float"):
        number = numbers.Integral if kind == "int" else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool) and not math.isnan(value)
    return isinstance(value, {"str": str, "bool": bool}.get(kind, dict))
