"""Unpooling, quickly: channels-last, so that the next convolution need not turn the map around."""
from __future__ import annotations

import numpy as np

from ..backend import Array, xp_of
from ..ops.unpool import MaxUnpool2d, UnpoolBedOfNails, UnpoolNearest
from .layout import empty_nhwc, nhwc_view
from .windows import plane_places, scatter


class FastUnpoolNearest(UnpoolNearest):
    """y[h, w] = x[h // sh, w // sw]: every pixel fills a block"""

    def forward(ctx, x, *, scale):
        (N, C, H, W), (sh, sw) = x.shape, scale
        ctx.scale, y = scale, empty_nhwc(x, N, C, sh * H, sw * W)
        for i, j in np.ndindex(sh, sw):
            y[:, :, i::sh, j::sw] = x
        return y

    def backward(ctx, gy):  # the sum over each block
        sh, sw = ctx.scale
        gx = nhwc_view(gy[:, :, ::sh, ::sw]).copy()
        for i, j in list(np.ndindex(sh, sw))[1:]:
            gx += nhwc_view(gy[:, :, i::sh, j::sw])
        return gx.transpose(0, 3, 1, 2)


class FastUnpoolBedOfNails(UnpoolBedOfNails):
    """y[sh h, sw w] = x[h, w], zero elsewhere"""

    def forward(ctx, x, *, scale):
        (N, C, H, W), (sh, sw) = x.shape, scale
        ctx.scale, y = scale, xp_of(x).zeros((N, sh * H, sw * W, C), x.dtype)
        y[:, ::sh, ::sw] = nhwc_view(x)
        return y.transpose(0, 3, 1, 2)

    def backward(ctx, gy):  # the corner of each block
        sh, sw = ctx.scale
        return gy[:, :, ::sh, ::sw]


class FastMaxUnpool2d(MaxUnpool2d):
    """y[indices] = x, zero elsewhere; of several at one position the last"""

    def forward(ctx, x, indices, *, size):
        xp, X, position = xp_of(x), nhwc_view(x), xp_of(x).ascontiguousarray(nhwc_view(indices))
        ctx.save(position, latest(position, size[0] * size[1]))
        y = scatter(position, xp.where(ctx.saved[1], X, 0), size[0] * size[1])  # the others add 0
        return y.reshape(len(x), *size, x.shape[1]).transpose(0, 3, 1, 2)

    def backward(ctx, gy):  # gx = gy[indices], 0 for those that did not stay
        position, stays = ctx.saved
        xp, size = xp_of(gy), gy.shape[2] * gy.shape[3]
        gx = xp.take(xp.ascontiguousarray(nhwc_view(gy)).reshape(-1), plane_places(position, size))
        return xp.where(stays, gx, 0).transpose(0, 3, 1, 2), None


def latest(position: Array, size: int) -> Array:
    """True where no later (h, w) of position (N, h, w, C) has the same position in its plane."""
    xp, (N, h, w, C) = xp_of(position), position.shape
    number = xp.broadcast_to(xp.arange(1, h * w + 1, dtype=np.int32).reshape(1, h, w, 1), position.shape)
    places, number = plane_places(position, size).reshape(-1), number.reshape(-1)
    holds = xp.zeros(N * size * C, np.int32)
    xp.maximum.at(holds, places, number)
    return (xp.take(holds, places) == number).reshape(position.shape)
