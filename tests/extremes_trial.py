"""One call of an operation, and how far it is from what should come out."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minicv import Tensor
from tests import harness


@dataclass
class Trial:
    """What came out of one call, what should have, and the terms' size; forward first, then each input's gradient."""
    at: str
    dtype: str
    actual: list
    expected: list
    terms: list

    def errors(self) -> tuple[float, float]:
        """The largest relative error of the result and of the gradients."""
        each = [relative_error(*arrays, self.dtype) for arrays in zip(self.actual, self.expected, self.terms,
                                                                      strict=True)]
        return each[0], max(each[1:], default=0.0)


def relative_error(actual, expected, terms, dtype: str) -> float:
    """The largest of |actual - expected| / terms."""
    info = np.finfo(dtype)
    a, e, t = (np.asarray(v, np.longdouble) for v in (actual, expected, terms))
    assert a.shape == e.shape, f"shape {a.shape}, expected {e.shape}"
    largest = np.longdouble(info.max)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum(np.maximum(abs(e), t), np.longdouble(info.tiny))
        error = abs(a - e) / np.where(np.isfinite(size), size, 1)
        error = np.where(np.isnan(error), np.inf, error)
        error = np.where((abs(e) > largest) & (a == np.copysign(np.inf, e)), 0, error)  # also infinity itself
        error = np.where(np.isnan(e) & np.isnan(a), 0, error)
        error = np.where(t > largest, 0, error)  # its terms are too large to be added up
    return float(error.max(initial=0))


def run(call: Callable, arrays: list, dtype: str, gy=None) -> tuple[list, object]:
    """[result, gradients of the float inputs] of a call on arrays, and the upstream gradient that it got."""
    tensors = [None if a is None else Tensor(a, harness.is_float(a)) for a in arrays]
    y = call(*tensors)
    y = y[0] if isinstance(y, tuple) else y
    gy = np.ones(y.shape, dtype) if gy is None else gy(y.data)
    if y.requires_grad:
        y.backward(np.asarray(gy, y.dtype))
    return [y.data] + [t.grad for t in tensors if t is not None and t.requires_grad], gy
