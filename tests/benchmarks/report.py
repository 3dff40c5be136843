"""Run all benchmarks and write docs/benchmarks.md: ``python -m tests.benchmarks.report``, on an idle machine.

About a quarter of an hour on two cores. ``--only PART`` prints one part. Nothing is written unless every contender was
what it says and all of them computed the same.
"""
from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from minicv import backend
from minicv.files import atomic_write

from . import memory, ops, startup, steps
from .rounds import Contender, user_environment

DOCS = Path(__file__).resolve().parents[2] / "docs"
BUSY = 0.5  # processes that run, on average, from which on times are not to be trusted
CORRECTION = [
    "Until 2026-12-01 this page said that minicv trains in 0.68 to 0.91 of PyTorch's time. That was wrong. The column "
    "\"torch\" was minicv itself: PyTorch's operations were to replace its own, but the replacement was undone before "
    "anything was measured. And even with it, minicv's engine calling PyTorch would not have shown PyTorch's speed."]


def mean(values: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def row(*cells: object) -> str:
    return "| " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |"


def table(head: list[str], rows: list[list]) -> list[str]:
    return [row(*head), "|---" * len(head) + "|", *(row(*r) for r in rows), ""]


def processor() -> str:
    """Return the name of the processor, if the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def operations(rounds: int) -> list[str]:
    """Compare every group of operations with PyTorch, and convolutions also with im2col and tensordot."""
    contenders, others = ops.start(), "tests.benchmarks.other_ways"
    contenders |= {name: Contender(others, name) for name in ("im2col", "tensordot")}
    lines = ["## Operations", "", "Forward + backward in ms, on arrays in NCHW memory, as users have them, and in "
             "channels-last memory, as networks have them. \"plain\" is the plain storey, on channels-last arrays. "
             "`tests/benchmarks/other_ways.py` has im2col and tensordot over windows, in NumPy alone.", ""]
    convolutions = []
    try:
        lines += [*(f"- {name}: {about_text(c.ask({'about': 1}))}" for name, c in contenders.items()), ""]
        for group, cases in ops.GROUPS.items():
            rows, found = [], []
            for case in cases:
                print(ops.text(case), flush=True)
                result = ops.measure_case(contenders, case, rounds)
                ms = {name: each["both"] for name, each in result.items() if "both" in each}
                found.append(ops.ratios(ms))
                rows.append([ops.text(case), *(ms.get(name, "") for name in contenders), *found[-1]])
            rows.append(["geometric mean", *[""] * len(contenders), *map(mean, zip(*found, strict=True))])
            lines += [f"### {group}", "", *table(["case", *contenders, "ratio NCHW", "ratio channels-last"], rows)]
            convolutions += found if group.startswith("conv") else []
    finally:
        for contender in contenders.values():
            contender.close()
    (nchw, worst), (last, worst_last) = ((mean(column), max(column)) for column in zip(*convolutions, strict=True))
    return [*lines, f"Over all {len(convolutions)} convolutions, minicv takes {nchw:.2f} times as long as PyTorch in "
            f"NCHW memory (geometric mean; at most {worst:.2f}), and {last:.2f} times in channels-last memory (at most "
            f"{worst_last:.2f}).", ""]


def training_steps(rounds: int) -> list[str]:
    """Compare training steps, inference and the memory of a step with PyTorch's own networks."""
    rows = steps.measure_all(rounds)
    lines = ["## Training steps and inference", "",
             "A step is forward, loss, backward and SGD with momentum. \"torch\" is the same network written in "
             "PyTorch alone (`tests/benchmarks/torch_networks/`): its modules, autograd and optimizer. A ratio divides "
             "minicv's time by that of the better memory layout of PyTorch. Before anything is measured, both have the "
             "same weights, and agree in the number of parameters, the output, the first loss (to 1e-4), the size "
             "of the gradient, and the loss after a step. Paper networks see small images. Faster R-CNN gets its "
             "sampled anchors and RoIs, because PyTorch alone has no non-maximum suppression; it pools RoIs in "
             "PyTorch's own operations.", "",
             *(f"- {name}: {about_text(about)}" for name, about in rows[0]["about"].items()), ""]
    for call, title in (("step", "A training step, ms"), ("inference", "Inference, ms")):
        lines += [f"### {title}", "", *side_by_side([{**r, "values": r["ms"][call]} for r in rows])]
    return [*lines, "### Peak memory of a training step, MB", "", "Weights, gradients, momentum and activations: the "
            "largest resident set of the process, less what it had after a step of another small network.", "",
            *side_by_side([{**r, "values": r["memory"]} for r in rows])]


def side_by_side(rows: list[dict]) -> list[str]:
    """Return a table of the contenders' values, with ratios and their geometric mean."""
    names, found = list(rows[0]["values"]), [steps.ratio(r["values"]) for r in rows]
    body = [[r["case"], *(r["values"].get(n, "") for n in names), x] for r, x in zip(rows, found, strict=True)]
    return table(["network, input", *names, "ratio"], [
        *body, ["geometric mean", *[""] * len(names), mean(found)], ["largest", *[""] * len(names), max(found)]])


def about_text(about: dict) -> str:
    return ", ".join(f"{value} threads" if key == "threads" else str(value) for key, value in about.items())


def startup_times(rounds: int) -> list[str]:
    rows = [[r["program"], r["minicv"], r["torch"], r["minicv"] / r["torch"]] for r in startup.table(rounds)]
    return ["## Startup", "", "A program in a new process, ms; the first call convolves a small image forward and "
            "backward.", "", *table(["program", "minicv", "torch", "ratio"], rows)]


def time_goes(rounds: int) -> list[str]:
    printed = subprocess.run([sys.executable, "-m", "tests.benchmarks.where"], env=user_environment(),
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    return ["## Where the time goes", "", "The time of a training step of the compact networks by operation and "
            "direction.", "", "```", *printed.splitlines(), "```", ""]


def convolution_memory(rounds: int) -> list[str]:
    rows = [[r["case"], r["torch"], r["minicv"], r["im2col"], r["minicv"] / r["torch"]] for r in memory.table()]
    return ["## Peak memory of a convolution", "", "What one convolution, forward + backward, needs beyond its inputs, "
            "in MB.", "", *table(["case", "torch", "minicv", "im2col", "minicv / torch"], rows)]


def growth_curves(rounds: int) -> list[str]:
    """Measure in a process of its own, with a user's environment; the figure is written beside the page."""
    figure = DOCS / "benchmarks_growth.png"
    with atomic_write(figure) as temporary:
        image = temporary.with_suffix(".png")
        printed = subprocess.run([sys.executable, "-m", "tests.benchmarks.growth", str(image), "--json"],
                                 env=user_environment(), stdout=subprocess.PIPE, text=True, check=True).stdout
        image.rename(temporary)
    found = json.loads(printed.splitlines()[-1])
    return ["## Growth", "", f"![Time of every operation against pixels, images and RoIs]({figure.name})", "",
            "The table gives the exponent of a power law fitted to five sizes, each twice the one before. 1 means "
            "linear growth.", "",
            *table(["operation", "pixels", "images", "RoIs"],
                   [[name, *(found[k].get(name, "") for k in ("pixels", "images", "RoIs"))]
                    for name in dict.fromkeys(name for each in found.values() for name in each)])]


PARTS: dict[str, Callable[[int], list[str]]] = {
    "steps": training_steps, "operations": operations, "startup": startup_times, "where": time_goes,
    "memory": convolution_memory, "growth": growth_curves}


def main() -> None:
    """Run the parts; write the page once all of them have succeeded."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks.md")
    parser.add_argument("--only", choices=PARTS, metavar="PART",
                        help=f"print one part instead of writing the page: {', '.join(PARTS)}")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: must be at least 1")
    if args.only:
        print("\n".join(PARTS[args.only](args.rounds)))
        return
    start, load = time.perf_counter(), os.getloadavg()[0]
    if load > BUSY:
        print(f"warning: other programs are running (load {load:.1f}); the page will say so", file=sys.stderr)
    lines = ["# Benchmarks", "", f"Written by `python -m tests.benchmarks.report` on {datetime.date.today()}: "
             f"{processor()}, {backend.cores()} cores, load {load:.1f} at the start. Each contender runs in its own "
             f"process, and they take turns. Times are the best of {args.rounds} rounds; ratios compare times of this "
             "run only.", "", *CORRECTION, ""]
    doctor = subprocess.run([sys.executable, "-m", "minicv", "doctor"], env=user_environment(), stdout=subprocess.PIPE,
                            text=True, check=True).stdout
    lines += ["```", *doctor.splitlines(), "```", ""]
    for number, (name, part) in enumerate(PARTS.items(), 1):
        print(f"[{number}/{len(PARTS)}] {name}, after {(time.perf_counter() - start) / 60:.1f} min", flush=True)
        lines += part(args.rounds)
    with atomic_write(args.out) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    print(f"{args.out}, after {(time.perf_counter() - start) / 60:.1f} min")


if __name__ == "__main__":
    main()
