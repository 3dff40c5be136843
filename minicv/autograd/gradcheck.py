"""Gradient checks: is ``backward`` the derivative of ``forward``?

For a random cotangent c the function L(x) = sum(c * f(x)) is a number, and backward(c) claims to be its gradient.
Central differences, (L(x + h e) - L(x - h e)) / 2h, give the same with an error of order h^2. A cotangent of ones would
be blind: the sum over a softmax is 1 whatever its input, so a backward of zeros would pass.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import backend
from .function import no_grad
from .tensor import Tensor

STEP = 1e-6
TOLERANCE = 1e-6  # in float64 the two errors, h^2 and rounding / h, both stay near 1e-9
KINK = 1e-4  # one-sided slopes of a smooth function differ by about h; of a kink, by its size


@dataclass
class GradcheckResult:
    """``verdict`` is ok, kink or WRONG; ``error`` the largest relative error where the function is smooth."""

    verdict: str
    error: float
    detail: str = ""

    def __bool__(self) -> bool:
        return self.verdict != "WRONG"


def gradcheck(f: Callable[..., Tensor], inputs: list[np.ndarray], seed: int = 0, coordinates: int = 200,
              directions: int = 8) -> GradcheckResult:
    """Compare ``f``'s backward with central differences at the given float64 arrays.

    Inputs of up to ``coordinates`` elements are checked one coordinate at a time, larger ones along as many random
    directions as ``directions`` says. A point where the slopes from the left and from the right differ is a kink: there
    backward must lie between the two, and the verdict says "kink". Anything else that differs is WRONG.

    Raises ``TypeError`` for inputs that are not float64 (differences of float32 drown in rounding).
    """
    for i, x in enumerate(inputs):
        if x.dtype != np.float64:
            raise TypeError(f"gradcheck(inputs): input {i} has dtype {x.dtype}; gradient checks need float64")
    rng = np.random.default_rng(seed)
    leaves = [Tensor(x, requires_grad=True) for x in inputs]
    y = f(*leaves)
    cotangent = rng.standard_normal(y.shape)
    y.backward(backend.to_device(cotangent, y.device))

    @no_grad()
    def loss(changed: int, x: np.ndarray) -> np.ndarray:
        arguments = [Tensor(backend.to_device(x, leaf.device) if i == changed else leaf.data)
                     for i, leaf in enumerate(leaves)]
        return cotangent * f(*arguments).numpy()

    worst, kinks, detail = 0.0, 0, ""
    for i, x in enumerate(inputs):
        if x.size == 0:
            continue
        analytic = np.zeros(x.shape) if leaves[i].grad is None else backend.to_numpy(leaves[i].grad)
        x = backend.to_numpy(x)
        if x.size <= coordinates:
            steps = np.eye(x.size).reshape(x.size, *x.shape)
        else:
            steps = rng.standard_normal((directions, *x.shape))
        middle = loss(i, x)
        slopes = []  # analytic, central, from the left, from the right
        for e in steps:
            left, right = loss(i, x - STEP * e), loss(i, x + STEP * e)
            slopes.append([np.sum(analytic * e), np.sum(right - left) / (2 * STEP),
                           np.sum(middle - left) / STEP, np.sum(right - middle) / STEP])
        a, central, left, right = np.array(slopes).T
        scale = np.maximum(np.maximum(abs(a), abs(central)), np.sqrt(np.mean(central ** 2)) + 1e-12)
        error = abs(a - central) / scale
        kink = abs(right - left) / scale > KINK
        between = (a >= np.minimum(left, right) - KINK * scale) & (a <= np.maximum(left, right) + KINK * scale)
        wrong = np.where(kink, ~between, error > TOLERANCE)
        kinks += int(kink.sum())
        worst = max(worst, float(np.max(error, where=~kink, initial=0.0)))
        if wrong.any() and not detail:
            j = int(np.argmax(wrong))
            where = f"coordinate {np.unravel_index(j, x.shape)}" if x.size <= coordinates else f"direction {j}"
            where = where.replace("np.int64(", "").replace("),", ",").replace("))", ")")
            detail = f"input {i}, {where}: backward says {a[j]:.6g}, differences say {central[j]:.6g}"
    if detail:
        return GradcheckResult("WRONG", worst, detail)
    return GradcheckResult("kink", worst, f"{kinks} kinks") if kinks else GradcheckResult("ok", worst)
