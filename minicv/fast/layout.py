"""Channels-last memory behind an NCHW interface.

A tensor's shape is always (N, C, H, W). The order of its numbers in memory may differ: the fast storey keeps them as
(N, H, W, C), all channels of a pixel side by side.

    NCHW in memory     pixel 0   pixel 1   pixel 2 ...   of channel 0, then those of channel 1, ...
    channels-last      all channels of pixel 0, then all channels of pixel 1, ...

So a map is a matrix with one row per pixel, (N H W, C). A tap of a kernel is one matrix product over such rows, batch
norm adds a vector to each row, and pooling compares long runs of numbers. This costs no copy: an array is allocated as
(N, H, W, C), and its transpose is passed on. The plain storey can ignore it, since NumPy's operations give the same
numbers in any layout.
"""
from __future__ import annotations

from ..backend import Array, xp_of


def nhwc_view(x: Array) -> Array:
    """(N, C, H, W) viewed as (N, H, W, C): contiguous if memory is channels-last."""
    return x.transpose(0, 2, 3, 1)


def empty_nhwc(x: Array, N: int, C: int, H: int, W: int) -> Array:
    """An uninitialized (N, C, H, W) array with x's dtype and device, channels-last in memory."""
    return xp_of(x).empty((N, H, W, C), x.dtype).transpose(0, 3, 1, 2)
