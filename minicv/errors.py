"""Errors that are the user's: the command line prints their message alone. Any other error is a fault of the program,
and shows where it happened."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UserError(ValueError):
    """A file, an option or a value that cannot be used; the message names it and says what would work."""


@contextlib.contextmanager
def blame_user(what: str = "") -> Iterator[None]:
    """Inside, a ``ValueError`` is about what the user gave: a ``UserError``, with ``what`` and a colon before its text.

    An error from within an operation carries a note, and stays as it is.
    """
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        if getattr(error, "__notes__", None):
            raise
        raise UserError(f"{what}: {error}" if what else str(error)) from error
