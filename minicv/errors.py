"""Errors of the user: the command prints their message in one line. Any other error is one of the program and keeps its
traceback."""
from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn


class UserError(ValueError):
    """A file, an option or a value that cannot be used; the message names it and says what would work."""


@contextlib.contextmanager
def blame_user(what: str = "") -> Iterator[None]:
    """Inside, turn a ``ValueError`` into a ``UserError`` whose message starts with ``what`` and a colon.

    An error from within an operation carries a note and stays as it is.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        if getattr(error, "__notes__", None):
            raise
        raise UserError(f"{what}: {error}" if what else str(error)) from error


def suggest(name: str, known: Iterable[str]) -> str:
    """Return what an error says after an unknown name: the known name most like it, or else all.

    >>> suggest("Unett", ["unet", "yolo"]), suggest("x", ["unet", "yolo"])
    ('did you mean unet?', 'there are: unet, yolo')
    """
    folded = {each.lower(): each for each in known}
    close = difflib.get_close_matches(name.lower(), folded, n=1)
    return f"did you mean {folded[close[0]]}?" if close else f"there are: {', '.join(folded.values())}"


def exit_on_interrupt(number: int, frame: object) -> NoReturn:
    """Answer Ctrl-C while the command's modules are being imported: one line, exit code 130."""
    print("minicv: interrupted", file=sys.stderr)
    sys.exit(130)
