"""Masks: 0 where something does not count, whatever number stands there.

``g * mask`` is not that: 0 times infinity is NaN, and so is 0 times NaN.
"""
from __future__ import annotations

from ..backend import Array, xp_of


def keep(g: Array, mask: Array, out: Array | None = None) -> Array:
    """``g`` where the mask holds, exactly 0 elsewhere; g and mask broadcast.

    It multiplies the bits of the floats, as integers, by 0 or 1: as fast as ``g * mask``. NumPy's ``where`` takes ten
    times as long.
    """
    bits = f"i{g.dtype.itemsize}"
    mask = mask if mask.size >= g.size else mask.astype(bits)  # NumPy is slow to cast what it repeats
    if out is None:
        return (g.view(bits) * mask).view(g.dtype)
    xp_of(g).multiply(g.view(bits), mask, out=out.view(bits))
    return out


def weigh(g: Array, weight: Array) -> Array:
    """``g * weight``, exactly 0 where the weight is 0."""
    return keep(g, weight != 0) * weight
