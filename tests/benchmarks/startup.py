"""How long it takes to import and to make the first call, beside PyTorch: ``python -m tests.benchmarks.startup``.

Each row is a program in a new process; the best of several runs. "first call" imports, and convolves a small image
forward and backward once.
"""
from __future__ import annotations

import os
import subprocess
import sys
import time

from .rounds import user_environment

FIRST = {"minicv": "import minicv\nimport minicv.ops as F\nimport numpy as np\n"
                   "x = minicv.Tensor(np.ones((1, 3, 64, 64), np.float32), requires_grad=True)\n"
                   "w = minicv.Tensor(np.ones((8, 3, 3, 3), np.float32), requires_grad=True)\n"
                   "F.relu(F.conv2d(x, w, padding=1)).sum().backward()\n",
         "torch": "import torch\nimport torch.nn.functional as F\n"
                  "x = torch.ones((1, 3, 64, 64), requires_grad=True)\n"
                  "w = torch.ones((8, 3, 3, 3), requires_grad=True)\n"
                  "F.relu(F.conv2d(x, w, padding=1)).sum().backward()\n"}
ALONE = {"minicv": "assert 'torch' not in sys.modules", "torch": "assert 'minicv' not in sys.modules"}
PROGRAMS = {"Python alone": dict.fromkeys(FIRST, ""),
            "import": {"minicv": "import minicv", "torch": "import torch"},
            "first call": FIRST}


def milliseconds(program: str) -> float:
    """One run of a program in a new process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=user_environment(), cwd=os.getcwd(), check=True)
    return 1e3 * (time.perf_counter() - start)


def table(rounds: int = 3, say=print) -> list[dict]:
    """[{"program", "minicv": ms, "torch": ms}]; the libraries take turns, and the first run of each is not counted."""
    rows = []
    for name, programs in PROGRAMS.items():
        best = dict.fromkeys(programs, float("inf"))
        for turn in range(rounds + 1):
            for library, program in programs.items():
                ms = milliseconds(f"{program}\nimport sys\n{ALONE[library]}\n")
                best[library] = min(best[library], ms) if turn else best[library]
        rows.append({"program": name, **best})
        say(f"{name:<14}" + "  ".join(f"{library} {ms:.0f} ms" for library, ms in best.items()), flush=True)
    return rows


if __name__ == "__main__":
    table()
