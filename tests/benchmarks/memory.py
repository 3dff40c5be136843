"""Peak memory of a convolution, forward + backward: ``python -m tests.benchmarks.memory``. Linux only.

A fresh process for each: inputs, a small call to wake the library up, then one call while the kernel watches the
largest resident set. Printed: what the call needed beyond its inputs, its results and gradients included.
"""
from __future__ import annotations

import ctypes
import json
import subprocess
import sys

from .ops import GROUPS, text
from .rounds import reset_peak, resident, user_environment


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
    make(small)[0]["both"]()
    call = make(case)[0]["both"]
    ctypes.CDLL(None).malloc_trim(0)  # or freed memory of the set-up would serve the call unseen
    before = resident("VmRSS")
    reset_peak()
    call()
    return resident("VmHWM") - before


def measure(library: str, case: dict) -> float:
    """``peak`` in a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", library, json.dumps(case)]
    return float(subprocess.run(command, env=user_environment(), stdout=subprocess.PIPE, text=True,
                                check=True).stdout)


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
