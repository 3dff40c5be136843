"""The operations against PyTorch on the CPU: ``python -m tests.benchmarks.ops [GROUP...]``.

Prints milliseconds, forward and forward + backward, side by side, and minicv's time as a multiple of PyTorch's: on
arrays in NCHW memory, as users have them, and in channels-last memory, as networks have them. "plain" is minicv's plain
storey, on channels-last arrays.
"""
from __future__ import annotations

import argparse
import math
import os
import sys
from functools import partial

from .rounds import Contender, compare, serve
from .steps import about_minicv, about_torch

# op, input shape, and whatever the op needs
GROUPS = {
    "conv3x3": [  # the shapes of the design document
        {"op": "conv2d", "x": (8, 16, 128, 128), "out": 16, "padding": 1},
        {"op": "conv2d", "x": (8, 32, 64, 64), "out": 32, "padding": 1},
        {"op": "conv2d", "x": (8, 64, 32, 32), "out": 64, "padding": 1},
        {"op": "conv2d", "x": (1, 64, 256, 256), "out": 64, "padding": 1},
    ],
    "conv": [
        {"op": "conv2d", "x": (8, 32, 64, 64), "out": 32, "padding": 1, "stride": 2},
        {"op": "conv2d", "x": (8, 32, 64, 64), "out": 32, "padding": 4, "dilation": 4},
        {"op": "conv2d", "x": (8, 64, 64, 64), "out": 64, "padding": 1, "groups": 64},
        {"op": "conv2d", "x": (8, 64, 32, 32), "out": 64, "kernel": 1},
        {"op": "conv_transpose2d", "x": (8, 64, 32, 32), "out": 32, "kernel": 2, "stride": 2},
    ],
    "elementwise": [
        {"op": "relu", "x": (8, 32, 128, 128)},
        {"op": "batch_norm", "x": (8, 32, 128, 128)},
        {"op": "batch_norm", "x": (8, 64, 32, 32)},
    ],
    "pool": [
        {"op": "max_pool2d", "x": (8, 32, 128, 128), "kernel_size": 2},
        {"op": "max_pool2d", "x": (8, 32, 128, 128), "kernel_size": 3, "stride": 2, "padding": 1},
        {"op": "avg_pool2d", "x": (8, 32, 128, 128), "kernel_size": 2},
    ],
    "bilinear": [
        {"op": "interpolate", "x": (8, 32, 64, 64), "scale_factor": 2, "mode": "bilinear"},
        {"op": "interpolate", "x": (8, 21, 16, 16), "scale_factor": 8, "mode": "bilinear"},
    ],
    "roi": [  # against PyTorch's own operations, all boxes at once: it has no such operation itself
        {"op": "roi_pool", "x": (2, 128, 32, 32), "boxes": 128, "output_size": 7},
        {"op": "roi_align", "x": (2, 128, 32, 32), "boxes": 128, "output_size": 7, "sampling_ratio": 2},
    ],
}


def text(case: dict) -> str:
    rest = " ".join(f"{k} {v}" for k, v in case.items() if k not in ("op", "x"))
    return f"{case['op']} {'x'.join(map(str, case['x']))} {rest}".strip()


def numbers(shape: tuple[int, ...], channels_last: bool = True):
    """Return seeded float32 values; those of images, and kernels, channels-last in memory if that is asked for."""
    import numpy as np
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    if len(shape) != 4 or not channels_last:
        return values
    return np.ascontiguousarray(values.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


def shapes(case: dict) -> list[tuple[int, ...]]:
    """The shapes of the case's inputs: x, and weight and bias where the op has them."""
    x, k = tuple(case["x"]), case.get("kernel", 3)
    if case["op"] == "conv2d":
        return [x, (case["out"], x[1] // case.get("groups", 1), k, k), (case["out"],)]
    if case["op"] == "conv_transpose2d":
        return [x, (x[1], case["out"], k, k), (case["out"],)]
    return [x, (x[1],), (x[1],)] if case["op"] == "batch_norm" else [x]


def boxes(case: dict):
    """Seeded boxes (R, 5) on the case's map, of 7 pixels to nearly all of it, float32."""
    import numpy as np
    (N, _, H, W), R, rng = case["x"], case["boxes"], np.random.default_rng(1)
    size = rng.uniform(7, (W - 3, H - 3), (R, 2))
    start = rng.uniform(0, 1, (R, 2)) * ((W - 2, H - 2) - size)
    return np.hstack([rng.integers(N, size=(R, 1)), start, start + size]).astype(np.float32)


def call(f, inputs: list, case: dict, boxes=None):
    """The op on its inputs; names and arguments are the same in both libraries."""
    if case["op"] == "batch_norm":
        return f(inputs[0], None, None, *inputs[1:], training=True)
    options = {k: v for k, v in case.items() if k not in ("op", "x", "out", "kernel", "boxes")}
    return f(*inputs, **options) if boxes is None else f(*inputs, boxes, **options)


def with_minicv(case: dict, channels_last: bool = True) -> tuple[dict, dict]:
    import minicv
    import minicv.ops as F
    inputs = [minicv.Tensor(numbers(s, channels_last), requires_grad=True) for s in shapes(case)]
    f, rois = getattr(F, case["op"]), boxes(case) if "boxes" in case else None

    def forward():
        with minicv.no_grad():
            return call(f, inputs, case, rois)
    y = forward()
    gy = numbers(y.shape, channels_last)

    def both():
        for t in inputs:
            t.grad = None
        call(f, inputs, case, rois).backward(gy)
    return {"forward": forward, "both": both}, {"size": float(abs(y.data).mean())}


def with_torch(case: dict, channels_last: bool = True) -> tuple[dict, dict]:
    import torch
    import torch.nn.functional as F

    from . import roi_torch
    inputs = [torch.from_numpy(numbers(s, channels_last)).requires_grad_() for s in shapes(case)]
    f = getattr(roi_torch if "boxes" in case else F, case["op"])
    rois = torch.from_numpy(boxes(case)) if "boxes" in case else None

    def forward():
        with torch.no_grad():
            return call(f, inputs, case, rois)
    y = forward()
    gy = torch.from_numpy(numbers(tuple(y.shape), channels_last))
    return ({"forward": forward, "both": lambda: torch.autograd.grad(call(f, inputs, case, rois), inputs, gy)},
            {"size": float(y.abs().mean())})


def start() -> dict[str, Contender]:
    here = "tests.benchmarks.ops"
    return {**{f"{library} {layout}": Contender(here, f"{library}-{layout}")
               for layout in ("NCHW", "channels-last") for library in ("torch", "minicv")},
            "plain": Contender(here, "minicv-plain", {"MINICV_PLAIN": "1"})}


def check(case: dict, facts: dict[str, dict]) -> None:
    """Raise ``RuntimeError`` unless all contenders computed the same result."""
    sizes = {name: found["size"] for name, found in facts.items() if found}
    expected = sizes["minicv NCHW"]
    if any(not abs(size - expected) <= 1e-4 * expected for size in sizes.values()):
        raise RuntimeError(f"{text(case)}: the mean sizes of the results differ: {sizes}")


def measure_case(contenders: dict[str, Contender], case: dict, rounds: int) -> dict[str, dict[str, float]]:
    """Return {contender: {"forward": ms, "both": ms}}."""
    facts: dict[str, dict] = {}
    result = compare(contenders, case, rounds, facts)
    check(case, facts)
    return result


def ratios(ms: dict[str, float]) -> tuple[float, float]:
    """minicv's time over PyTorch's, on arrays in NCHW and in channels-last memory."""
    nchw, last = (ms[f"minicv {layout}"] / ms[f"torch {layout}"] for layout in ("NCHW", "channels-last"))
    return nchw, last


def main() -> None:
    """Start the contenders, compare them case by case, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ops", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", default=list(GROUPS), help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.groups) - set(GROUPS):
        parser.error(f"unknown group {', '.join(sorted(unknown))}; choose of {', '.join(GROUPS)}")
    contenders = start()
    for name, contender in contenders.items():
        print(f"{name}: {contender.ask({'about': 1})}")
    print(f"\n{'forward + backward, ms (forward)':<62}" + "".join(f"{n:>22}" for n in contenders)
          + "   ratio NCHW, channels-last")
    for group in args.groups:
        found = []
        for case in GROUPS[group]:
            result = measure_case(contenders, case, args.rounds)
            found.append(ratios({name: r["both"] for name, r in result.items()}))
            row = "".join(f"{r['both']:>12.2f} ({r['forward']:7.2f})" for r in result.values())
            print(f"{text(case):<62}{row}   {found[-1][0]:.2f} {found[-1][1]:.2f}", flush=True)
        means = [math.exp(sum(map(math.log, column)) / len(column)) for column in zip(*found, strict=True)]
        print(f"{group}: geometric mean {means[0]:.2f} {means[1]:.2f}\n")
    for contender in contenders.values():
        contender.close()


def serve_contender(name: str) -> None:
    library, _, layout = name.partition("-")
    make, about = ((with_torch, about_torch) if library == "torch" else
                   (with_minicv, partial(about_minicv, layout == "plain")))
    about()
    serve(partial(make, channels_last=layout != "NCHW"), about)


if __name__ == "__main__":
    serve_contender(sys.argv[1]) if os.environ.get("MINICV_BENCHMARK") else main()
