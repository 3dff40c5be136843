"""Compute float16 in float32.

float16 ends at 65504 and has 11 bits: a sum of squares overflows, and a mean of 5000 numbers keeps three bits. So every
operation that sums, or computes in several steps, is ``Float16Safe``: its float16 arguments become float32, and its
result is rounded once.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from .dtypes import AsType

HALF = np.dtype(np.float16)


def accumulation_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype to sum in: float32 for float16, else the dtype itself."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


class Float16Safe(Function):
    """A function that computes float16 in float32, forward and backward, and rounds each result once."""

    @classmethod
    def apply(cls, *inputs: Tensor | None, **options: Any) -> Any:
        dtypes = {x.data.dtype for x in inputs if isinstance(x, Tensor)}
        if HALF not in dtypes or any(d.kind == "f" and d != HALF for d in dtypes):  # float16 beside float32 is an error
            return super().apply(*inputs, **options)
        result = super().apply(*(AsType.apply(x, dtype=np.float32) if isinstance(x, Tensor) and x.dtype == HALF else x
                                 for x in inputs), **options)
        first, *others = result if isinstance(result, tuple) else (result,)
        first = AsType.apply(first, dtype=HALF)
        return (first, *others) if others else first
