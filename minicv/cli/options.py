"""Options that several commands share."""
from __future__ import annotations

import argparse


def add_tile_and_average(parser: argparse.ArgumentParser) -> None:
    """Add ``--tile`` and ``--average``, how a network that labels pixels predicts an image."""
    parser.add_argument("--tile", type=int, metavar="PIXELS",
                        help="predict an image in output tiles of this side, each with the context that the network "
                        "needs around it (default: the whole image, or, if that would take more than half of the free "
                        "memory, tiles that fit)")
    parser.add_argument("--average", action="store_true",
                        help="average the predictions for the 8 rotations and reflections of an image")


def add_proposals(parser: argparse._ActionsContainer) -> None:
    """Add ``--proposals``, where a detector's proposals come from."""
    parser.add_argument("--proposals", metavar="FILE",
                        help="a checkpoint of faster_rcnn, whose RPN proposes the boxes (default: selective search, "
                        "for networks that need proposals)")
