"""``minicv evaluate``: the field's measures of a checkpoint on a data set."""
from __future__ import annotations

import argparse
import math
from typing import Any

from ..files import to_json
from .options import add_label_options, add_proposals


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser("evaluate", help="measure a checkpoint on the test images of a data set")
    add.add_argument("--checkpoint", required=True, metavar="FILE", help="the trained network")
    add.add_argument("--data", required=True, metavar="NAME[:PATH]",
                     help="the data set, such as cells, isbi2012:PATH or bccd:PATH")
    add.add_argument("--split", default="test", help="the part of the data set to measure on (default: test)")
    add_label_options(add)
    add_proposals(add)
    add.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv evaluate"""
    from .networks import load_network
    model, info, commands = load_network(args.checkpoint)
    commands.check_predict_options(model.build_args["model"], args)
    result = commands.evaluate(model, info, args)
    if args.json:
        print(to_json(result))
    else:
        for name, value in result.items():
            print(f"{name:<22} " + ("nothing to measure" if math.isnan(value) else f"{value:.6f}"))
    return 0
