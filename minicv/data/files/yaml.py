"""Read a few values of a YAML file: text, lists of text, and dicts from whole numbers to text.

YAML is a large language, and the files of data sets use little of it. The values asked for are read strictly, and
refused if they are written in any other way; the rest of the file is skipped.
"""
from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Sequence
from typing import Any

from ..errors import DataError
from .text import read_text

Value = str | list[str] | dict[int, str] | None
KEY = re.compile(r"([A-Za-z_][\w-]*)\s*:(?:\s+(.*))?$")
NUMBERED = re.compile(r"([0-9]{1,9})\s*:(?:\s+(.*))?$")
SPECIAL = "&*!|>%@`{}[]\"'"  # plain text does not begin with one of these
FORMS = 'text, [TEXT, ...], lines of "- TEXT", or lines of "NUMBER: TEXT"'


def read_yaml(path: str | os.PathLike, keys: Collection[str]) -> dict[str, Value]:
    """Return the values of these keys at the top level of a file, None for an empty one.

    Raises ``DataError`` for a key that occurs twice, and for a value that is not text, a list of text, or a dict from
    whole numbers to text.
    """
    blocks: dict[str, tuple[str, list[str]]] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        line = without_comment(line).rstrip()
        if not line or line == "---":
            continue
        if line[0] in " \t-" and blocks:
            list(blocks.values())[-1][1].append(line)
        elif not (match := KEY.match(line)):
            raise DataError(f"{path}: line {number}: expected KEY: VALUE, got {line[:60]!r}")
        elif match[1] in blocks:
            raise DataError(f"{path}: line {number}: {match[1]} occurs twice; keep one")
        else:
            blocks[match[1]] = (match[2] or "").strip(), []
    return {key: _value(f"{path}: {key}", *blocks[key]) for key in keys if key in blocks}


def in_quotes(text: str) -> list[bool]:
    """Return for each character whether it lies in quotes; an apostrophe within a word opens none."""
    found, quote = [], ""
    for i, c in enumerate(text):
        before = text[:i].rstrip()[-1:]
        if quote:
            found.append(True)
            if c == quote and not (quote == '"' and text[i - 1] == "\\"):
                quote = ""
        else:
            if c in "\"'" and (before in ("", "[", "{", ",", ":", "-") or i and text[i - 1] == c):
                quote = c
            found.append(bool(quote))
    return found


def without_comment(line: str) -> str:
    """Return a line up to a "#" that follows a blank."""
    quoted = in_quotes(line)
    for i, c in enumerate(line):
        if c == "#" and not quoted[i] and (i == 0 or line[i - 1] in " \t"):
            return line[:i]
    return line


def _value(where: str, first: str, more: Sequence[str]) -> Value:
    if first[:1] in ("[", "{"):
        text = " ".join([first, *(line.strip() for line in more)])
        if text[-1] != {"[": "]", "{": "}"}[text[0]]:
            raise DataError(f"{where}: no end of the {text[0]} in {text[:60]!r}")
        items = _items(where, text[1:-1])
        return [_text(where, item) for item in items] if text[0] == "[" else _numbered(where, items)
    if first and more:
        raise DataError(f"{where}: must be {FORMS}, got {first[:60]!r} and further lines")
    if first:
        return None if first in ("~", "null") else _text(where, first)
    if not more:
        return None
    if len({len(line) - len(line.lstrip()) for line in more}) > 1:
        raise DataError(f"{where}: its lines are not indented alike; must be {FORMS}")
    lines = [line.strip() for line in more]
    if all(line.startswith("- ") for line in lines):
        return [_text(where, line[2:].strip()) for line in lines]
    return _numbered(where, lines)


def _items(where: str, text: str) -> list[str]:
    """Return what stands between the commas; a comma may also end the last."""
    quoted, items = in_quotes(text), [""]
    for c, inside in zip(text, quoted, strict=True):
        if c == "," and not inside:
            items.append("")
        elif c in "[]{}" and not inside:
            raise DataError(f"{where}: a list in a list; must be {FORMS}")
        else:
            items[-1] += c
    items = [item.strip() for item in items]
    return items if items[-1] else items[:-1]


def _numbered(where: str, lines: Sequence[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in lines:
        match = NUMBERED.match(line)
        if not match or int(match[1]) in found:
            raise DataError(f"{where}: must be {FORMS}, each number once, got {line[:60]!r}")
        found[int(match[1])] = _text(where, (match[2] or "").strip())
    return found


def _text(where: str, text: str) -> str:
    """Return text without its quotes."""
    value: Any = text
    if text[:1] == '"':
        try:
            value = json.loads(text)
        except ValueError:
            value = None
    elif text[:1] == "'":
        inner = text[1:-1].replace("''", "")
        value = text[1:-1].replace("''", "'") if len(text) > 1 and text[-1] == "'" and "'" not in inner else None
    elif not text or text[0] in SPECIAL or ": " in text or text.startswith("- ") or text.endswith(":"):
        value = None
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: must be {FORMS}, got {text[:60]!r}")
    return value.strip()
