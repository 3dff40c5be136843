"""Writing files so that a reader never meets half of one, and that other programs can read."""

import contextlib
import json
import math
import os
import pathlib
import secrets
import sys
from collections.abc import Iterator
from typing import Any

from .errors import UserError


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Write a file completely or not at all, even if the process is killed meanwhile.

    Yields a temporary path in the same folder for the body to write to. When the body ends well, the
    bytes are forced to disk and the temporary file takes the place of `path` in one step; when it
    raises, the temporary file is removed and `path` stays as it was. Only a killed process can
    leave a temporary file behind (`.NAME.*.tmp`, safe to delete).

    Raises FileNotFoundError if the folder does not exist or the body wrote nothing, and OSError, which names the
    file, where the disk is full.
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
        if error.filename is None and error.errno is not None:  # a full disk does not say which file was too much
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def to_json(value: Any, **options: Any) -> str:
    """``value`` as strict JSON, which knows no NaN and no infinity: null stands for them."""
    def plain(v: Any) -> Any:
        if isinstance(v, dict):
            return {key: plain(each) for key, each in v.items()}
        if isinstance(v, list | tuple):
            return [plain(each) for each in v]
        return None if isinstance(v, float) and not math.isfinite(v) else v
    return json.dumps(plain(value), allow_nan=False, **options)


def print_anything() -> None:
    """Let ``print`` write a letter that the output's encoding lacks as an escape, instead of failing there; and write
    nowhere, where the caller has closed the output."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - until the process ends
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):  # a notebook's streams take any letter
            stream.reconfigure(errors="backslashreplace")


def one_line(text: object) -> str:
    """A text whose control characters, line ends among them, are written as escapes: names of files may have any."""
    return "".join(c if c.isprintable() or c == " " else c.encode("unicode_escape").decode() for c in str(text))


def check_folder(path: pathlib.Path, option: str) -> None:
    """``UserError`` if ``path`` is no folder and none can be made there, before hours of work end there."""
    there = next(each for each in (path, *path.parents) if each.exists())
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
