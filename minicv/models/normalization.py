"""How the values of an image are normalized for a network: the option ``normalization``, kept in its checkpoints.

    "image"     the image minus its own mean, divided by its own deviation: contrast and brightness do not matter
    "imagenet"  each color minus ImageNet's mean, divided by ImageNet's deviation: what weights from ImageNet expect
"""
from __future__ import annotations

import numpy as np

from ..data.augment.unet import standardize
from .backbones.classifier import normalize

NORMALIZATIONS = ("image", "imagenet")


def check_normalization(owner: str, normalization: str) -> str:
    """Return the option; ``ValueError``, in the name of ``owner``, for an unknown one."""
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"{owner}(normalization={normalization!r}): 'image' or 'imagenet'")
    return normalization


def normalize_image(image: np.ndarray, normalization: str, like: np.ndarray | None = None) -> np.ndarray:
    """Return an image (C, H, W) in 0..1 as the network's input. ``like``: the whole image, if ``image`` is a part."""
    return standardize(image, like) if normalization == "image" else normalize(image)
