"""Run all benchmarks and write docs/benchmarks.md: ``python -m tests.benchmarks.report``, on an idle machine."""
from __future__ import annotations

import argparse
import datetime
import math
import os
import platform
import subprocess
import sys
from pathlib import Path

from minicv import backend
from minicv.backend.blas import recommended_kernel
from minicv.cli import doctor
from minicv.files import atomic_write

from . import growth, memory, training
from .ops import GROUPS, text
from .rounds import Contender, compare

DOCS = Path(__file__).resolve().parents[2] / "docs"


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
    best = {"OPENBLAS_CORETYPE": recommended_kernel()} if recommended_kernel() else {}
    here, others = "tests.benchmarks.ops", "tests.benchmarks.other_ways"
    contenders = {"torch": Contender(here, "torch"), "as set": Contender(here, "minicv"),
                  "minicv": Contender(here, "minicv", best), "im2col": Contender(others, "im2col", best),
                  "tensordot": Contender(others, "tensordot", best)}
    about = [f"- {name}: {c.ask({'about': 1})}" for name, c in contenders.items()]
    lines = ["## Operations", "", *about, "",
             "Forward + backward in ms. \"as set\" is minicv with the BLAS kernel of this machine's environment; "
             "\"minicv\", im2col and tensordot use the kernel that `minicv doctor` recommends. "
             "`tests/benchmarks/other_ways.py` has im2col and tensordot over windows.", ""]
    convolutions: list[list[float]] = []
    try:
        for group, cases in GROUPS.items():
            lines += [f"### {group}", ""]
            rows = []
            for case in cases:
                print(text(case), flush=True)
                ms = {name: each["both"] for name, each in compare(contenders, case, rounds).items() if "both" in each}
                ratio = ms["minicv"] / ms["torch"]
                rows.append([text(case), *(ms.get(name, "") for name in contenders), ms["as set"] / ms["torch"], ratio,
                             ms["tensordot"] / ms["minicv"] if "tensordot" in ms else ""])
                if group.startswith("conv"):
                    convolutions.append([ms["as set"] / ms["torch"], ratio])
            rows.append(["geometric mean", *[""] * len(contenders), mean([r[-3] for r in rows]),
                         mean([r[-2] for r in rows]), ""])
            lines += table(["case", *contenders, "as set / torch", "minicv / torch", "tensordot / minicv"], rows)
    finally:
        for contender in contenders.values():
            contender.close()
    as_set, ratios = zip(*convolutions, strict=True)
    return [*lines, f"Over all {len(ratios)} convolutions, minicv takes {mean(ratios):.2f} times as long as PyTorch "
            f"(geometric mean), at most {max(ratios):.2f} times (as set: {mean(as_set):.2f} and {max(as_set):.2f}).",
            ""]


def steps(rounds: int) -> list[str]:
    rows = training.ratios(rounds)
    names = [name for name in rows[0] if name != "case"]
    return ["## A training step", "", "Forward, loss, backward and SGD, in ms. \"torch\" is the same model and "
            "engine with every operation computed by PyTorch.", "",
            *table(["network, input", *names, "minicv / torch"],
                   [[r["case"], *(r[n] for n in names), r[names[-1]] / r["torch"]] for r in rows])]


def time_goes() -> list[str]:
    environment = {**os.environ, **({"OPENBLAS_CORETYPE": recommended_kernel()} if recommended_kernel() else {})}
    printed = subprocess.run([sys.executable, "-m", "tests.benchmarks.where"], env=environment, capture_output=True,
                             text=True, check=True).stdout
    return ["## Where the time goes", "", "The time of a training step by operation and direction, with the "
            "recommended kernel.", "", "```", *printed.splitlines(), "```", ""]


def main() -> None:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.report", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=DOCS / "benchmarks.md")
    args = parser.parse_args()
    lines = ["# Benchmarks", "", f"Written by `python -m tests.benchmarks.report` on {datetime.date.today()}: "
             f"{processor()}, {backend.cores()} cores. Each contender runs in its own process, and they take turns. "
             f"Times are the best of {args.rounds} rounds; ratios compare times of this run only.", ""]
    lines += ["```", *(f"{what:<15} {finding}" for what, finding in doctor.report()), "```", ""]
    lines += operations(args.rounds)
    lines += steps(args.rounds)
    lines += time_goes()
    rows = [[r["case"], r["torch"], r["minicv"], r["im2col"], r["minicv"] / r["torch"]] for r in memory.table()]
    lines += ["## Peak memory", "", "The memory that one convolution, forward + backward, needs beyond its inputs, in "
              "MB.", "",
              *table(["case", "torch", "minicv", "im2col", "minicv / torch"], rows)]
    found = growth.curves()
    figure = args.out.with_name("benchmarks_growth.png")
    with atomic_write(figure) as temporary:
        growth.draw(found, temporary.with_suffix(".png"))
        temporary.with_suffix(".png").rename(temporary)
    lines += ["## Growth", "", f"![Time of every operation against pixels, images and RoIs]({figure.name})", "",
              "The table gives the exponent of a power law fitted to five sizes, each twice the one before. 1 means "
              "linear growth.", "",
              *table(["operation", "pixels", "images", "RoIs"],
                     [[name, *(found[k][name][2] if name in found[k] else "" for k in ("pixels", "images", "RoIs"))]
                      for name in (*growth.OPS, *growth.ROI_OPS)])]
    with atomic_write(args.out) as temporary:
        temporary.write_text("\n".join(lines))
    print(args.out)


if __name__ == "__main__":
    main()
