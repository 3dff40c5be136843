"""Initial weights, drawn from the generator that ``minicv.seed`` sets; shapes as in PyTorch, (out, in, ...)."""
from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import numpy as np

from .. import backend
from ..backend import Array


def fan_in(shape: tuple[int, ...]) -> int:
    """Return the inputs of one neuron, U-Net's N: in * kernel area, for weights (out, in, ...)."""
    return int(np.prod(shape[1:]))


_blank = False


@contextlib.contextmanager
def blank() -> Iterator[None]:
    """Inside ``with blank():`` weights are 0 instead of drawn: this takes no time, and no memory until they are used.

    For networks that are only described or counted, or whose weights are loaded next.
    """
    global _blank
    before, _blank = _blank, True
    try:
        yield
    finally:
        _blank = before


def normal(shape: tuple[int, ...], std: float) -> Array:
    """Return Gaussian numbers of mean 0, float32."""
    if _blank:
        return zeros(shape)
    values = backend.rng().standard_normal(shape)
    values *= std
    return backend.to_device(values.astype(np.float32))


def he_normal(shape: tuple[int, ...], fan: int | None = None) -> Array:
    """Return Gaussian numbers of std sqrt(2/N), N inputs per neuron: ReLU layers then keep the variance.

    He et al. (2015), eq. (10); U-Net, sec. 3. ``fan`` overrides N, as a transposed convolution needs.
    """
    return normal(shape, math.sqrt(2 / (fan or fan_in(shape))))  # U-Net, sec. 3: std = sqrt(2/N)


def khwc_layout(w: Array) -> Array:
    """Return the same kernel (O, C, KH, KW), laid out in memory as (KH, KW, C, O).

    ``minicv/fast`` then reads its taps without a copy: a training step of a 3x3 convolution of 512 channels on maps of
    2x2 takes 43% of the time.
    """
    return backend.xp_of(w).ascontiguousarray(w.transpose(2, 3, 1, 0)).transpose(3, 2, 0, 1)


def zeros(shape: tuple[int, ...]) -> Array:
    """Return zeros, float32."""
    return backend.xp().zeros(shape, np.float32)


def ones(shape: tuple[int, ...]) -> Array:
    """Return ones, float32."""
    return backend.xp().ones(shape, np.float32)
