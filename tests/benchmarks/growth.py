"""Measure how operations slow down with pixels, images and RoIs: ``python -m tests.benchmarks.growth [FIGURE]``.

Prints the exponent of a power law fitted to the times: 1 is linear. Draws all curves into FIGURE.
"""
from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import minicv  # before NumPy: it chooses the BLAS kernel

# isort: split
import numpy as np

import minicv.ops as F

from .ops import numbers
from .rounds import measure

CHANNELS = 16


def image(n: int, side: int) -> minicv.Tensor:
    return minicv.Tensor(numbers((n, CHANNELS, side, side)), requires_grad=True)


def boxes(count: int, side: int) -> minicv.Tensor:
    """(count, 5), about a quarter of the side large."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.7 * side, (count, 2))
    return minicv.Tensor(np.hstack([np.zeros((count, 1)), corner, corner + 0.25 * side]).astype(np.float32))


weight, depth_weight = numbers((CHANNELS, CHANNELS, 3, 3)), numbers((CHANNELS, 1, 3, 3))
ones, zeros = np.ones(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32)
OPS: dict[str, Callable] = {
    "conv2d": lambda x: F.conv2d(x, minicv.Tensor(weight), padding=1),
    "conv2d dilation 4": lambda x: F.conv2d(x, minicv.Tensor(weight), padding=4, dilation=4),
    "conv2d depthwise": lambda x: F.conv2d(x, minicv.Tensor(depth_weight), padding=1, groups=CHANNELS),
    "conv_transpose2d": lambda x: F.conv_transpose2d(x, minicv.Tensor(numbers((CHANNELS, 8, 2, 2))), stride=2),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "batch_norm": lambda x: F.batch_norm(x, zeros.copy(), ones.copy(), minicv.Tensor(ones), minicv.Tensor(zeros), True),
    "relu": F.relu,
    "interpolate": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
}
ROI_OPS: dict[str, Callable] = {
    "roi_pool": lambda x, b: F.roi_pool(x, b, 7),
    "roi_align": lambda x, b: F.roi_align(x, b, 7, sampling_ratio=2),
}
PIXELS = (96, 136, 192, 272, 384)  # sides: each twice the pixels of the one before
BATCHES = (2, 4, 8, 16, 32)
ROIS = (64, 128, 256, 512, 1024)


def time_of(f: Callable, *inputs: minicv.Tensor) -> float:
    """Milliseconds of forward + backward, the best of several."""
    gy = numbers(f(*inputs).shape)

    def call():
        inputs[0].grad = None
        f(*inputs).backward(gy)
    return min(measure(call))


def curves(say=print) -> dict[str, dict[str, tuple[tuple, list[float], float]]]:
    """{"pixels" | "images" | "RoIs": {op: (amounts, ms, exponent)}}"""
    found: dict[str, dict] = {"pixels": {}, "images": {}, "RoIs": {}}
    for name, f in OPS.items():
        found["pixels"][name] = (tuple(s * s for s in PIXELS), [time_of(f, image(4, side)) for side in PIXELS])
        found["images"][name] = (BATCHES, [time_of(f, image(n, 128)) for n in BATCHES])
    for name, f in ROI_OPS.items():
        found["RoIs"][name] = (ROIS, [time_of(f, image(1, 64), boxes(n, 64)) for n in ROIS])
    for against, ops in found.items():
        for name, (amounts, ms) in ops.items():
            exponent = float(np.polyfit(np.log(amounts), np.log(ms), 1)[0])
            ops[name] = (amounts, ms, exponent)
            say(f"{name:<20} against {against:<9} exponent {exponent:.2f}   {' '.join(f'{t:.2f}' for t in ms)} ms")
    return found


def draw(found: dict, path) -> None:
    """All curves, log-log, with the slope of linear growth in gray."""
    from minicv.viz import PALETTE
    from minicv.viz.pyplot import import_pyplot
    plt = import_pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 5.4), layout="constrained")
    for ax, (against, ops) in zip(axes, found.items(), strict=True):
        for i, (name, (amounts, ms, _)) in enumerate(ops.items()):
            ax.loglog(amounts, ms, color=PALETTE[i % len(PALETTE)] / 255, marker="osv^D"[i % 5], ms=4, lw=1, label=name)
        low = min(ms[0] for _, ms, _ in ops.values())
        amounts = np.array(next(iter(ops.values()))[0])
        ax.loglog(amounts, 0.6 * low * amounts / amounts[0], color="0.6", ls="--", label="linear")
        ax.set(xlabel=against, ylabel="forward + backward, ms", title=f"time against {against}")
        ax.set_xticks(amounts, map(str, amounts), rotation=30)
        ax.minorticks_off()
        ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.growth", description=__doc__)
    parser.add_argument("figure", nargs="?", metavar="FIGURE")
    parser.add_argument("--json", action="store_true", help="end with the exponents in JSON")
    args = parser.parse_args()
    found = curves()
    if args.figure:
        draw(found, args.figure)
    if args.json:
        print(json.dumps({against: {name: exponent for name, (*_, exponent) in ops.items()}
                          for against, ops in found.items()}))


if __name__ == "__main__":
    main()
