"""Dropout: in training, set numbers to zero at random, so that no feature can rely on another.

    y = m x,      m = 0 with probability p, else 1 / (1 - p)

Krizhevsky et al. (2012), sec. 4.2, with p = 0.5; the theory is in Srivastava et al. (2014). They halve all outputs at
test time. "Inverted" dropout, here and in PyTorch, divides by 1 - p in training instead: the mean is the same, and
nothing changes at test time.

The mask is drawn on the host, by the generator of ``minicv.seed``, so a seed gives the same mask on any device. 16
random bits decide each number: p is rounded to a multiple of 1/65536, and the scale uses the rounded p, so the mean is
exact.
"""
from __future__ import annotations

import numpy as np

from .. import backend
from ..autograd import Tensor
from ..backend import Array, apply_mask
from .arguments import check_floats
from .case import Case
from .precision import Float16Safe

STEPS = 1 << 16  # how many values 16 bits have


def dropout_loop(x, p=0.5, training=True, *, whole_channels=False):
    """``dropout`` and ``dropout2d`` on a plain array: a 16-bit draw decides each number, channels last."""
    if not training:
        return x
    y = np.zeros_like(x)
    order = [*range(x.ndim)] if x.ndim != 4 else [0, 2, 3, 1]
    shape = x.shape[:2] if whole_channels else [x.shape[i] for i in order]
    draws = iter(_draw(int(np.prod(shape))))
    for i in np.ndindex(*shape):
        if next(draws) >= round(p * STEPS):
            at = i if whole_channels else tuple(i[order.index(axis)] for axis in range(x.ndim))
            y[at] = x[at] / (1 - round(p * STEPS) / STEPS)
    return y


def _draw(n: int) -> np.ndarray:
    """``n`` random numbers of 16 bits, four from each 64-bit draw."""
    return backend.rng().integers(0, 1 << 64, -(-n // 4), np.uint64).astype("<u8", copy=False).view("<u2")[:n]


def draw_mask(x: Array, shape: tuple[int, ...], p: float) -> Array:
    """A boolean array, False with probability p, on x's device; drawn in channels-last order, as memory is."""
    drawn_as = [shape[i] for i in (0, 2, 3, 1)] if len(shape) == 4 else shape
    mask = (_draw(int(np.prod(shape))) >= round(p * STEPS)).reshape(drawn_as)
    return backend.to_device(mask.transpose(0, 3, 1, 2) if len(shape) == 4 else mask, backend.device_of(x))


def scale(p: float) -> float:
    """1 / (1 - p) for the rounded p; 1 for p = 1, which keeps nothing."""
    dropped = round(p * STEPS)
    return STEPS / (STEPS - dropped) if dropped < STEPS else 1.0


class Dropout(Float16Safe):
    """y = m x: x times the scale 1 / (1 - p) where the mask is True, exactly 0 elsewhere"""

    def forward(ctx, x, *, mask, scale):
        ctx.save(mask, scale)
        return apply_mask(x, mask) * scale

    def backward(ctx, gy):
        mask, scale = ctx.saved
        return apply_mask(gy, mask) * scale


def dropout(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Set each number to zero with probability ``p``, and divide the others by 1 - p; any shape.

    If not ``training``, return the input itself. p = 1 gives zeros. Raises ``ValueError`` for p outside [0, 1].
    Krizhevsky et al. (2012), sec. 4.2.
    """
    _check("dropout", input, p)
    if not training or p == 0:
        return input
    return Dropout.apply(input, mask=draw_mask(input.data, input.shape, p), scale=scale(p))


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """Set whole channels of (N, C, H, W) to zero, each with probability ``p``, and divide the others by 1 - p.

    Neighboring pixels are alike, so dropping single pixels would lose almost nothing. Errors are as in ``dropout``.
    Tompson et al., "Efficient Object Localization Using Convolutional Networks" (2015), sec. 3.2.
    """
    _check("dropout2d", input, p)
    if input.ndim != 4:
        raise ValueError(f"dropout2d: input must be (N, C, H, W), got {input.shape}")
    if not training or p == 0:
        return input
    return Dropout.apply(input, mask=draw_mask(input.data, (*input.shape[:2], 1, 1), p), scale=scale(p))


def _check(name: str, input: Tensor, p: float) -> None:
    check_floats(name, input=input)
    if not 0 <= p <= 1:
        raise ValueError(f"{name}(p={p}) must lie in [0, 1]: it is the probability of a zero")


def _case(op, label, shape, **options):
    """A case whose calls all start from one seed: op, loop and each step of a gradient check draw the same mask."""
    def from_seed(f, **more):
        def call(x, **options):
            with backend.seeded(5):
                return f(x, **options, **more)
        return call
    loop = from_seed(dropout_loop, whole_channels=op is dropout2d)
    return Case(op, label, shape, loop=loop, call=from_seed(op), **options)


CASES = [
    _case(dropout, "matrix", (5, 7)),
    _case(dropout, "p 0.2, images", (2, 3, 4, 5), p=0.2),
    _case(dropout, "not training", (2, 3), training=False),
    _case(dropout, "p 0", (3, 4), p=0.0),
    _case(dropout, "p 1", (3, 4), p=1.0),
    _case(dropout, "larger than one block", (2, 4, 96, 100), p=0.7),
    _case(dropout, "empty batch", (0, 4)),
    _case(dropout2d, "images", (3, 6, 2, 3)),
    _case(dropout2d, "p 1", (1, 2, 2, 2), p=1.0),
    _case(dropout2d, "not training", (1, 2, 3, 3), training=False),
    _case(dropout2d, "empty batch", (0, 2, 3, 3), p=0.3),
]
