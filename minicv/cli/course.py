"""``minicv lessons``, ``minicv papers``, ``minicv claims``."""
from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError, blame_user
from ..files import count_of


def add_parsers(commands: Any) -> None:
    """Add the three commands to the subparsers of ``minicv``."""
    add = commands.add_parser("lessons", help="list or run the lessons")
    add.set_defaults(run=run_lessons)
    what = add.add_subparsers(dest="what", metavar="list|run")
    what.add_parser("list", help="print the names and titles of the lessons")
    run = what.add_parser("run", help="run all lessons, or those named",
                          description="Figures and claims go to lessons/out, or to the folder named by "
                          "MINICV_LESSONS_OUT.")
    run.add_argument("names", nargs="*", metavar="NAME", help="a lesson's number, name or first letters (default: all)")
    run.add_argument("--quick", action="store_true", help="spend a few seconds on each lesson, to see that it runs")
    run.add_argument("--data", metavar="NAME:PATH", help="use a real data set, such as isbi2012:PATH (default: "
                     "generated images)")
    run.add_argument("--seed", type=int, help="seed of the random numbers (default: 0)")

    add = commands.add_parser("papers", help="show which line of the code is which equation of which paper",
                              description="The index comes from the comments and docstrings of minicv and its lessons.")
    add.add_argument("name", nargs="?", metavar="NAME",
                     help="a paper or a network, such as unet (default: list all papers)")
    add.set_defaults(run=run_papers)

    add = commands.add_parser("claims", help="show what the papers claim, and what the lessons measured")
    add.add_argument("ids", nargs="*", metavar="ID", help="a claim's number, such as S3, or a lesson (default: all)")
    add.add_argument("--quick", action="store_true", help="show the latest quick runs, which mean little")
    add.add_argument("--keep", action="store_true", help="also write the results to docs/claims.json")
    add.set_defaults(run=run_claims)


def run_lessons(args: argparse.Namespace) -> int:
    """minicv lessons [list | run]"""
    from ..course import lessons
    if args.what != "run":
        for path in lessons.find():
            print(f"{path.stem}  {lessons.title(path)}")
        return 0
    if not (args.names or args.quick or args.data or os.environ.get("MINICV_QUICK")):
        print(announcement(lessons.find()), flush=True)
    return 1 if lessons.run(args.names, args.quick, args.data, args.seed) else 0


def announcement(paths: list[Path]) -> str:
    """Return how many lessons run in full, and how long that takes by ``docs/claims.json``, if it has them all."""
    from ..course import claims
    seconds = {run["lesson"]: run["seconds"] for run in claims.load_kept()}
    known = all(path.stem in seconds for path in paths)
    time = f", about {5 * math.ceil(sum(seconds[path.stem] for path in paths) / 300)} minutes" if known else ""
    return f"{count_of(len(paths), 'lesson')} in full{time}; --quick is shorter; Ctrl-C stops"


def run_papers(args: argparse.Namespace) -> int:
    """minicv papers [NAME]"""
    from ..course import papers
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None  # files and pipes get whole lines
    with blame_user():
        table = papers.table(args.name)
    print("\n".join(line[:width] for line in table.splitlines()))
    return 0


def run_claims(args: argparse.Namespace) -> int:
    """minicv claims [ID ...]"""
    from ..course import claims
    if args.keep and args.quick:
        raise UserError("--keep: only full runs are kept, so leave out --quick")
    runs = claims.load_runs(quick=args.quick)
    print(claims.table(runs, args.ids, args.quick))
    if args.keep:
        print(f"kept: {claims.keep(runs)}")
    return 0
