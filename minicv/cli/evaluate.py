"""``minicv evaluate``: the field's measures of a checkpoint on a data set, as text, JSON and a page with pictures."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import atomic_write, check_folder, to_json
from .options import add_data, add_label_options, add_proposals
from .tables import PAGE, PRINT


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "evaluate", help="measure a checkpoint on the test images of a data set",
        description="Prints the field's measures and a table of the classes. For networks that label pixels, these are "
        "the four of FCN and the boundary F-score; for networks that find objects, average precision by the rules of "
        "PASCAL VOC and of COCO, average recall, and the kinds of errors of TIDE.")
    add.add_argument("--checkpoint", required=True, metavar="FILE", help="the trained network")
    add_data(add)
    add.add_argument("--split", default="test", help="the part of the data set to measure on (default: test)")
    add_label_options(add)
    add.add_argument("--score", type=float, help="lowest score of a detection in the confusion matrix and among the "
                     "errors; average precision counts all (default: 0.5; 0 for SVMs, 0.25 for YOLO)")
    add_proposals(add)
    add.add_argument("--json", nargs="?", const=PRINT, metavar="FILE", help="print the measures as one line of JSON "
                     "instead of a table; with FILE, write them there, with all that --report shows")
    add.add_argument("--report", type=Path, metavar="DIR", help="write DIR/index.html, one page with tables, curves, "
                     "confusions and the worst images; for networks that find objects, also results.json and "
                     "ground_truth.json, which pycocotools loads")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv evaluate"""
    from .networks import load_network
    model, info, commands = load_network(args.checkpoint)
    commands.check_predict_options(model.build_args["model"], args)
    if args.report is not None:
        check_folder(args.report, "--report")
    if args.json not in (None, PRINT) and not Path(args.json).parent.is_dir():
        raise UserError(f"--json {args.json}: the folder {Path(args.json).parent} does not exist")
    evaluation = commands.evaluate(model, info, args)
    if args.json not in (None, PRINT):  # files first: whoever reads the output may have enough of it early
        with atomic_write(args.json) as temporary:
            temporary.write_text(to_json(evaluation.analysis.document()))
    if args.report is not None:
        args.report.mkdir(parents=True, exist_ok=True)
        evaluation.write_report(args.report, f"{Path(args.checkpoint).parent.resolve().name}: "
                                f"{model.build_args['model']} on {args.data}, {args.split}")
    print(to_json(evaluation.analysis.measures()) if args.json == PRINT else "\n".join(evaluation.lines()))
    if args.report is not None:
        print(args.report / PAGE)
    return 0
