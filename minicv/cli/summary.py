"""``minicv summary``: the layers of a network."""
from __future__ import annotations

import argparse
from typing import Any

from .. import models
from ..errors import UserError, blame_user
from .options import network_name


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "summary", help="list the layers of a network: shapes, parameters, MACs, receptive fields",
        description="Each line shows one layer. MACs are the multiply-accumulates of convolutions and matrix products; "
        "a count of FLOPs is twice that.")
    add.add_argument("model", metavar="MODEL", type=network_name(models.names()),
                     help=f"name of the network: {', '.join(models.names())}")
    add.add_argument("--preset", default="compact", choices=["compact", "paper"],
                     help="size of the network: compact, or as in its paper (default: compact)")
    add.add_argument("--input", metavar="CxHxW",
                     help="channels, height and width of an image, such as 3x224x224 (default: the preset's)")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv summary MODEL"""
    from ..models.summary import summarize
    from ..nn import init
    model_class: Any = models.model_class(args.model)
    size = model_class.INPUT[args.preset]
    if args.input is not None:
        parts = args.input.split("x")
        if len(parts) != 3 or not all(p.isdecimal() and int(p) for p in parts):
            raise UserError(f"--input {args.input}: must be CxHxW, as in 3x224x224")
        size = tuple(map(int, parts))
    shown = "x".join(map(str, size))
    with blame_user(f"--input {shown}"), init.blank():  # the weights do not matter
        table = summarize(models.build(args.model, args.preset, in_channels=size[0]), size)
    print(f"{args.model} {args.preset}, input {shown}\n{table}")
    return 0
