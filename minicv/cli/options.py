"""The parser of the commands, and the options that several of them share."""
from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ..errors import suggest


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line that names the command; its subparsers are of the same class."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} -h\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Suggest the nearest choice for an unknown one, such as a command."""
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {suggest(value, action.choices)}")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown arguments here, where the command is known, and not in the parser above it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def network_name(known: Sequence[str], reasons: dict[str, str] | None = None) -> Callable[[str], str]:
    """Return the ``type`` of an argument that is one of ``known``; ``reasons``: why other names are refused."""
    def network(name: str) -> str:
        if name not in known:
            reason = (reasons or {}).get(name, f"no network {name!r}; {suggest(name, known)}")
            raise argparse.ArgumentTypeError(reason)
        return name
    return network


def scales(text: str) -> tuple[float, ...]:
    """Return the factors of a text such as "0.75,1,1.25"."""
    try:
        factors = tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be numbers with commas between them, as in 0.75,1,1.25"
                                         ) from None
    return factors


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add how a network that labels pixels predicts an image: ``--tile``, ``--average``, ``--scales``, ``--flip``."""
    parser.add_argument("--tile", type=int, metavar="PIXELS",
                        help="predict an image in output tiles of this side, each with the context that the network "
                        "needs around it (default: the whole image, or, if that would take more than half of the free "
                        "memory, tiles that fit)")
    parser.add_argument("--average", action="store_true",
                        help="average the predictions for the 8 rotations and reflections of an image")
    parser.add_argument("--scales", type=scales, metavar="F,F",
                        help="average the predictions for an image resized by each of these factors, as in 0.75,1,1.25")
    parser.add_argument("--flip", action="store_true",
                        help="average the predictions for an image and its mirror image, at each scale")


def add_data(parser: argparse._ActionsContainer) -> None:
    """Add ``--data``, the spec of a data set."""
    parser.add_argument("--data", required=True, metavar="NAME[:PATH]",
                        help="the data set: generated images (cells, shape-boxes), images in a folder (bccd:PATH, "
                        "masks:PATH, yolo:PATH,val=0.2; `minicv data check PATH` says which name fits), or a function "
                        "of yours (MODULE:FUNCTION)")


def add_proposals(parser: argparse._ActionsContainer) -> None:
    """Add ``--proposals``, where a detector's proposals come from."""
    parser.add_argument("--proposals", metavar="FILE",
                        help="a checkpoint of faster_rcnn, whose RPN proposes the boxes (default: selective search, "
                        "for networks that need proposals)")
