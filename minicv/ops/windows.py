"""How many windows a pooling has, and the checks that the poolings share.

Sizes are PyTorch's. With ``ceil_mode`` the last windows may reach past the padding; a window that would start there is
dropped.
"""
from __future__ import annotations

from ..autograd import Tensor
from .arguments import Pair, check_floats, pair
from .conv import Windows


def pool_output_size(in_size: int, window: tuple[int, int, int, int], ceil_mode: bool = False) -> int:
    """The number of windows along an axis: (i + 2p - d(k-1) - 1) / s + 1, rounded down, or up with ``ceil_mode``.

    ``window``: (kernel, stride, padding, dilation) along that axis.
    """
    k, s, p, d = window
    room = in_size + 2 * p - d * (k - 1) - 1
    if not ceil_mode:
        return room // s + 1
    o = -(-room // s) + 1
    return o - 1 if (o - 1) * s >= in_size + p else o  # the last window would start in the padding at the end


def pool_windows(name: str, input: Tensor, kernel_size: int | Pair, stride: int | Pair | None, *, padding: int | Pair,
                 dilation: int | Pair = 1, ceil_mode: bool = False) -> tuple[Windows, Pair]:
    """Check the arguments of a pooling; return its windows and how many there are, (OH, OW)."""
    check_map(name, input)
    kernel = pair(kernel_size, f"{name}(kernel_size)", 1)
    stride = kernel if stride is None or stride == () else pair(stride, f"{name}(stride)", 1)
    padding, dilation = pair(padding, f"{name}(padding)", 0), pair(dilation, f"{name}(dilation)", 1)
    windows, out_size = Windows(kernel, stride, padding, dilation), []
    for i, window in zip(input.shape[2:], zip(*windows, strict=True), strict=True):
        k, _, p, d = window
        if 2 * p > k:
            raise ValueError(f"{name}(padding={padding}) is more than half of the kernel, {kernel[0]}x{kernel[1]}; use "
                             "less padding, or pad() before pooling")
        out_size.append(pool_output_size(i, window, ceil_mode))
        if out_size[-1] < 1:
            raise ValueError(f"{name}: a window of {d * (k - 1) + 1} pixels does not fit into {i} pixels and a "
                             f"padding of {p}; use a smaller kernel_size or dilation")
    return windows, (out_size[0], out_size[1])


def check_map(name: str, input: Tensor) -> None:
    """Raise ``TypeError`` unless the input holds floats, ``ValueError`` unless it is (N, C, H, W) with H, W >= 1."""
    check_floats(name, input=input)
    if input.ndim != 4 or 0 in input.shape[2:]:
        raise ValueError(f"{name}: input must be (N, C, H, W) with at least one pixel, got {input.shape}")
