"""How many digits an operation keeps, from 1e-38 to 3e38: its results and gradients against a careful computation.

A ``Trial`` is one call in float32 or float16 with what should come out of it, and the size of the terms that it is a
sum of. ``TRIALS[op name](dtype)`` yields those of an op. The reference is one of three:

- elementwise functions: Python's ``math`` on float64, with formulas that lose nothing there (``log1p``, ``exp(-|x|)``);
- sums of products and choices of elements (convolution, pooling, padding, ...): the op itself in float64, held against
  plain loops and finite differences by the other checks. Its formula has no step that cancels but the sum itself;
- softmax, losses, normalization: the definition in ``fsum`` and ``longdouble``, in ``extremes_reference.py``.

The error of a number is measured against its terms: a sum of n numbers cannot be better than a rounding of the largest.
Below the smallest normal number there are fewer digits, so the error is measured against that number. Above the largest
one, infinity is right.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

import minicv.ops as F
from tests import extremes_reference as reference
from tests import harness
from tests.extremes_sums import CASES, far_away, from_cases, long_sums
from tests.extremes_trial import Trial, run

LIMITS = {"float32": 1e-5, "float16": 2e-3}  # 84 roundings; 2 units in the last place
REASONS: dict[tuple[str, str, str], str] = {}  # (op, dtype, "forward" or "gradient"): why a line exceeds its limit


# ---------------------------------------------------------------------------------------------------------
# Elementwise functions of one or two numbers
# ---------------------------------------------------------------------------------------------------------
SIDES = [1e-45, 1e-38, 1e-30, 1e-10, 1e-3, 0.5, 1.0, 3.0, 9.0, 12.0, 20.0, 50.0, 87.0, 90.0, 100.0, 1e10, 1e30, 3e38]
SIDES16 = [1e-7, 6.2e-5, 1e-3, 0.1, 0.5, 1.0, 3.0, 9.0, 12.0, 100.0, 250.0, 6e4]


def numbers(dtype: str, negative: bool = True, zero: bool = True) -> list[float]:
    sides = [float(np.dtype(dtype).type(v)) for v in (SIDES if dtype == "float32" else SIDES16)]
    return sides + [-v for v in sides] * negative + [0.0] * zero


def guarded(f: Callable) -> Callable:
    """f with infinity where Python raises: for overflow, and for division by 0."""
    def g(*values):
        try:
            return f(*values)
        except (OverflowError, ZeroDivisionError):
            return math.inf
    return g


def elementwise(op: Callable, f: Callable, slopes: list[Callable], dtype: str, columns: Iterable[tuple],
                label: str = "") -> Iterator[Trial]:
    """One trial per argument, so that the table can say where. A pair is (value, terms), where terms are larger."""
    for values in columns:
        arrays = [np.array([v], dtype) for v in values]
        exact = [float(a[0]) for a in arrays]
        actual, _ = run(op, arrays, dtype)
        pairs = [v if isinstance(v, tuple) else (v, 0.0) for v in (guarded(g)(*exact) for g in (f, *slopes))]
        yield Trial(label + ", ".join(f"{v:.5g}" for v in exact), dtype, actual[:len(pairs)],
                    [np.array([v]) for v, _ in pairs], [np.array([t]) for _, t in pairs])


def sigmoid(x: float) -> float:
    return math.exp(-max(-x, 0)) / (1 + math.exp(-abs(x))) if x < 0 else 1 / (1 + math.exp(-x))


def sigmoid_trials(dtype):
    return elementwise(F.sigmoid, sigmoid, [lambda x: sigmoid(x) * sigmoid(-x)], dtype, zip(numbers(dtype)))


def tanh_trials(dtype):
    def slope(x):
        e = math.exp(-2 * abs(x))
        return 4 * e / (1 + e) ** 2
    return elementwise(F.tanh, math.tanh, [slope], dtype, zip(numbers(dtype)))


def exp_trials(dtype):
    return elementwise(F.exp, math.exp, [math.exp], dtype, zip(numbers(dtype)))


def log_trials(dtype):
    near = [0.999, 1.001]
    return elementwise(F.log, math.log, [lambda x: 1 / x], dtype, zip(numbers(dtype, False, False) + near))


def sqrt_trials(dtype):
    return elementwise(F.sqrt, math.sqrt, [lambda x: 1 / (2 * math.sqrt(x))], dtype, zip(numbers(dtype, False)))


def pow_trials(dtype):
    for p in (0, 1, 2, 3, -1, -2, 0.5, -0.5, 1 / 3, 2.5):
        whole = p == int(p)
        yield from elementwise(lambda x, p=p: F.pow(x, p), lambda x, p=p: x ** p,
                               [lambda x, p=p: p * x ** (p - 1) if p else 0.0], dtype,
                               zip(numbers(dtype, whole, p >= 1 or p == 0)), f"p = {p:.3g}, x = ")


def div_trials(dtype):
    sides = numbers(dtype, zero=False)
    return elementwise(F.div, lambda a, b: a / b, [lambda a, b: 1 / b, lambda a, b: -(a / b) / b], dtype,
                       ((a, b) for a in sides for b in sides))


def bce_trials(dtype):
    def softplus(x):
        return math.log1p(math.exp(-abs(x))) + max(x, 0.0)
    for p in (None, 3.0):
        q = p or 1.0
        weight = None if p is None else np.array([p], dtype)
        for t in (0.0, 1.0, 0.25):
            def op(x, t=t, weight=weight):
                return F.binary_cross_entropy_with_logits(x, np.array([t], x.dtype), reduction="none",
                                                          pos_weight=weight)

            def slope(x, t=t, q=q):
                a, b = (1 - t) * sigmoid(x), q * t * sigmoid(-x)
                return a - b, a + b
            yield from elementwise(op, lambda x, t=t, q=q: q * t * softplus(-x) + (1 - t) * softplus(x), [slope], dtype,
                                   zip(numbers(dtype)), f"target {t}, pos_weight {p}, x = ")


def smooth_l1_trials(dtype):
    for beta in (1.0, 1 / 9, 0.0):
        def f(x, t, beta=beta):
            d = abs(x - t)
            return d * d / (2 * beta) if d < beta else d - beta / 2

        def slope(x, t, beta=beta):
            return (x - t) / beta if abs(x - t) < beta else float(np.sign(x - t))
        yield from elementwise(lambda x, t, beta=beta: F.smooth_l1_loss(x, t, "none", beta), f,
                               [slope, lambda x, t, s=slope: -s(x, t)], dtype,
                               ((x, t) for x in numbers(dtype) for t in (0.0, 1.0)), f"beta {beta:.3g}, x, t = ")


def mse_trials(dtype):
    yield from elementwise(lambda x, t: F.mse_loss(x, t, "none"), lambda x, t: (x - t) ** 2,
                           [lambda x, t: 2 * (x - t), lambda x, t: -2 * (x - t)], dtype,
                           ((x, t) for x in numbers(dtype) for t in (0.0, 1.0)))


def hinge_trials(dtype):
    for y in (1.0, -1.0):
        yield from elementwise(lambda x, y=y: F.hinge_loss(x, np.array([y], x.dtype), "none"),
                               lambda x, y=y: max(0.0, 1 - y * x), [lambda x, y=y: -y * (1 - y * x > 0)], dtype,
                               zip(numbers(dtype)), f"y = {y}, x = ")


# ---------------------------------------------------------------------------------------------------------
# Softmax and its loss
# ---------------------------------------------------------------------------------------------------------
SCORES = {
    "float32": [[0, 0, 0], [20, 0, -20], [90, 0, -90], [100, -100, 100], [1e30, 1e30, 1], [3e38, -3e38, 0],
                [1e-30, 2e-30, 0], [88.5, 88, -math.inf], [-math.inf, -math.inf, 0], [10000.5, 10000, 9990]],
    "float16": [[0, 0, 0], [9, 0, -9], [12, 0, -12], [6e4, 6e4, 1], [6e4, -6e4, 0], [1e-7, 0, 0], [-math.inf, 0, 1]]}
UPSTREAM = ([1.0, -2.0, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])


def vectors(op: Callable, definition: Callable, dtype: str) -> Iterator[Trial]:
    """Trials of softmax or its logarithm."""
    for x in SCORES[dtype]:
        array = np.array([x], dtype)
        for upstream in UPSTREAM:
            actual, gy = run(lambda x: op(x, 1), [array], dtype, lambda y, g=upstream: np.array([g]))
            y, gx, y_terms, gx_terms = definition(array[0].astype(float).tolist(), gy[0].tolist())
            yield Trial(f"{x}, upstream {upstream}", dtype, actual, [np.array([y]), np.array([gx])],
                        [np.array([y_terms]), np.array([gx_terms])])


def cross_entropy_trials(dtype):
    for x in SCORES[dtype]:
        array = np.array([x], dtype)
        for target in range(3):
            actual, _ = run(lambda x, t=target: F.cross_entropy(x, np.array([t]), reduction="none"), [array], dtype)
            loss, gx = reference.cross_entropy(array[0].astype(float).tolist(), target)
            yield Trial(f"{x}, target {target}", dtype, actual, [np.array([loss]), np.array([gx])],
                        [np.zeros(1), np.zeros((1, 3))])


# ---------------------------------------------------------------------------------------------------------
# Normalization
# ---------------------------------------------------------------------------------------------------------
COLUMNS = {  # (mean, deviation) of a channel
    "float32": [(0, 1), (1e4, 1), (1e6, 1), (-1e6, 1), (0, 1e-30), (1e-30, 1e-3), (0, 1e30), (1e30, 1e24), (0, 5e37)],
    "float16": [(0, 1), (1e3, 10), (0, 1e-4), (0, 1e4), (3e4, 1e3)]}


def channel(dtype: str, mean: float, deviation: float, pixels: int = 300) -> np.ndarray:
    """(pixels, 1): numbers that do not repeat a pattern."""
    return (mean + deviation * np.random.default_rng(2).standard_normal((pixels, 1))).astype(dtype)


def batch_norm_trials(dtype):
    w, b = np.array([1.5], dtype), np.array([0.25], dtype)
    for mean, deviation in COLUMNS[dtype]:
        x = channel(dtype, mean, deviation)
        actual, gy = run(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [x, w, b], dtype,
                         lambda y: harness.random_like(y))
        expected, terms = reference.batch_norm(x, w, b, gy)
        yield Trial(f"training, {mean:g} +- {deviation:g}", dtype, actual, expected, terms)
        where, var = np.array([mean], dtype), np.array([min(deviation ** 2, 1e38)]).astype("float32")
        with np.errstate(over="ignore"):
            var = var.astype(dtype)
        if not np.isfinite(var).all():
            continue
        actual, gy = run(lambda x, w, b, m=where, v=var: F.batch_norm(x, m.copy(), v.copy(), w, b), [x, w, b], dtype,
                         lambda y: harness.random_like(y))
        LONG = np.longdouble
        inverse = 1 / np.sqrt(LONG(var[0]) + LONG(1e-5))
        n, gy = (x.astype(LONG) - LONG(where[0])) * inverse, gy.astype(LONG)
        gw = [(n * gy).sum(axis=0), abs(n * gy).sum(axis=0)]
        yield Trial(f"evaluation, {mean:g} +- {deviation:g}", dtype, actual,
                    [n * LONG(w[0]) + LONG(b[0]), gy * LONG(w[0]) * inverse, gw[0], gy.sum(axis=0)],
                    [abs(n * LONG(w[0])) + LONG(b[0]), np.zeros_like(n), gw[1], abs(gy).sum(axis=0)])


def local_response_norm_trials(dtype):
    scales = [1e-30, 1e-3, 1, 1e4, 1e19, 1e25, 1e37] if dtype == "float32" else [1e-4, 1, 100, 1e4]
    options = dict(size=5, alpha=1e-4, beta=0.75, k=1.0)
    for scale in scales:
        x = (scale * np.random.default_rng(3).standard_normal((20, 8))).astype(dtype)
        actual, gy = run(lambda x: F.local_response_norm(x, **options), [x], dtype, lambda y: harness.random_like(y))
        expected, terms = reference.local_response_norm(x, gy, **options)
        yield Trial(f"numbers x {scale:g}", dtype, actual, expected, terms)


TRIALS: dict[str, Callable[[str], Iterator[Trial]]] = {name: from_cases(name) for name in CASES} | {
    "sigmoid": sigmoid_trials, "tanh": tanh_trials, "exp": exp_trials, "log": log_trials, "sqrt": sqrt_trials,
    "pow": pow_trials, "div": div_trials, "binary_cross_entropy_with_logits": bce_trials, "mse_loss": mse_trials,
    "smooth_l1_loss": smooth_l1_trials, "hinge_loss": hinge_trials, "cross_entropy": cross_entropy_trials,
    "softmax": lambda dtype: vectors(F.softmax, reference.softmax, dtype),
    "log_softmax": lambda dtype: vectors(F.log_softmax, reference.log_softmax, dtype),
    "batch_norm": batch_norm_trials, "local_response_norm": local_response_norm_trials}


@dataclass
class Line:
    """The largest errors of an op in a dtype, where they are, and the reason if they exceed the limit."""
    op: str
    dtype: str
    forward: tuple[float, str] = (0.0, "")
    gradient: tuple[float, str] = (0.0, "")

    def unexplained(self) -> list[str]:
        """What exceeds the limit without a reason."""
        return [f"{self.op} in {self.dtype}, {way}: {error:.1e} at {at}"
                for way, (error, at) in (("forward", self.forward), ("gradient", self.gradient))
                if error > LIMITS[self.dtype] and (self.op, self.dtype, way) not in REASONS]


def measure(op: str, dtype: str) -> Line:
    """All trials of an op in a dtype."""
    line = Line(op, dtype)
    for trial in [*TRIALS[op](dtype), *(make() for make in long_sums(dtype).get(op, [])), *far_away(dtype).get(op, [])]:
        forward, gradient = trial.errors()
        line.forward = max(line.forward, (forward, trial.at), key=lambda pair: pair[0])
        line.gradient = max(line.gradient, (gradient, trial.at), key=lambda pair: pair[0])
    return line
