"""What the fast storey gains: every fast class beside its plain one, ``python -m tests.benchmarks.storeys [NAME...]``.

Forward and backward in float32 on maps in channels-last memory, as networks have them, in milliseconds: the best of
several turns, plain and fast one after the other. A fast class is to be at least 1.3 times as fast.

``docs/how_it_is_fast.md`` shows this table: ``python -m tests.benchmarks.storeys > docs/storeys.txt`` replaces it.
``python -m tests.benchmarks.storeys shifted`` prints how many times as long convolutions take with shifted products.
"""
from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np

import minicv
import minicv.ops as F
from minicv import Tensor
from minicv.backend import workers
from minicv.fast import FAST, convolution
from tests.benchmarks.report import processor

ENOUGH = 1.3
RNG = np.random.default_rng(0)


def maps(N: int, C: int, H: int, W: int) -> np.ndarray:
    """Random maps (N, C, H, W), channels-last in memory."""
    return RNG.standard_normal((N, H, W, C), dtype=np.float32).transpose(0, 3, 1, 2)


def weight(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32) / 10


def boxes(R: int) -> np.ndarray:
    """(R, 5) boxes of 20 to 120 pixels in two images of 320."""
    x1, y1 = RNG.uniform(0, 200, (2, R))
    w, h = RNG.uniform(20, 120, (2, R))
    return np.stack([np.arange(R) % 2, x1, y1, x1 + w, y1 + h], axis=1).astype(np.float32)


X = maps(8, 64, 56, 56)
SCORES, LABELS = maps(4, 11, 128, 128), RNG.integers(0, 11, (4, 128, 128))
RUNNING = np.zeros(64, np.float32), np.ones(64, np.float32)
CASES: dict[str, list[tuple[str, Callable[..., Tensor], list[np.ndarray]]]] = {
    "Conv2d": [("3x3, 64 channels", lambda x, w: F.conv2d(x, w, padding=1), [X, weight(64, 64, 3, 3)]),
               ("1x1, 64 to 256", F.conv2d, [X, weight(256, 64, 1, 1)]),
               ("7x7, stride 2, 3 channels", lambda x, w: F.conv2d(x, w, stride=2, padding=3),
                [maps(4, 3, 224, 224), weight(64, 3, 7, 7)]),
               ("3x3, 512 channels, 7x7 maps", lambda x, w: F.conv2d(x, w, padding=1),
                [maps(8, 512, 7, 7), weight(512, 512, 3, 3)]),
               ("depthwise 3x3", lambda x, w: F.conv2d(x, w, padding=1, groups=64), [X, weight(64, 1, 3, 3)])],
    "ConvTranspose2d": [("2x2, stride 2", lambda x, w: F.conv_transpose2d(x, w, stride=2), [X, weight(64, 32, 2, 2)])],
    "MaxPool2d": [("2x2", lambda x: F.max_pool2d(x, 2), [X]),
                  ("3x3, stride 2", lambda x: F.max_pool2d(x, 3, 2, 1), [X])],
    "AvgPool2d": [("3x3, stride 1", lambda x: F.avg_pool2d(x, 3, 1, 1), [X])],
    "AdaptiveMaxPool2d": [("to 6x6", lambda x: F.adaptive_max_pool2d(x, 6), [X])],
    "AdaptiveAvgPool2d": [("to 6x6", lambda x: F.adaptive_avg_pool2d(x, 6), [X])],
    "UnpoolNearest": [("2x2", lambda x: F.unpool_nearest(x, 2), [maps(4, 64, 32, 32)])],
    "UnpoolBedOfNails": [("2x2", lambda x: F.unpool_bed_of_nails(x, 2), [maps(4, 64, 32, 32)])],
    "BatchNorm": [("training", lambda x, w, b: F.batch_norm(x, *RUNNING, w, b, training=True),
                   [X, weight(64), weight(64)])],
    "LocalResponseNorm": [("5 channels", lambda x: F.local_response_norm(x, 5), [X])],
    "Interpolate": [("twice as large", lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
                     [maps(4, 64, 32, 32)])],
    "Nearest": [("twice as large", lambda x: F.interpolate(x, scale_factor=2), [maps(4, 64, 32, 32)])],
    "RoIPool": [("128 boxes to 7x7", lambda x: F.roi_pool(x, BOXES, 7, 1 / 16), [maps(2, 256, 20, 20)])],
    "RoIAlign": [("128 boxes to 7x7", lambda x: F.roi_align(x, BOXES, 7, 1 / 16, 2, True), [maps(2, 256, 20, 20)])],
    "Softmax": [("11 classes", lambda x: F.softmax(x, 1), [SCORES])],
    "LogSoftmax": [("11 classes", lambda x: F.log_softmax(x, 1), [SCORES])],
    "CrossEntropy": [("11 classes", lambda x: F.cross_entropy(x, LABELS), [SCORES])],
    "ReLU": [("", F.relu, [X])],
    "Sigmoid": [("", F.sigmoid, [X])],
}
BOXES = boxes(128)


def milliseconds(f: Callable[..., Tensor], arrays: list[np.ndarray]) -> float:
    """One forward and backward."""
    inputs = [Tensor(a, requires_grad=True) for a in arrays]
    start = time.perf_counter()
    y = f(*inputs)
    y.backward(np.ones(y.shape, np.float32) if y.ndim else None)
    return 1e3 * (time.perf_counter() - start)


def compare(f: Callable[..., Tensor], arrays: list[np.ndarray], turns: int = 7) -> tuple[float, float]:
    """Plain and fast, the best of so many turns each."""
    best = {"plain": np.inf, "fast": np.inf}
    for _ in range(turns):
        for storey in best:
            with minicv.plain() if storey == "plain" else contextlib.nullcontext():
                best[storey] = min(best[storey], milliseconds(f, arrays))
    return best["plain"], best["fast"]


def against_shifted(turns: int = 25) -> None:
    """Print how many times as long shifted products take for a convolution that another method computes."""
    ways = {"own": convolution.choose_method, "shifted": lambda *_: convolution.shifted}
    for label, f, arrays in [*CASES["Conv2d"][:-1], *CASES["ConvTranspose2d"]]:  # depthwise weights have another layout
        best = dict.fromkeys(ways, np.inf)
        for _ in range(turns):
            for way, choose in ways.items():
                with mock.patch.object(convolution, "choose_method", choose):
                    best[way] = min(best[way], milliseconds(f, arrays))
        print(f"{label:<40}{best['shifted'] / best['own']:7.2f}", flush=True)


def main(names: list[str]) -> int:
    """Print the table; 1 if a class gains too little everywhere."""
    if names == ["shifted"]:
        against_shifted()
        return 0
    slow = []
    print(f"{datetime.date.today()}, {processor()}, {workers.num_threads()} threads, NumPy {np.__version__}\n")
    print(f"{'':<40}{'plain':>9}{'fast':>9}{'gain':>7}")
    for plain in FAST:
        if names and plain.__name__ not in names:
            continue
        gains = []
        for label, f, arrays in CASES[plain.__name__]:
            a, b = compare(f, arrays)
            gains.append(a / b)
            print(f"{plain.__name__ + (', ' + label if label else ''):<40}{a:9.2f}{b:9.2f}{a / b:7.2f}", flush=True)
        if max(gains) < ENOUGH:
            slow.append(plain.__name__)
    if slow:
        print(f"not {ENOUGH} times as fast as the plain one: {', '.join(slow)}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
