"""Where an array of a file belongs in a network: three layouts, tried in this order.

    the file holds                     the network            for example
    this network, or one with the
    same backbone, in minicv's names   any                    backbone.conv1.weight -> backbone.conv1.weight
      or in torchvision's              pspnet, deeplabv3      classifier.4.weight -> head.2.weight
    a classifier                       built on it            features.0.weight -> backbone.features.0.weight
      and its fc6, fc7                 with such layers       classifier.0.weight -> head.fc6.weight
    a network                          a classifier           backbone.conv1.weight -> conv1.weight

minicv's classifiers have torchvision's names. Fully connected weights become filters where the network has convolutions
in their place (FCN, sec. 4.1; DeconvNet). Which arrays are then taken is decided in ``take.py``.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ...models import is_backbone
from ...models.backbones import Classifier
from ...models.backbones.resnet import ResNet
from ...models.backbones.xception import Xception
from ...models.detection.rcnn import RCNN
from ...models.segmentation.deconvnet import DeconvNet
from ...models.segmentation.deeplab import DeepLabV3, DeepLabV3Plus
from ...models.segmentation.fcn import FCN
from ...models.segmentation.pspnet import PSPNet
from ...nn import Conv2d, Linear, Module

NORM = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}  # batch norm that changes nothing

# Beginnings of names in torchvision's networks, and what minicv has in their place; the first that fits counts.
AUXILIARY = {"aux_classifier.0.": "auxiliary_head.0.0.", "aux_classifier.1.": "auxiliary_head.0.1.",
             "aux_classifier.4.": "auxiliary_head.2."}
FCN_RESNET = {"classifier.0.": "head.0.0.", "classifier.1.": "head.0.1.", "classifier.4.": "head.2.", **AUXILIARY}
DEEPLABV3 = {"classifier.0.convs.4.1.": "aspp.pooled.0.", "classifier.0.convs.4.2.": "aspp.pooled.1.",
             "classifier.0.": "aspp.", "classifier.1.": "head_conv.0.", "classifier.2.": "head_conv.1.",
             "classifier.4.": "head.", **AUXILIARY}


class Placed(NamedTuple):
    """An array for one of the network's, and the names in the file of what it was made from."""

    array: np.ndarray
    names: tuple[str, ...]


def place(model: Module, weights: Mapping[str, np.ndarray]) -> dict[str, Placed]:
    """Return arrays of a file by their names in the network, whether or not their shapes fit.

    The layout is the first that has an array for the network's backbone; {} if none has.
    """
    own = named_arrays(model)
    for layout in (same_network, classifier_in_network, network_in_classifier):
        placed = {name: each for name, each in layout(model, weights).items() if name in own}
        if any(is_backbone(model, name) for name in placed):
            return placed
    return {}


def named_arrays(model: Module) -> dict[str, np.ndarray]:
    """Return the network's parameters and buffers by name, not copied."""
    return {**{name: p.data for name, p in model.named_parameters(remove_duplicate=False)},
            **dict(model.named_buffers(remove_duplicate=False))}


def torchvision_names(model: Module) -> dict[str, str]:
    """Return the table of beginnings of names for a network that torchvision has, too; {} for another."""
    if isinstance(model, DeepLabV3) and not isinstance(model, DeepLabV3Plus):
        return DEEPLABV3
    return FCN_RESNET if isinstance(model, PSPNet) else {}


def is_torchvisions(model: Any) -> bool:
    """Return whether torchvision has the network: the classifiers but Xception, PSPNet's baseline without a pyramid
    (``fcn_resnet50``), and DeepLabv3 with ``head_conv`` and three rates (``deeplabv3_resnet50``)."""
    if isinstance(model, Classifier):
        return not isinstance(model, Xception)
    if not torchvision_names(model):
        return False
    config, resnet = model.config, isinstance(model.backbone, ResNet)
    if isinstance(model, PSPNet):
        return resnet and not config.levels
    return resnet and config.head_conv and config.image_pooling and config.pool_norm and not config.separable and (
        len(config.rates) == 3)


def rename(name: str, table: Mapping[str, str]) -> str:
    """Return a name with its beginning replaced by the first entry of the table that fits."""
    for old, new in table.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


# ---------------------------------------------------------------------------------------------------------
# The layouts
# ---------------------------------------------------------------------------------------------------------
def same_network(model: Module, weights: Mapping[str, np.ndarray]) -> dict[str, Placed]:
    """Place by equal names, or by torchvision's."""
    table = torchvision_names(model)
    return {rename(name, table): Placed(array, (name,)) for name, array in weights.items()}


def network_in_classifier(model: Module, weights: Mapping[str, np.ndarray]) -> dict[str, Placed]:
    """Place the backbone of another network in a classifier."""
    if not isinstance(model, Classifier):
        return {}
    return {re.sub(r"^(backbone|net)\.", "", name): Placed(array, (name,)) for name, array in weights.items()}


def classifier_in_network(model: Module, weights: Mapping[str, np.ndarray]) -> dict[str, Placed]:
    """Place a classifier in the network that is built on it."""
    if isinstance(model, DeconvNet):
        return vgg_in_deconvnet(model, weights)
    beginning = "net." if isinstance(model, RCNN) else "backbone."
    placed = {beginning + name: Placed(array, (name,)) for name, array in weights.items()}
    if isinstance(model, FCN):
        placed |= before_batch_norm(model, placed)
    own = named_arrays(model)
    if all(beginning + name in own for name in layers(weights, "features", 4)):  # fc6 reads the last of them
        placed |= fully_connected(model, weights)
    return placed


def layers(weights: Mapping[str, np.ndarray], part: str, ndim: int) -> list[str]:
    """Return the names "PART.NUMBER.weight" of arrays of ``ndim`` axes, by number."""
    found = {int(match[1]): name for name, array in weights.items()
             if array.ndim == ndim and (match := re.fullmatch(rf"{part}\.(\d+)\.weight", name))}
    return [found[number] for number in sorted(found)]


def fully_connected(model: Module, weights: Mapping[str, np.ndarray]) -> dict[str, Placed]:
    """Place a classifier's fc6, and then fc7, in the first two layers of a head, as far as they have their sizes."""
    modules = [(name, m) for name, m in model.named_modules() if name.startswith("head.")
               and isinstance(m, Conv2d if isinstance(model, FCN) else Linear)]
    placed: dict[str, Placed] = {}
    for (name, module), theirs in zip(modules, layers(weights, "classifier", 2)[:-1], strict=False):
        bias = theirs.removesuffix("weight") + "bias"
        if not same_size(module.weight.shape, weights[theirs]) or bias not in weights:
            break
        placed |= {f"{name}.weight": Placed(weights[theirs].reshape(module.weight.shape), (theirs,)),
                   f"{name}.bias": Placed(weights[bias], (bias,))}
    return placed


def same_size(shape: tuple[int, ...], weight: np.ndarray) -> bool:
    """Return whether the rows of a fully connected layer have as many numbers as the filters of this shape."""
    return (shape[0], np.prod(shape[1:])) == weight.shape


def before_batch_norm(model: FCN, placed: Mapping[str, Placed]) -> dict[str, Placed]:
    """Place AlexNet's convolutions where batch norm follows each in one ``Sequential``, and let it change nothing."""
    inside: dict[str, Placed] = {}
    own = named_arrays(model)
    for name, _ in model.backbone.named_modules(prefix="backbone"):
        if f"{name}.1.running_var" in own and f"{name}.weight" in placed:
            inside |= {f"{name}.0.{part}": placed[f"{name}.{part}"] for part in ("weight", "bias")}
            inside |= identity_norm(f"{name}.1.", placed[f"{name}.weight"])
    return inside


def identity_norm(prefix: str, conv: Placed, eps: float = 1e-5) -> dict[str, Placed]:
    """Return arrays with which a batch norm behind a convolution changes nothing: variance plus eps is 1."""
    return {prefix + part: Placed(np.full(len(conv.array), value - eps * (part == "running_var"), np.float32),
                                  conv.names) for part, value in NORM.items()}


def vgg_in_deconvnet(model: DeconvNet, weights: Mapping[str, np.ndarray]) -> dict[str, Placed]:
    """Place VGG's convolutions, fc6 and fc7. Its biases, and its batch norm if it has any, become batch norm's.

    Subtracting the mean cancels a bias, so behind VGG's batch norm it is subtracted from the mean instead.
    """
    ours = [f"conv.{i}.{j}" for i, block in enumerate(model.conv) for j in range(len(block))]
    convs, linear = layers(weights, "features", 4), layers(weights, "classifier", 2)[:-1]
    if len(convs) != len(ours):
        return {}
    placed: dict[str, Placed] = {}
    own = named_arrays(model)
    for name, theirs in zip([*ours, "fc6", "fc7"], [*convs, *linear], strict=False):
        bias, shape = theirs.removesuffix("weight") + "bias", own[f"{name}.conv.weight"].shape
        if bias not in weights or name in ("fc6", "fc7") and not same_size(shape, weights[theirs]):
            break
        weight = weights[theirs].reshape(shape) if name in ("fc6", "fc7") else weights[theirs]
        placed[f"{name}.conv.weight"] = Placed(weight, (theirs,))
        part, number = theirs.split(".")[:2]
        norm = {each: f"{part}.{int(number) + 1}.{each}" for each in NORM}
        if norm["running_var"] in weights:
            placed |= {f"{name}.bn.{each}": Placed(weights[found], (found,)) for each, found in norm.items()}
            mean = norm["running_mean"]
            placed[f"{name}.bn.running_mean"] = Placed(weights[mean] - weights[bias], (mean, bias))
        else:
            placed |= identity_norm(f"{name}.bn.", placed[f"{name}.conv.weight"])
            placed[f"{name}.bn.bias"] = Placed(weights[bias], (bias,))
    return placed
