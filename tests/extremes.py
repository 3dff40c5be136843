"""How many digits an operation keeps, from 1e-38 to 3e38: its results and gradients against a careful computation.

A ``Trial`` is one call in float32 or float16 with what should come out of it, and the size of the terms that it is a
sum of. ``TRIALS[op name](dtype)`` yields those of an op. The reference is one of three:

- elementwise functions: Python's ``math`` on float64, with formulas that lose nothing there (``log1p``, ``exp(-|x|)``);
- sums of products and choices of elements (convolution, pooling, padding, ...): the op itself in float64, held against
  plain loops and finite differences by the other checks. Its formula has no step that cancels but the sum itself;
- softmax, losses, normalisation: the definition in ``fsum`` and ``longdouble``, in ``extremes_reference.py``.

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
from minicv import Tensor
from minicv.ops.case import Case
from minicv.ops.interpolate import interpolate_loop
from minicv.ops.roi import roi_align_loop
from tests import extremes_reference as reference
from tests import harness

LIMITS = {"float32": 1e-5, "float16": 2e-3}  # 84 roundings; 2 units in the last place
REASONS: dict[tuple[str, str, str], str] = {}  # (op, dtype, "forward" or "gradient"): why a line exceeds its limit


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
# Sums and choices: the op in float64
# ---------------------------------------------------------------------------------------------------------
SCALES = {  # of the first input, of the others, of the upstream gradient
    "float32": [(1, 1, 1), (1e-38, 1, 1), (1e-30, 1, 1), (1e30, 1, 1), (1e38, 1, 1), (1, 1, 1e-30), (1, 1, 1e30),
                (1e-30, 1e30, 1), (1e30, 1e-30, 1), (1, 1e-30, 1e30), (1, 1e30, 1e-30)],
    "float16": [(1, 1, 1), (1e-4, 1, 1), (2e4, 1, 1), (1, 1, 1e-4), (1, 1, 1e4), (2e4, 1e-4, 1), (1, 1e-4, 1e4)]}
SUMS = {"add", "sub", "mul", "neg", "sum", "mean", "matmul", "linear", "conv2d", "conv_transpose2d", "avg_pool2d",
        "adaptive_avg_pool2d", "interpolate", "roi_align", "nll_loss", "dropout", "dropout2d", "expand"}


def scaled(case: Case, dtype: str, scales: tuple) -> Trial:
    """A case of the op with its inputs multiplied, against float64."""
    with np.errstate(over="ignore"):
        arrays, first = [], True
        for a in case.arrays():
            if harness.is_float(a):
                a, first = (a * scales[0 if first else 1]).astype(dtype), False
            arrays.append(a)

        def upstream(y):
            return np.asarray(scales[2] * harness.random_like(np.asarray(y, float)), dtype).astype(float)
        actual, _ = run(case.run, arrays, dtype, upstream)
        exact = [a.astype(float) if harness.is_float(a) else a for a in arrays]
        expected, _ = run(case.run, exact, "float64", upstream)
        positive = [abs(a) if harness.is_float(a) and case.name in SUMS else a for a in exact]
        terms, _ = run(case.run, positive, "float64", lambda y: abs(upstream(y)))
    if case.name not in SUMS:
        terms[0] = np.zeros_like(terms[0])
    at = f"{case.label}, inputs x {scales[0]:g} and {scales[1]:g}, upstream x {scales[2]:g}"
    return Trial(at, dtype, actual, expected, [abs(t) for t in terms])


def from_cases(name: str) -> Callable[[str], Iterator[Trial]]:
    """Trials of every case of an op with floats in it."""
    def trials(dtype):
        for case in CASES[name]:
            yield from (scaled(case, dtype, scales) for scales in SCALES[dtype])
    return trials


CASES: dict[str, list[Case]] = {}
for _case in harness.CASES:
    CASES.setdefault(_case.name, []).append(_case)


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
# Normalisation
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


# ---------------------------------------------------------------------------------------------------------
# Sums of many numbers, means whose sum overflows, positions far from 0
# ---------------------------------------------------------------------------------------------------------
MANY = 1 << 18


def many(op: Callable, call: Callable, arrays: list, dtype: str, at: str) -> Trial:
    """A call with many numbers, against float64 and the sums of absolute values."""
    actual, _ = run(call, arrays, dtype)
    exact = [a.astype(float) if harness.is_float(a) else a for a in arrays]
    expected, _ = run(call, exact, "float64")
    terms, _ = run(call, [abs(a) for a in exact], "float64")
    return Trial(at, dtype, actual, expected, [abs(t) for t in terms])


def tenths(*shape: int, dtype: str, order=None) -> np.ndarray:
    """0.1 everywhere: each addition rounds the same way, the worst that can happen to a sum."""
    a = np.full(shape if order is None else [shape[i] for i in order], 0.1, dtype)
    return a if order is None else a.transpose(np.argsort(order))


def long_sums(dtype):
    """{op name: trials} of the ops that add up many numbers."""
    def t(*shape, order=None):
        return tenths(*shape, dtype=dtype, order=order)
    if dtype == "float16":
        t16 = t
        return {
            "sum": [many(F.sum, lambda x: F.sum(x, 0), [t16(5000, 3)], dtype, "5000 rows of 0.1")],
            "mean": [many(F.mean, F.mean, [t16(MANY)], dtype, f"{MANY} times 0.1"),
                     many(F.mean, lambda x: F.mean(x, 0), [t16(MANY // 4, 3)], dtype, f"{MANY // 4} rows of 0.1")],
            "add": [many(F.add, lambda a, b: F.mean(a + b), [t16(5000, 3), t16(3)], dtype, "5000 rows + one")],
            "linear": [many(F.linear, F.linear, [t16(5000, 4), t16(3, 4), t16(3)], dtype, "5000 rows")],
            "mse_loss": [many(F.mse_loss, F.mse_loss, [t16(MANY) * 2, t16(MANY)], dtype, f"mean of {MANY}")]}
    rows, image, last = MANY, (4, 3, 128, 128), (0, 2, 3, 1)
    w = t(2, 3, 3, 3)
    return {
        "sum": [many(F.sum, lambda x: F.sum(x, 0), [t(rows, 4)], dtype, f"{rows} rows of 0.1"),
                many(F.sum, lambda x: F.sum(x, (0, 2, 3)), [t(*image)], dtype, "channels of images"),
                many(F.sum, lambda x: F.sum(x, (0, 2, 3)), [t(*image, order=last)], dtype, "channels, channels-last"),
                many(F.sum, lambda x: F.sum(x, (0, 2)), [t(500, 300, 3)], dtype, "first and last axis")],
        "mean": [many(F.mean, lambda x: F.mean(x, 0), [t(rows, 3)], dtype, f"{rows} rows of 0.1"),
                 many(F.mean, F.mean, [np.full(1000, 3e38, dtype)], dtype, "1000 times 3e38")],
        "add": [many(F.add, F.add, [t(rows, 3), t(3)], dtype, f"{rows} rows + one")],
        "mul": [many(F.mul, F.mul, [t(rows, 3), t(3)], dtype, f"{rows} rows x one")],
        "expand": [many(F.expand, lambda x: F.expand(x, (rows, 3)), [t(1, 3)], dtype, f"to {rows} rows")],
        "linear": [many(F.linear, F.linear, [t(rows, 4), t(3, 4), t(3)], dtype, f"{rows} rows")],
        "matmul": [many(F.matmul, F.matmul, [t(4, rows), t(rows, 3)], dtype, f"{rows} products")],
        "conv2d": [many(F.conv2d, F.conv2d, [t(*image), w, t(2)], dtype, "4 images of 128x128")],
        "conv_transpose2d": [many(F.conv_transpose2d, F.conv_transpose2d, [t(4, 2, 128, 128), w, t(3)], dtype,
                                  "4 images of 128x128")],
        "avg_pool2d": [many(F.avg_pool2d, lambda x: F.avg_pool2d(x, 400), [t(1, 2, 400, 400)], dtype, "one window"),
                       many(F.avg_pool2d, lambda x: F.avg_pool2d(x, 2), [np.full((1, 1, 4, 4), 3e38, dtype)], dtype,
                            "3e38")],
        "adaptive_avg_pool2d": [
            many(F.adaptive_avg_pool2d, lambda x: F.adaptive_avg_pool2d(x, 1), [t(1, 2, 500, 500)], dtype, "one bin"),
            many(F.adaptive_avg_pool2d, lambda x: F.adaptive_avg_pool2d(x, 1), [t(1, 2, 500, 500, order=last)], dtype,
                 "one bin, channels-last"),
            many(F.adaptive_avg_pool2d, lambda x: F.adaptive_avg_pool2d(x, 2), [np.full((1, 1, 4, 4), 3e38, dtype)],
                 dtype, "3e38")],
        "mse_loss": [many(F.mse_loss, F.mse_loss, [np.full(1000, v, dtype), np.zeros(1000, dtype)], dtype,
                          f"mean of 1000 times {v:g}^2") for v in (1.5e19, 1e-15)]
        + [many(F.mse_loss, F.mse_loss, [np.array([2e19] + [0] * 999, dtype), np.zeros(1000, dtype)], dtype,
                "mean of one 2e19^2 among 1000")],
        "smooth_l1_loss": [many(F.smooth_l1_loss, F.smooth_l1_loss, [np.full(1000, 3e38, dtype), np.zeros(1000, dtype)],
                                dtype, "mean of 1000 times 3e38")],
        "hinge_loss": [many(F.hinge_loss, lambda x: F.hinge_loss(x, np.full(1000, -1.0)), [np.full(1000, 3e38, dtype)],
                            dtype, "mean of 1000 times 3e38")],
        "cross_entropy": [many(F.cross_entropy, lambda x: F.cross_entropy(x, np.zeros(1000, int)),
                               [np.tile(np.array([[0, 3e38]], dtype), (1000, 1))], dtype, "mean of 1000 times 3e38")]}


def far_away(dtype):
    """{op name: trials} where positions are thousands of pixels from 0, on numbers that change sign at every pixel."""
    x = np.where(np.arange(5000) % 2, 1.0, -1.0).reshape(1, 1, 1, 5000).astype(dtype)
    trials = {}
    for corners in (False, True):
        options = dict(size=(1, 7001), mode="bilinear", align_corners=corners)
        actual, _ = run(lambda x, o=options: F.interpolate(x, **o), [x], dtype)
        expected = interpolate_loop(x.astype(float), **options)
        trials.setdefault("interpolate", []).append(
            Trial(f"5000 to 7001 pixels, corners {corners}", dtype, actual[:1], [expected], [np.ones_like(expected)]))
    boxes = np.array([[0, 4000.3, 0, 4003.7, 0.9], [0, 4990.1, 0.1, 4991.3, 0.8]]).astype(np.float32)
    for options in (dict(aligned=True), dict(aligned=False), dict(sampling_ratio=2, aligned=True),
                    dict(spatial_scale=0.3, aligned=True)):
        x2 = np.concatenate([x, x], axis=2)
        actual, _ = run(lambda x, o=options: F.roi_align(x, boxes, (2, 3), **o), [x2], dtype)
        expected = roi_align_loop(x2.astype(float), boxes.astype(float), (2, 3), **options)
        trials.setdefault("roi_align", []).append(
            Trial(f"box at x = 4000.3, {options}", dtype, actual[:1], [expected], [np.ones_like(expected)]))
    return trials
