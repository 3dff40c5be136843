"""``minicv data``: download a data set, check one, or draw one."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError, blame_user
from ..files import atomic_write


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser("data", help="download a data set, check one, or draw one")
    what = add.add_subparsers(dest="what", required=True, metavar="check|show|download")
    add = what.add_parser("check", help="read every file of a data set and list its contents and faults",
                          description="Reads everything and names each file that is missing, damaged or does not fit. "
                          "Without NAME, says which format fits the folder, and why.")
    add.add_argument("data", metavar="[NAME:]PATH",
                     help="the data set, such as masks:PATH, yolo:PATH or camvid:PATH; or only its folder; or "
                     "MODULE:FUNCTION")
    add.set_defaults(run=run_check)
    add = what.add_parser(
        "show", help="draw the first images of a data set with their boxes, masks or labels, and its numbers",
        description="Writes one picture: the first images with boxes, masks or labels in the colors of their classes; "
        "how frequent each class is; the sizes of images and objects; how often each pixel value occurs. Prints the "
        "same numbers.")
    add.add_argument("data", metavar="[NAME:]PATH",
                     help="the data set, such as cells, bccd:PATH or camvid:PATH; or only its folder")
    add.add_argument("--split", default="train", help="the part of the data set to draw (default: train)")
    add.add_argument("--out", type=Path, metavar="FILE.png", help="the picture (default: NAME_SPLIT.png)")
    add.add_argument("--images", type=int, default=8, metavar="N", help="number of images to draw (default: 8)")
    add.set_defaults(run=run_show)
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
    """minicv data check [NAME:]PATH"""
    from ..data.check import check
    from ..data.recognize import recognized_spec
    with blame_user():
        spec, reason = recognized_spec(args.data)
        if reason:
            print(f"{spec}: {reason}", flush=True)
        report = check(spec)
    print("\n".join([*report.contents, *report.faults, f"faults: {len(report.faults)}"]))
    return 1 if report.faults else 0


def run_show(args: argparse.Namespace) -> int:
    """minicv data show [NAME:]PATH"""
    from .. import data
    from ..data.recognize import recognized_spec
    from ..data.spec import parse_spec
    from ..data.statistics import statistics
    from ..viz.dataset import draw_dataset
    if args.images < 1:
        raise UserError(f"--images {args.images}: must be at least 1")
    with blame_user():
        spec, _ = recognized_spec(args.data)
    out = args.out or Path(f"{parse_spec(spec).name}_{args.split}.png")
    if out.suffix.lower() != ".png":
        raise UserError(f"--out {out}: must end in .png")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: the folder {out.parent} does not exist")
    with blame_user(args.data):
        dataset = data.open_dataset(spec, args.split)
        numbers = statistics(dataset)
    samples = [dataset[i] for i in range(min(args.images, len(dataset)))]
    print("\n".join(numbers.lines(dataset.class_names)))
    title = f"{args.data}, {args.split}: {numbers.images:,} images"
    if numbers.read < numbers.images:
        title += f"; the charts are of {numbers.read:,} of them"
    figure = draw_dataset(samples, numbers, dataset.class_names, title)
    with atomic_write(out) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(out)
    return 0


def run_download(args: argparse.Namespace) -> int:
    """minicv data download NAME --root DIR"""
    from ..data.download import SOURCES, download
    with blame_user():
        count, fetched = download(args.name, args.root, args.mirror, connections=args.connections, quiet=args.quiet)
    source = SOURCES[args.name]
    print(f"{args.root}: {count} files, {fetched} fetched\n{source.origin}; license: {source.license}\n"
          f"minicv data check {args.name}:{args.root}")
    return 0
