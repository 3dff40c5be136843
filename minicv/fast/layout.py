"""Channels-last memory behind an NCHW interface.

A tensor's shape is always (N, C, H, W). How its numbers lie in memory is another matter, and the fast storey keeps
them as (N, H, W, C): all channels of a pixel side by side.

    NCHW in memory     pixel 0   pixel 1   pixel 2 ...   of channel 0, then those of channel 1, ...
    channels-last      all channels of pixel 0, then all channels of pixel 1, ...

So a map is a matrix with a row for each pixel, (N H W, C), and a tap of a kernel is one matrix product over such rows;
batch norm adds a vector to each row; pooling compares long runs of numbers. Nothing is copied for it: the array is
made as (N, H, W, C) and handed out as its transpose. The plain storey does not need to know, since NumPy's operations
give the same numbers in any layout.
"""
from __future__ import annotations

from ..backend import Array, xp_of


def nhwc_view(x: Array) -> Array:
    """(N, C, H, W) as (N, H, W, C): a view, contiguous if memory is channels-last."""
    return x.transpose(0, 2, 3, 1)


def empty_nhwc(x: Array, N: int, C: int, H: int, W: int) -> Array:
    """An (N, C, H, W) array of x's dtype and device, channels-last in memory and not yet filled."""
    return xp_of(x).empty((N, H, W, C), x.dtype).transpose(0, 3, 1, 2)
