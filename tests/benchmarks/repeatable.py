"""Where a training repeats bit for bit, and where not: ``python -m tests.benchmarks.repeatable [MODEL...]``.

Each network is trained by the command line, again and again, with one thing changed. A row of the table compares the
weights at the end with those of the first run: "the same" to the last bit, or the largest difference, relative to the
largest weight of its array. ``docs/reproducibility.md`` shows the table.
"""
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

STEPS = 20
NETWORKS = {  # options of a short training that has dropout, batch norm, RoIs or a data set read by threads
    "unet": ["--data", "cells", "--width", "4", "--tile", "36", "--batch", "2"],
    "deeplabv3plus": ["--data", "street-scenes", "--tile", "64", "--batch", "2"],
    "faster_rcnn": ["--data", "shape-boxes", "--batch", "2"],
}
MPIRUN = shutil.which("mpirun", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def train(model: str, folder: Path, more: list[str] = (), processes: int = 1, kill: bool = False,
          **environment: str) -> dict[str, np.ndarray]:
    """The weights after a training in a process of its own; with ``kill``, it is killed on its way and resumed."""
    command = [sys.executable, "-m", "minicv", "train", model, *NETWORKS[model], "--steps", str(STEPS), "--quiet",
               "--out", str(folder), *more]
    if processes > 1:
        command = [MPIRUN, "-n", str(processes), *command]
    environment = {**os.environ, **environment}
    if kill:
        with subprocess.Popen([*command, "--save-every", "0"], env=environment, stdout=subprocess.DEVNULL) as process:
            while step_of(folder) < STEPS // 2:
                time.sleep(0.01)
            process.kill()
        if step_of(folder) == STEPS:
            raise RuntimeError(f"{model}: the training ended before it was killed")
        command.append("--resume")
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {name: array for name, array in load_file(folder / "last.safetensors").items()
            if not name.startswith("optimizer.")}


def step_of(folder: Path) -> int:
    """How far the last line of metrics.jsonl has come."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").count("\n") if path.exists() else 0
    return 10 * lines  # a line every ten steps


def changes() -> Iterator[tuple[str, dict]]:
    """What is changed, in words, and the arguments of ``train`` for it."""
    yield "nothing: the same command again", {}
    yield "killed halfway, then `--resume`", {"kill": True}
    yield "`MINICV_THREADS=1`", {"MINICV_THREADS": "1"}
    yield "`MINICV_THREADS=5`", {"MINICV_THREADS": "5"}
    yield "`--workers 3`", {"more": ["--workers", "3"]}
    yield "`--seed 1`, for comparison", {"more": ["--seed", "1"]}
    other = "Haswell" if kernel() != "Haswell" else "SkylakeX"
    yield f"`OPENBLAS_CORETYPE={other}` instead of {kernel()}", {"OPENBLAS_CORETYPE": other}
    if MPIRUN is not None:
        yield "`mpirun -n 2`", {"processes": 2}


def kernel() -> str | None:
    """The matrix product that a new process takes from OpenBLAS."""
    program = "import minicv.backend.blas as blas; blas.choose_kernel(); import numpy; print(blas.kernel())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """The largest difference of two models' weights, relative to the largest of its array; 0 if no bit differs."""
    if a.keys() != b.keys():
        raise ValueError("the two models have other arrays")
    return max(0.0 if x.tobytes() == b[name].tobytes() else
               max(float(np.abs(x - b[name]).max() / max(np.abs(x).max(), 1e-30)), 5e-324) for name, x in a.items())


def main(models: list[str]) -> None:
    """Print the table."""
    models = models or list(NETWORKS)
    print(f"{STEPS} steps; NumPy {np.__version__}, kernel {kernel()}\n")
    print("| change | " + " | ".join(models) + " |\n" + "|---" * (len(models) + 1) + "|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        first = {model: train(model, Path(folder) / model) for model in models}
        twice = {}
        for i, (what, how) in enumerate(changes()):
            cells = []
            for model in models:
                weights = train(model, Path(folder) / f"{model}{i}", **how)
                apart = difference(first[model], weights)
                cells.append("the same" if apart == 0 else f"{apart:.2g}")
                if "processes" in how:
                    twice[model] = weights
            print(f"| {what} | " + " | ".join(cells) + " |", flush=True)
        if twice:
            again = [difference(twice[m], train(m, Path(folder) / f"{m}again", processes=2)) for m in models]
            print("| `mpirun -n 2`, again: compared with the first run of two | "
                  + " | ".join("the same" if a == 0 else f"{a:.2g}" for a in again) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
