"""A training step of every compact network against PyTorch on the CPU: ``python -m tests.benchmarks.training``.

Forward, loss, backward and SGD. "torch" is the same model, weights and engine with every operation computed by PyTorch
(``tests.oracle_ops``). Prints milliseconds side by side and minicv's as a multiple.
"""
from __future__ import annotations

import argparse
import contextlib
import os
import sys

from .rounds import Contender, compare, serve

CASES = [
    {"model": "unet", "x": (1, 1, 284, 284)},
    *({"model": name, "x": (8, 3, 64, 64)} for name in ("alexnet", "vgg16", "googlenet", "resnet18", "resnet50")),
]


def step_of(case: dict, table: dict):
    """The call that does one training step, with the operations of ``table`` put in place of minicv's own."""
    import numpy as np

    import minicv
    from minicv import models
    from minicv.autograd import substitute
    from minicv.optim import SGD
    minicv.seed(0)
    x = np.random.default_rng(0).standard_normal(case["x"], dtype=np.float32)
    model = models.build(case["model"], in_channels=x.shape[1])
    optimizer = SGD(model.parameters(), 0.001, 0.9)
    replaced = substitute(table) if table else contextlib.nullcontext()

    def scores(result):
        return result[0] if isinstance(result, tuple) else result

    with minicv.no_grad():
        shape = scores(model(minicv.Tensor(x))).shape
    target = np.random.default_rng(1).integers(0, shape[1], (shape[0], *shape[2:]))

    def loss():
        return minicv.ops.cross_entropy(scores(model(minicv.Tensor(x))), minicv.Tensor(target))

    def step():
        total = loss()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()

    replaced.__enter__()  # for as long as this process serves the case
    return step


def make(table: dict):
    """For ``serve``."""
    return lambda case: {"step": step_of(case, table)}


def ratios(rounds: int = 3, cases: list[dict] = CASES, say=print) -> list[dict]:
    """[{"case", "torch": ms, "minicv": ms, ...}] of every case, with a table as it goes."""
    from minicv.backend.blas import recommended_kernel
    here = "tests.benchmarks.training"
    contenders = {"torch": Contender(here, "torch"), "as set": Contender(here, "minicv")}
    if recommended_kernel():
        contenders["minicv"] = Contender(here, "minicv", {"OPENBLAS_CORETYPE": recommended_kernel()})
    rows = []
    try:
        for case in cases:
            result = {name: each["step"] for name, each in compare(contenders, case, rounds).items()}
            rows.append({"case": f"{case['model']} {'x'.join(map(str, case['x']))}", **result})
            say(f"{rows[-1]['case']:<26}" + "".join(f"{name} {ms:8.1f} ms   " for name, ms in result.items())
                + "  ".join(f"{n} / torch {result[n] / result['torch']:.2f}" for n in list(result)[1:]))
    finally:
        for contender in contenders.values():
            contender.close()
    return rows


if __name__ == "__main__":
    serving = os.environ.get("MINICV_BENCHMARK")
    if sys.argv[1:2] == ["torch"] and serving:
        import torch

        from tests.oracle_ops import TABLE
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        serve(make(TABLE), {"torch": torch.__version__, "threads": torch.get_num_threads()})
    elif sys.argv[1:2] == ["minicv"] and serving:
        from minicv import backend
        from minicv.backend import blas
        serve(make({}), {"BLAS kernel": blas.kernel(), "threads": backend.num_threads()})
    else:
        parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training", description=__doc__)
        parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(c["model"] for c in CASES))
        parser.add_argument("--rounds", type=int, default=3)
        args = parser.parse_args()
        ratios(args.rounds, [c for c in CASES if not args.models or c["model"] in args.models])
