"""Arithmetic whose best form depends on the device, and accurate sums.

Adding n numbers one after the other costs up to n/2 roundings; a million times 0.1 in float32 is off by one percent.
Pairwise summation, adding halves that are sums of halves, costs log2(n). NumPy sums pairwise only along the innermost
axis in memory, and a BLAS product with ones never does. Here, sums over other axes are therefore split into pieces of
``SUM_PIECE`` numbers.
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .devices import Array, xp_of
from .workers import parallel_chunks, parallel_map

SUM_PIECE = 1024  # so many numbers are added one after the other: the error is at most 1e-6
PRODUCT_PIECE = 512  # so many products


def matmul(a: Array, b: Array, out: Array) -> None:
    """Compute ``out = a @ b`` over the last two axes; ``out`` may have any layout."""
    if type(out) is np.ndarray:
        np.matmul(a, b, out=out)
    else:
        out[...] = a @ b


def parallel_matmul(a: Array, b: Array) -> Array:
    """Return ``a @ b`` over the last two axes, (..., M, K) @ (..., K, N); several threads multiply large matrices.

    A small result of long sums is computed from pieces of K: BLAS would add its K products one after the other, and
    lose three digits for a million.
    """
    (M, K), N = a.shape[-2:], b.shape[-1]
    if type(a) is np.ndarray and K > 2 * PRODUCT_PIECE and M * N < 1 << 12:
        n, P = K // PRODUCT_PIECE, PRODUCT_PIECE
        left = a[..., :n * P].reshape(*a.shape[:-1], n, P).swapaxes(-3, -2)  # (..., n, M, P)
        pieces = left @ b[..., :n * P, :].reshape(*b.shape[:-2], n, P, N)
        y = np.ascontiguousarray(np.moveaxis(pieces, -3, -1)).sum(axis=-1)  # pairwise, along the innermost axis
        return y if n * P == K else y + a[..., n * P:] @ b[..., n * P:, :]
    if type(a) is not np.ndarray or a.ndim > 2 or b.ndim > 2 or M * N * K < 1 << 20:
        return a @ b
    out = np.empty((M, N), a.dtype)
    if M >= N:  # each thread computes its own rows, or its own columns
        parts = [slice(i * M // 4, (i + 1) * M // 4) for i in range(4)]
        parallel_map(lambda rows: np.matmul(a[rows], b, out=out[rows]), parts)
    else:
        parts = [slice(i * N // 4, (i + 1) * N // 4) for i in range(4)]
        parallel_map(lambda columns: np.matmul(a, b[:, columns], out=out[:, columns]), parts)
    return out


def as_strided(array: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Array:
    """Return a view of contiguous memory with any shape; ``strides`` and ``offset`` are in elements, not bytes."""
    size = array.itemsize
    strides = tuple([s * size for s in strides])
    if type(array) is np.ndarray:  # checks the bounds, and takes a tenth of the time of NumPy's as_strided
        return np.ndarray(shape, array.dtype, array, offset * size, strides)
    return xp_of(array).lib.stride_tricks.as_strided(array.ravel()[offset:], shape, strides)


def add_at(target: Array, index: Array, values: Array) -> None:
    """Compute ``target[index] += values`` in place, where an index repeats with all its values."""
    xp_of(target).add.at(target, index, values)


# ---------------------------------------------------------------------------------------------------------
# Masks and weights: exactly 0 where something does not count, even for infinity and NaN
# ---------------------------------------------------------------------------------------------------------
def apply_mask(g: Array, mask: Array, out: Array | None = None) -> Array:
    """Return ``g`` where the mask is True, exactly 0 elsewhere; g and mask broadcast.

    ``g * mask`` would be NaN where g is infinite or NaN. This multiplies the bits of the floats, taken as integers, by
    0 or 1, and is as fast as ``g * mask``. NumPy's ``where`` takes ten times as long.
    """
    bits = f"i{g.dtype.itemsize}"
    mask = mask if mask.size >= g.size else mask.astype(bits)  # NumPy is slow to cast a mask that it broadcasts
    if out is None:
        return (g.view(bits) * mask).view(g.dtype)
    xp_of(g).multiply(g.view(bits), mask, out=out.view(bits))
    return out


def apply_weights(g: Array, weight: Array) -> Array:
    """Return ``g * weight``, exactly 0 where the weight is 0."""
    return apply_mask(g, weight != 0) * weight


# ---------------------------------------------------------------------------------------------------------
# Accurate sums
# ---------------------------------------------------------------------------------------------------------
def without_overflow(f: Callable[[Array], Array], x: Array) -> Array:
    """Return f(x), computed again in float64 if it is not finite: a mean may fit float32 where the sum does not.

    For NumPy arrays only: a GPU would have to wait for the check.
    """
    y = f(x)
    if type(x) is np.ndarray and x.dtype == np.float32 and not all_finite(y):
        y = f(x.astype(np.float64)).astype(x.dtype)
    return y


def all_finite(x: np.ndarray) -> bool:
    """Whether no number of x is infinite or NaN."""
    return all(parallel_chunks(lambda part: np.isfinite(part).all(), x))


def accurate_sum(x: Array, axes: tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the sum over these axes, accurate in any memory layout. Integers give int64; float16 is rounded once."""
    if x.dtype == np.float16:
        return accurate_sum(x.astype(np.float32), axes, keepdims).astype(np.float16)
    if x.dtype.kind != "f":
        return x.sum(axis=axes, dtype=np.int64, keepdims=keepdims)  # NumPy would make uint64 of unsigned integers
    if type(x) is not np.ndarray or x.size <= SUM_PIECE or not axes:
        return x.sum(axis=axes, keepdims=keepdims)  # a GPU sums pairwise anyway
    if len(axes) == x.ndim and x.flags.c_contiguous:
        return x.sum(axis=axes, keepdims=keepdims)  # contiguous: NumPy sums pairwise
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    m, over = np.ascontiguousarray(x.transpose(order)), [i in axes for i in order]
    while any(over):  # axes that are adjacent in memory are summed as one, the innermost first
        end = len(over) - over[::-1].index(True)
        first = max((i + 1 for i in range(end) if not over[i]), default=0)
        A, P, C = (math.prod(part) for part in (m.shape[:first], m.shape[first:end], m.shape[end:]))
        m = sum_rows(m.reshape(A, P, C)).reshape(m.shape[:first] + (1,) * (end - first) + m.shape[end:])
        over[first:end] = [False] * (end - first)
    y = m.transpose(np.argsort(order))
    return y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in axes])


def sum_rows(m: Array) -> Array:
    """Sum (..., P, C) to (..., C), by products with ones: 6 times as fast as a sum over leading axes."""
    xp, (*lead, P, C) = xp_of(m), m.shape
    if C == 1 or type(m) is not np.ndarray and m.ndim > 2:
        return m.sum(axis=-2)
    n = -(-P // SUM_PIECE)  # every n-th row makes a piece
    if type(m) is not np.ndarray or n <= 1:
        return xp.ones(P, m.dtype) @ m
    whole = P // n * n
    pieces = np.ones(whole // n, m.dtype) @ m[..., :whole, :].reshape(*lead, whole // n, n * C)
    y = sum_rows(pieces.reshape(*lead, n, C))
    return y if whole == P else y + m[..., whole:, :].sum(axis=-2)
