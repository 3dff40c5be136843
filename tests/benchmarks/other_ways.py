"""Two usual ways to convolve with NumPy, to measure minicv's against: im2col and tensordot over windows.

im2col copies every window of the batch into a row of one matrix and takes one product. tensordot over windows makes the
same windows as a view, and leaves it to NumPy to copy them. Both scatter the columns' gradient back tap by tap.
"""
from __future__ import annotations

import sys

import numpy as np

from .ops import numbers, shapes
from .rounds import serve


def pair(value) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def windows(x: np.ndarray, kernel, stride: int = 1, padding: int = 0, dilation: int = 1) -> np.ndarray:
    """The view (N, C, OH, OW, KH, KW) of x (N, C, H, W)."""
    (kh, kw), p, d, s = kernel, padding, dilation, stride
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    view = np.lib.stride_tricks.sliding_window_view(x, (d * (kh - 1) + 1, d * (kw - 1) + 1), (2, 3))
    return view[:, :, ::s, ::s, ::d, ::d]


def fold(g: np.ndarray, shape, kernel, stride: int = 1, padding: int = 0, dilation: int = 1) -> np.ndarray:
    """The transpose of ``windows``: g (N, C, OH, OW, KH, KW) added up at the pixels it came from."""
    (n, c, h, w), (kh, kw), p, d, s = shape, kernel, padding, dilation, stride
    x = np.zeros((n, c, h + 2 * p, w + 2 * p), g.dtype)
    oh, ow = g.shape[2:4]
    for i in range(kh):
        for j in range(kw):
            x[:, :, d * i:d * i + s * oh:s, d * j:d * j + s * ow:s] += g[..., i, j]
    return x[:, :, p:p + h, p:p + w]


def im2col(x, weight, bias, gy=None, **how):
    """The convolution and, with gy, the three gradients."""
    (o, c, kh, kw), n = weight.shape, len(x)
    view = windows(x, (kh, kw), **how)
    oh, ow = view.shape[2:4]
    columns = view.transpose(0, 2, 3, 1, 4, 5).reshape(n * oh * ow, c * kh * kw)  # the copy
    y = (columns @ weight.reshape(o, -1).T + bias).reshape(n, oh, ow, o).transpose(0, 3, 1, 2)
    if gy is None:
        return y
    g = gy.transpose(0, 2, 3, 1).reshape(-1, o)  # (N*OH*OW, O)
    gw = (g.T @ columns).reshape(weight.shape)
    gx = (g @ weight.reshape(o, -1)).reshape(n, oh, ow, c, kh, kw).transpose(0, 3, 1, 2, 4, 5)
    return y, fold(gx, x.shape, (kh, kw), **how), gw, g.sum(axis=0)


def tensordot(x, weight, bias, gy=None, **how):
    """The convolution and, with gy, the three gradients."""
    kernel = weight.shape[2:]
    view = windows(x, kernel, **how)  # (N, C, OH, OW, KH, KW)
    y = np.tensordot(view, weight, ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2) + bias[:, None, None]
    if gy is None:
        return y
    gw = np.tensordot(gy, view, ((0, 2, 3), (0, 2, 3)))  # (O, C, KH, KW)
    gx = np.tensordot(gy, weight, (1, 0)).transpose(0, 3, 1, 2, 4, 5)  # (N, OH, OW, C, KH, KW) -> (N, C, OH, OW, ...)
    return y, fold(gx, x.shape, kernel, **how), gw, gy.sum(axis=(0, 2, 3))


WAYS = {"im2col": im2col, "tensordot": tensordot}


def setup(way):
    """For ``serve``: nothing for a case that this way does not do (groups, transposed convolutions)."""
    def make(case: dict) -> tuple[dict, dict]:
        how = {k: v for k, v in case.items() if k in ("stride", "padding", "dilation", "groups")}
        if case["op"] != "conv2d" or how.pop("groups", 1) > 1:
            return {}, {}
        x, weight, bias = (np.ascontiguousarray(numbers(s)) for s in shapes(case))
        y = way(x, weight, bias, **how)
        gy = np.ascontiguousarray(numbers(y.shape))
        return ({"forward": lambda: way(x, weight, bias, **how), "both": lambda: way(x, weight, bias, gy, **how)},
                {"size": float(abs(y).mean())})
    return make


def about() -> dict:
    """Return what this process computes with; fail unless that is NumPy alone."""
    others = [name for name in sys.modules if name == "torch" or name.startswith("minicv.ops")]
    if others:
        raise RuntimeError(f"the process of NumPy has imported {', '.join(others)}")
    return {"library": f"NumPy {np.__version__}"}


if __name__ == "__main__":
    serve(setup(WAYS[sys.argv[1]]), about)
