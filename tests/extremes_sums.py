"""Trials of sums and of choices: every case of an op at several scales; sums of many numbers; positions far from 0.

The reference is the op itself in float64. Its terms, where it is a sum, are what it makes of absolute values.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

import minicv.ops as F
from minicv.ops.case import Case
from minicv.ops.interpolate import interpolate_loop
from minicv.ops.roi import roi_align_loop
from tests import harness
from tests.extremes_trial import Trial, run

SCALES = {  # of the first input, of the others, of the upstream gradient
    "float32": [(1, 1, 1), (1e-38, 1, 1), (1e-30, 1, 1), (1e30, 1, 1), (1e38, 1, 1), (1, 1, 1e-30), (1, 1, 1e30),
                (1e-30, 1e30, 1), (1e30, 1e-30, 1), (1, 1e-30, 1e30), (1, 1e30, 1e-30)],
    "float16": [(1, 1, 1), (1e-4, 1, 1), (2e4, 1, 1), (1, 1, 1e-4), (1, 1, 1e4), (2e4, 1e-4, 1), (1, 1e-4, 1e4)]}
SUMS = {"add", "sub", "mul", "neg", "sum", "mean", "matmul", "linear", "conv2d", "conv_transpose2d", "avg_pool2d",
        "adaptive_avg_pool2d", "interpolate", "roi_align", "nll_loss", "dropout", "dropout2d", "expand"}


CASES: dict[str, list[Case]] = {}
for _case in harness.CASES:
    CASES.setdefault(_case.name, []).append(_case)


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
            large = sum(a.size for a in case.arrays() if a is not None) > harness.LARGE
            yield from (scaled(case, dtype, scales) for scales in SCALES[dtype][:4 if large else None])
    return trials


# ---------------------------------------------------------------------------------------------------------
# Sums of many numbers, means whose sum overflows, positions far from 0
# ---------------------------------------------------------------------------------------------------------
MANY = 1 << 18


def many(call: Callable, arrays: list, dtype: str, at: str) -> Trial:
    """A call with many numbers, against float64 and the sums of absolute values."""
    actual, _ = run(call, arrays, dtype)
    exact = [a.astype(float) if harness.is_float(a) else a for a in arrays]
    expected, _ = run(call, exact, "float64")
    terms, _ = run(call, [abs(a) for a in exact], "float64")
    return Trial(at, dtype, actual, expected, [abs(t) for t in terms])


def later(*arguments) -> Callable[[], Trial]:
    return functools.partial(many, *arguments)


def tenths(*shape: int, dtype: str, order=None) -> np.ndarray:
    """0.1 everywhere: each addition rounds the same way, the worst that can happen to a sum."""
    a = np.full(shape if order is None else [shape[i] for i in order], 0.1, dtype)
    return a if order is None else a.transpose(np.argsort(order))


@functools.cache
def long_sums(dtype: str) -> dict[str, list[Callable[[], Trial]]]:
    """{op name: functions that make a trial} of the ops that add up many numbers."""
    def t(*shape, order=None):
        return tenths(*shape, dtype=dtype, order=order)
    if dtype == "float16":
        t16 = t
        return {
            "sum": [later(lambda x: F.sum(x, 0), [t16(5000, 3)], dtype, "5000 rows of 0.1")],
            "mean": [later(F.mean, [t16(MANY)], dtype, f"{MANY} times 0.1"),
                     later(lambda x: F.mean(x, 0), [t16(MANY // 4, 3)], dtype, f"{MANY // 4} rows of 0.1")],
            "add": [later(lambda a, b: F.mean(a + b), [t16(5000, 3), t16(3)], dtype, "5000 rows + one")],
            "linear": [later(F.linear, [t16(5000, 4), t16(3, 4), t16(3)], dtype, "5000 rows")],
            "mse_loss": [later(F.mse_loss, [t16(MANY) * 2, t16(MANY)], dtype, f"mean of {MANY}")]}
    rows, image, last = MANY, (4, 3, 128, 128), (0, 2, 3, 1)
    w = t(2, 3, 3, 3)
    return {
        "sum": [later(lambda x: F.sum(x, 0), [t(rows, 4)], dtype, f"{rows} rows of 0.1"),
                later(lambda x: F.sum(x, (0, 2, 3)), [t(*image)], dtype, "channels of images"),
                later(lambda x: F.sum(x, (0, 2, 3)), [t(*image, order=last)], dtype, "channels, channels-last"),
                later(lambda x: F.sum(x, (0, 2)), [t(500, 300, 3)], dtype, "first and last axis")],
        "mean": [later(lambda x: F.mean(x, 0), [t(rows, 3)], dtype, f"{rows} rows of 0.1"),
                 later(F.mean, [np.full(1000, 3e38, dtype)], dtype, "1000 times 3e38")],
        "add": [later(F.add, [t(rows, 3), t(3)], dtype, f"{rows} rows + one")],
        "mul": [later(F.mul, [t(rows, 3), t(3)], dtype, f"{rows} rows x one")],
        "expand": [later(lambda x: F.expand(x, (rows, 3)), [t(1, 3)], dtype, f"to {rows} rows")],
        "linear": [later(F.linear, [t(rows, 4), t(3, 4), t(3)], dtype, f"{rows} rows")],
        "matmul": [later(F.matmul, [t(4, rows), t(rows, 3)], dtype, f"{rows} products")],
        "conv2d": [later(F.conv2d, [t(*image), w, t(2)], dtype, "4 images of 128x128")],
        "conv_transpose2d": [later(F.conv_transpose2d, [t(4, 2, 128, 128), w, t(3)], dtype,
                                  "4 images of 128x128")],
        "avg_pool2d": [later(lambda x: F.avg_pool2d(x, 400), [t(1, 2, 400, 400)], dtype, "one window"),
                       later(lambda x: F.avg_pool2d(x, 2), [np.full((1, 1, 4, 4), 3e38, dtype)], dtype,
                            "3e38")],
        "adaptive_avg_pool2d": [
            later(lambda x: F.adaptive_avg_pool2d(x, 1), [t(1, 2, 500, 500)], dtype, "one bin"),
            later(lambda x: F.adaptive_avg_pool2d(x, 1), [t(1, 2, 500, 500, order=last)], dtype,
                 "one bin, channels-last"),
            later(lambda x: F.adaptive_avg_pool2d(x, 2), [np.full((1, 1, 4, 4), 3e38, dtype)],
                 dtype, "3e38")],
        "mse_loss": [later(F.mse_loss, [np.full(1000, v, dtype), np.zeros(1000, dtype)], dtype,
                          f"mean of 1000 times {v:g}^2") for v in (1.5e19, 1e-15)]
        + [later(F.mse_loss, [np.array([2e19] + [0] * 999, dtype), np.zeros(1000, dtype)], dtype,
                "mean of one 2e19^2 among 1000")],
        "smooth_l1_loss": [later(F.smooth_l1_loss, [np.full(1000, 3e38, dtype), np.zeros(1000, dtype)],
                                dtype, "mean of 1000 times 3e38")],
        "hinge_loss": [later(lambda x: F.hinge_loss(x, np.full(1000, -1.0)), [np.full(1000, 3e38, dtype)],
                            dtype, "mean of 1000 times 3e38")],
        "cross_entropy": [later(lambda x: F.cross_entropy(x, np.zeros(1000, int)),
                               [np.tile(np.array([[0, 3e38]], dtype), (1000, 1))], dtype, "mean of 1000 times 3e38")]}


@functools.cache
def far_away(dtype: str) -> dict[str, list[Trial]]:
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
