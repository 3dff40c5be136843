"""The operations against PyTorch on the CPU: ``python -m tests.benchmarks.ops [GROUP...]``.

Prints milliseconds, forward and forward + backward, side by side, and minicv's time as a multiple of PyTorch's, once
with the BLAS kernel that is set here, once with the one that fits the processor
(``minicv.backend.blas.recommended_kernel``).
"""
from __future__ import annotations

import argparse
import math
import os
import sys

from .rounds import Contender, compare, serve

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


def numbers(shape: tuple[int, ...]):
    """Return seeded float32 values, channels-last in memory if the shape is that of images."""
    import numpy as np
    values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    if len(shape) != 4:
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


def with_minicv(case: dict) -> dict:
    import minicv
    import minicv.ops as F
    inputs = [minicv.Tensor(numbers(s), requires_grad=True) for s in shapes(case)]
    f, rois = getattr(F, case["op"]), boxes(case) if "boxes" in case else None

    def forward():
        with minicv.no_grad():
            return call(f, inputs, case, rois)
    gy = numbers(forward().shape)

    def both():
        for t in inputs:
            t.grad = None
        call(f, inputs, case, rois).backward(gy)
    return {"forward": forward, "both": both}


def with_torch(case: dict) -> dict:
    import torch
    import torch.nn.functional as F

    from . import roi_torch
    inputs = [torch.from_numpy(numbers(s)).requires_grad_() for s in shapes(case)]
    f = getattr(roi_torch if "boxes" in case else F, case["op"])
    rois = torch.from_numpy(boxes(case)) if "boxes" in case else None

    def forward():
        with torch.no_grad():
            return call(f, inputs, case, rois)
    gy = torch.from_numpy(numbers(tuple(forward().shape)))
    return {"forward": forward, "both": lambda: torch.autograd.grad(call(f, inputs, case, rois), inputs, gy)}


def main() -> None:
    """Start the contenders, compare them case by case, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.ops", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", default=list(GROUPS), help=", ".join(GROUPS))
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    from minicv.backend.blas import recommended_kernel
    here = "tests.benchmarks.ops"
    contenders = {"torch": Contender(here, "torch"), "as set": Contender(here, "minicv")}
    if recommended_kernel():
        contenders["minicv"] = Contender(here, "minicv", {"OPENBLAS_CORETYPE": recommended_kernel()})
    for name, contender in contenders.items():
        print(f"{name}: {contender.ask({'about': 1})}")
    print(f"\n{'forward + backward, ms (forward)':<62}" + "".join(f"{n:>18}" for n in contenders) + "   ratio to torch")
    for group in args.groups:
        ratios: dict[str, list[float]] = {}
        for case in GROUPS[group]:
            result = compare(contenders, case, args.rounds)
            row = "".join(f"{r['both']:>10.2f} ({r['forward']:5.2f})" for r in result.values())
            for name in list(result)[1:]:
                ratios.setdefault(name, []).append(result[name]["both"] / result["torch"]["both"])
            print(f"{text(case):<62}{row}   " + "  ".join(f"{name} {r[-1]:.2f}" for name, r in ratios.items()),
                  flush=True)
        means = "  ".join(f"{name} {math.exp(sum(map(math.log, r)) / len(r)):.2f}" for name, r in ratios.items())
        print(f"{group}: geometric mean {means}\n")
    for contender in contenders.values():
        contender.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["torch"] and os.environ.get("MINICV_BENCHMARK"):
        import torch
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        serve(with_torch, {"torch": torch.__version__, "threads": torch.get_num_threads()})
    elif sys.argv[1:2] == ["minicv"] and os.environ.get("MINICV_BENCHMARK"):
        from minicv import backend
        from minicv.backend import blas
        serve(with_minicv, {"BLAS kernel": blas.kernel(), "threads": backend.num_threads()})
    else:
        main()
