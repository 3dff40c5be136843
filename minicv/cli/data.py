"""``minicv data``: download a data set, or check one."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import blame_user


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser("data", help="download a data set, or check one")
    what = add.add_subparsers(dest="what", required=True, metavar="check|download")
    add = what.add_parser("check", help="read every file of a data set and list its contents and faults",
                          description="Reads everything and names each file that is missing, damaged or does not fit.")
    add.add_argument("data", metavar="NAME:PATH",
                     help="the data set, such as camvid:PATH, voc:PATH, cityscapes:PATH or bccd:PATH")
    add.set_defaults(run=run_check)
    add = what.add_parser("download", help="download real images and verify them",
                          description="Downloads a public data set and verifies every file. After an interruption, the "
                          "same command continues.")
    add.add_argument("name", metavar="isbi2012|bccd|camvid|dsb2018", help="name of the data set")
    add.add_argument("--root", required=True, type=Path, metavar="DIR", help="folder of this data set")
    add.add_argument("--mirror", metavar="URL",
                     help="download from a copy of the data set, such as http://HOST:8000 (default: its public home)")
    add.add_argument("--connections", type=int, default=8, help="number of files to fetch at once (default: 8)")
    add.add_argument("--quiet", action="store_true", help="show no progress bar")
    add.set_defaults(run=run_download)


def run_check(args: argparse.Namespace) -> int:
    """minicv data check NAME:PATH"""
    from ..data.check import check
    with blame_user():
        report = check(args.data)
    print("\n".join([*report.contents, *report.faults, f"faults: {len(report.faults)}"]))
    return 1 if report.faults else 0


def run_download(args: argparse.Namespace) -> int:
    """minicv data download NAME --root DIR"""
    from ..data.download import SOURCES, download
    with blame_user():
        count, fetched = download(args.name, args.root, args.mirror, connections=args.connections, quiet=args.quiet)
    source = SOURCES[args.name]
    print(f"{args.root}: {count} files, {fetched} fetched\n{source.origin}; license: {source.license}\n"
          f"minicv data check {args.name}:{args.root}")
    return 0
