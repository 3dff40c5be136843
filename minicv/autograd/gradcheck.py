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
ROUNDING = 1e-9  # of differences of numbers of size 1: a few times 2e-16 / h
Step = dict[int, np.ndarray]  # number of an input -> the direction in which it moves


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

    An input of up to ``coordinates`` elements is checked one coordinate at a time, a larger one along ``directions``
    random directions. Then all inputs move together: once all elements by the same amount, which keeps ties, so that
    the shares of tied elements must add up, and again in random directions. A point where the slopes from the left and
    from the right differ is a kink: there backward must lie between the two, and the verdict is "kink". Any other
    difference, and NaN, is WRONG.

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

    points = [backend.to_numpy(x) for x in inputs]
    gradients = [np.zeros(x.shape) if t.grad is None else backend.to_numpy(t.grad)
                 for x, t in zip(points, leaves, strict=True)]

    @no_grad()
    def loss(h: float, step: Step) -> np.ndarray:
        moved = [x + h * step[i] if i in step else x for i, x in enumerate(points)]
        return cotangent * f(*(Tensor(backend.to_device(x, y.device)) for x in moved)).numpy()

    middle = loss(0.0, {})
    floor = ROUNDING / TOLERANCE * np.linalg.norm(middle)
    worst, kinks, detail = 0.0, 0, ""
    for what, names, steps in step_groups(points, rng, coordinates, directions):
        backward = np.array([sum(np.sum(gradients[i] * e) for i, e in step.items()) for step in steps])
        central, slack = np.array([slope(loss, step, middle) for step in steps]).T
        typical = np.sqrt(np.mean(central ** 2))
        scale = np.maximum(np.maximum(abs(backward), abs(central)), max(typical, floor, 1e-300))
        error = abs(backward - central) / scale
        kink = slack > KINK * scale
        wrong = ~np.where(kink, abs(backward - central) <= slack + KINK * scale, error <= TOLERANCE)
        kinks += int(kink.sum())
        worst = max(worst, float(np.max(error, where=~kink, initial=0.0)))
        if wrong.any() and not detail:
            j = int(np.argmax(wrong))
            detail = (f"{what}, {names[j] if names else f'direction {j}'}: backward says {backward[j]:.6g}, "
                      f"differences say {central[j]:.6g}")
    if detail:
        return GradcheckResult("WRONG", worst, detail)
    return GradcheckResult("kink", worst, f"{kinks} kinks") if kinks else GradcheckResult("ok", worst)


def step_groups(points: list[np.ndarray], rng: np.random.Generator, coordinates: int,
                directions: int) -> list[tuple[str, list[str] | None, list[Step]]]:
    """For each input, and for all together: what moves, the names of its steps or None, and the steps."""
    def random_step(chosen: list[int]) -> Step:
        return {i: rng.standard_normal(points[i].shape) for i in chosen}

    groups: list[tuple[str, list[str] | None, list[Step]]] = []
    full = [i for i, x in enumerate(points) if x.size]
    for i in full:
        x = points[i]
        if x.size <= coordinates:
            unit = np.eye(x.size).reshape(x.size, *x.shape)
            places = [f"coordinate {place}" for place in np.ndindex(x.shape)]
            groups.append((f"input {i}", places, [{i: e} for e in unit]))
        else:
            groups.append((f"input {i}", None, [random_step([i]) for _ in range(directions)]))
    if full:
        together = [{i: np.ones(points[i].shape) for i in full}] + [random_step(full) for _ in range(directions)]
        groups.append(("all inputs", None, together))
    return groups


def slope(loss: Callable[[float, Step], np.ndarray], step: Step, middle: np.ndarray) -> tuple[float, float]:
    """The loss's slope along a step, by central differences, and how far backward may lie from it because of kinks."""
    left, right = loss(-STEP, step), loss(STEP, step)
    jumps = abs(left + right - 2 * middle) / STEP  # of each output's slope, left against right
    smooth = KINK * np.max(abs(right - left), initial=0.0) / (2 * STEP) + 10 * ROUNDING * abs(middle)
    return float(np.sum(right - left) / (2 * STEP)), float(np.sum(jumps, where=jumps > smooth) / 2)
