"""What keeps the digits of a result: sums of many numbers, and float16 that is computed in float32.

Adding n numbers one after the other loses up to n/2 roundings; a million times 0.1 in float32 is off by one percent.
Adding halves, each the sum of its halves, loses log2(n). NumPy does that along the innermost axis in memory only, and
a BLAS product with ones not at all. So sums over other axes are cut into pieces of ``PIECE`` numbers here.

float16 ends at 65504 and has 11 bits: a sum of squares overflows, a mean of 5000 numbers has three bits left. So an
operation that adds up, or computes in several steps, is a ``Wide`` function: its float16 arguments become float32, and
its result is rounded once.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from ..backend import Array, xp_of
from .dtypes import AsType

HALF = np.dtype(np.float16)
PIECE = 1024  # numbers that are added one after the other: off by 1e-6 at most


def wide(dtype: np.dtype) -> np.dtype:
    """The dtype to add up in: float32 for float16, itself for others."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def in_range(f: Callable[[Array], Array], x: Array) -> Array:
    """f(x); in float64 if that is not finite: of numbers up to 3e38 a mean can be represented where their sum cannot.

    On NumPy arrays only: a GPU would have to wait for the question.
    """
    y = f(x)
    if type(x) is np.ndarray and x.dtype == np.float32 and not np.isfinite(y).all():
        y = f(x.astype(np.float64)).astype(x.dtype)
    return y


class Wide(Function):
    """A function that computes float16 in float32, forward and backward, and rounds each result once."""

    @classmethod
    def apply(cls, *inputs: Tensor | None, **options: Any) -> Any:
        dtypes = {x.data.dtype for x in inputs if isinstance(x, Tensor)}
        if HALF not in dtypes or any(d.kind == "f" and d != HALF for d in dtypes):  # float16 with float32 is refused
            return super().apply(*inputs, **options)
        result = super().apply(*(AsType.apply(x, dtype=np.float32) if isinstance(x, Tensor) and x.dtype == HALF else x
                                 for x in inputs), **options)
        first, *others = result if isinstance(result, tuple) else (result,)
        first = AsType.apply(first, dtype=HALF)
        return (first, *others) if others else first


def total(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum over these axes, whatever the layout in memory; integers make int64, float16 is rounded once."""
    if x.dtype == np.float16:
        return total(x.astype(np.float32), axes, keepdims).astype(np.float16)
    if x.dtype.kind != "f":
        return x.sum(axis=axes, dtype=np.int64, keepdims=keepdims)  # NumPy would make uint64 of unsigned integers
    if type(x) is not np.ndarray or x.size <= PIECE or not axes:
        return x.sum(axis=axes, keepdims=keepdims)  # a GPU adds in halves anyway
    if len(axes) == x.ndim and x.flags.c_contiguous:
        return x.sum(axis=axes, keepdims=keepdims)  # one line of numbers
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    m, over = np.ascontiguousarray(x.transpose(order)), [i in axes for i in order]
    while any(over):  # axes side by side in memory are summed as one, the innermost first
        end = len(over) - over[::-1].index(True)
        first = max((i + 1 for i in range(end) if not over[i]), default=0)
        A, P, C = (math.prod(part) for part in (m.shape[:first], m.shape[first:end], m.shape[end:]))
        m = sum_rows(m.reshape(A, P, C)).reshape(m.shape[:first] + (1,) * (end - first) + m.shape[end:])
        over[first:end] = [False] * (end - first)
    y = m.transpose(np.argsort(order))
    return y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in axes])


def sum_rows(m: Array) -> Array:
    """(..., P, C) -> (..., C). As products with ones: 6 times as fast as a sum over leading axes."""
    xp, (*lead, P, C) = xp_of(m), m.shape
    if C == 1 or type(m) is not np.ndarray and m.ndim > 2:
        return m.sum(axis=-2)
    if type(m) is not np.ndarray or P <= PIECE:
        return xp.ones(P, m.dtype) @ m
    whole = P // PIECE * PIECE
    y = sum_rows(np.ones(PIECE, m.dtype) @ m[..., :whole, :].reshape(*lead, -1, PIECE, C))
    return y if whole == P else y + np.ones(P - whole, m.dtype) @ m[..., whole:, :]
