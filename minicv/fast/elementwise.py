"""Elementwise operations, quickly: threads work through parts of the array, and make all passes over a part at once.

The array is cut into parts along its outermost axis in memory. A part is still in the core's cache when the second pass
over it begins:

    x:  | part 0 | part 1 | part 2 | part 3 |      thread A takes part 0, B part 1; whoever finishes takes the next

Addition, tanh and dropout take one pass over memory; threads gained little there.

Measured: ReLU 1.5, sigmoid 3.0 times as fast as pass by pass (``python -m tests.benchmarks.storeys``).
"""
from __future__ import annotations

import numpy as np

from ..backend import apply_mask, parallel_chunks, xp_of
from ..ops.activation import ReLU, Sigmoid


class FastReLU(ReLU):
    """y = max(x, 0)"""

    def forward(ctx, x):
        xp, y, positive = xp_of(x), xp_of(x).empty_like(x), xp_of(x).empty_like(x, dtype=bool)

        def work(x, y, positive):
            xp.maximum(x, 0, out=y)
            xp.not_equal(y, 0, out=positive)  # y > 0, or NaN
        parallel_chunks(work, x, y, positive)
        ctx.save(positive)
        return y

    def backward(ctx, gy):
        gx = xp_of(gy).empty_like(gy)
        parallel_chunks(apply_mask, gy, ctx.saved[0], gx)
        return gx


class FastSigmoid(Sigmoid):
    """y = s(x) = 1 / (1 + exp(-x)); the derivative is s(x) s(-x), since 1 - y loses all digits where y rounds to 1"""

    def forward(ctx, x):
        xp, y, slope = xp_of(x), xp_of(x).empty_like(x), xp_of(x).empty_like(x)

        def work(x, y, slope):
            e = xp.exp(xp.negative(x, out=slope), out=slope)
            xp.reciprocal(xp.add(e, 1, out=y), out=y)
            slope *= y  # exp(-x) s(x) is s(-x)
            slope *= y
            low = x < -80
            if type(x) is not np.ndarray or low.any():  # exp(-x) overflows below -88; there s(x) rounds to exp(x)
                y[...] = xp.where(low, xp.exp(x), y)
                slope[...] = xp.where(low, y, slope)
        parallel_chunks(work, x, y, slope)
        ctx.save(slope)
        return y

    def backward(ctx, gy):
        return gy * ctx.saved[0]
