"""``minicv gradcheck``: every operation's backward pass against finite differences, and against its loops."""
from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from typing import Any

from .. import backend
from ..errors import blame_user
from ..files import count_of


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "gradcheck", help="check backward passes against finite differences",
        description="Each line shows an operation and a case: shapes, version (plain or fast), largest relative error, "
        "verdict. 'kink' means that the function has no derivative there, and backward lies between the slopes on its "
        "two sides.")
    add.add_argument("ops", nargs="*", metavar="OP", help="an operation of minicv.ops (default: all)")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv gradcheck [OP ...]"""
    from .. import ops
    from ..ops.check import check_case
    with blame_user():
        cases = ops.cases(args.ops)
    print(f"{'operation':<18} {'case':<46} {'shapes':<34} {'version':<7} {'error':<7}  verdict", flush=True)
    start = time.perf_counter()
    wrong: Counter[tuple[str, str]] = Counter()  # cases of each (operation, storey)
    for case in cases:
        shapes = " ".join("x".join(map(str, a.shape)) or "()" for a in case.arrays() if a is not None)
        for storey, result in check_case(case, backend.current_device()).items():
            wrong[case.name, storey] += result.verdict == "WRONG"
            detail = f"  {result.detail}" if result.detail else ""
            print(f"{case.name:<18} {case.label:<46} {shapes:<34} {storey:<7} {result.error:7.1e}  {result.verdict}"
                  f"{detail}", flush=True)
    for (name, storey), n in (+wrong).items():  # + leaves out the zeros
        where = f"minicv/ops/{sys.modules[getattr(ops, name).__module__].__name__.rpartition('.')[2]}.py"
        print(f"{name}: {storey} is wrong in {n} of {sum(case.name == name for case in cases)} cases; see "
              f"{where if storey == 'plain' else 'minicv/fast, which stands for ' + where}")
    print(f"{count_of(len(cases), 'case')}, {wrong.total()} wrong, {time.perf_counter() - start:.1f} s")
    return 1 if wrong.total() else 0
