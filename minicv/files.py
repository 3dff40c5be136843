"""Write files that are never half-written, and text that every program can read."""

import contextlib
import json
import math
import os
import pathlib
import secrets
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from .errors import UserError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Write a file completely or not at all, even if the process is killed.

    Yields a temporary path in the same folder for the body to write to. When the body ends, the bytes are forced to
    disk and the temporary file replaces ``path`` in one step; when it raises, the temporary file is removed and
    ``path`` is unchanged. Only a killed process leaves a temporary file behind (``.NAME.*.tmp``, safe to delete).

    Raises ``FileNotFoundError`` if the folder does not exist or the body wrote nothing, and an ``OSError`` that names
    the file if the disk is full.
    """
    path = pathlib.Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"atomic_write: {path} cannot be written, its folder does not exist")
    # Not tempfile.mkstemp, which makes files that only their owner may read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if not temporary.exists():
            raise FileNotFoundError(f"atomic_write: nothing was written to the temporary file for {path}")
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # the error of a full disk names no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def to_json(value: Any, **options: Any) -> str:
    """Return ``value`` as strict JSON, with null for NaN and infinity."""
    def plain(v: Any) -> Any:
        if isinstance(v, dict):
            return {key: plain(each) for key, each in v.items()}
        if isinstance(v, list | tuple):
            return [plain(each) for each in v]
        return None if isinstance(v, float) and not math.isfinite(v) else v
    return json.dumps(plain(value), allow_nan=False, **options)


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: "1 step", "2 steps"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def abbreviate(names: Iterable[str]) -> str:
    """Return the first five names and how many follow: "a, b, c, d, e and 2 more"."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def print_anything() -> None:
    """Make ``print`` escape characters that the output's encoding lacks, and write nowhere if the output is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a notebook's streams take any letter
            stream.reconfigure(errors="backslashreplace")


def one_line(text: object) -> str:
    """Return a text with its control characters, such as newlines in the names of files, as escapes."""
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in str(text))


def check_folder(path: pathlib.Path, option: str) -> None:
    """Raise ``UserError`` if ``path`` is not a folder and cannot become one, before hours of work fail there."""
    there = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise UserError(f"{option} {path}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise UserError(f"{option} {path}: {there} cannot be written")


def _sync_folder(folder: pathlib.Path) -> None:
    """Force the new name itself to disk, where the system can open a folder (Windows cannot)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
