"""Peak memory of a convolution, forward + backward: ``python -m tests.benchmarks.memory``. Linux only.

A fresh process for each: inputs, a small call to wake the library up, then one call while the kernel watches the
largest resident set. Printed: what the call needed beyond its inputs, its results and gradients included.
"""
from __future__ import annotations

import json
import subprocess
import sys

from .ops import GROUPS, text


def resident(field: str) -> float:
    """VmRSS (now) or VmHWM (the most since the last reset) of this process, MB."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def peak(library: str, case: dict) -> float:
    """MB that one forward + backward needs beyond its inputs, in this process."""
    if library == "torch":
        from .ops import with_torch as make
    elif library == "minicv":
        from .ops import with_minicv as make
    else:
        from .other_ways import WAYS, setup
        make = setup(WAYS[library])
    small = {**case, "x": (1, case["x"][1], 16, 16)}
    make(small)["both"]()
    call = make(case)["both"]
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # resets VmHWM
    call()
    return resident("VmHWM") - before


def measure(library: str, case: dict) -> float:
    """``peak`` in a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", library, json.dumps(case)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def table(say=print, libraries=("torch", "minicv", "im2col")) -> list[dict]:
    """[{"case", library: MB}] of the 3x3 convolutions of the design."""
    rows = []
    for case in GROUPS["conv3x3"]:
        rows.append({"case": text(case), **{library: measure(library, case) for library in libraries}})
        say("  ".join(f"{k} {v:.0f} MB" if k != "case" else f"{v:<40}" for k, v in rows[-1].items()))
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(peak(sys.argv[1], json.loads(sys.argv[2])))
    else:
        table()
