"""Read text, JSON and XML files in the encoding they were written in. Raise ``DataError`` if it is unknown.

A byte order mark decides first, then the encoding that an XML file declares. Otherwise text is UTF-8, or UTF-16 if it
has zero bytes. Labeling tools declare the narrow encoding of a family and write the wide one (gb2312 and gb18030), so
the wide one is tried second. A file that does not fit its declared encoding is then tried as UTF-8.
"""
from __future__ import annotations

import codecs
import json
import os
import re
import stat
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import DataError

MAX_BYTES = {"list": 1 << 28, "text": 1 << 28, "XML": 1 << 26, "JSON": 1 << 32}
"""The largest files that are read. COCO's largest JSON has 0.5 GB, a VOC annotation a few kilobytes."""

MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32-le", codecs.BOM_UTF32_BE: "utf-32-be",
         codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # UTF-32 marks begin with UTF-16 marks
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "euc_jp": "euc_jis_2004",
         "big5": "cp950", "cp950": "big5hkscs"}
NO_ENCODINGS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape"}  # Python codecs not for whole files
DECLARED = re.compile(r"<\?xml[^>]*?\sencoding\s*=\s*[\"']([^\"']*)[\"']")


def read_text(path: str | os.PathLike, kind: str = "text") -> str:
    """Return the text of a file, without a byte order mark. Raise ``DataError`` if it is missing, too long or not text.

    kind: "text", "list", "JSON", or "XML", which declares its own encoding.
    """
    try:
        about = os.stat(path)
        if not (stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode)):
            raise DataError(f"{path}: is not a file but a pipe or a device")
        if about.st_size > MAX_BYTES[kind]:
            raise DataError(f"{path}: {about.st_size} bytes; a {kind} file may have {MAX_BYTES[kind]}. Is it the right "
                            "file?")
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason})") from error
    text = _decode(path, content, kind)
    if "\0" in text:
        raise DataError(f"{path}: not readable as {kind} (it holds zero bytes); write or download it again")
    return text


def _decode(path: str | os.PathLike, content: bytes, kind: str) -> str:
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return _decode_first(path, content[len(mark):], (name,), kind, "its byte order mark says")
    if len(content) > 3 and 0 in content[:2]:  # JSON and XML begin with ASCII
        name = "utf-16-be" if content[0] == 0 else "utf-16-le"
        return _decode_first(path, content, (name,), kind, "its zero bytes say")
    declared = DECLARED.match(content[:200].decode("latin-1").lstrip()) if kind == "XML" else None
    if declared is None:
        return _decode_first(path, content, ("utf-8",), kind, "no encoding declared, so read as")
    try:
        name = codecs.lookup(declared[1]).name
        if name.replace("_", "-") in NO_ENCODINGS:
            raise LookupError(name)
        "".encode(name)  # LookupError for bytes-to-bytes codecs such as "hex"
    except (LookupError, ValueError) as error:
        raise DataError(f"{path}: declares the encoding {declared[1]!r}, which is unknown; save it as UTF-8") from error
    if name.startswith(("utf-16", "utf-32")):  # impossible: its declaration was read byte by byte
        name = "utf-8"
    return _decode_first(path, content, (*_family(name), "utf-8"), kind, f"declared as {declared[1]!r}, read as")


def _family(name: str) -> tuple[str, ...]:
    """Return the codecs to try for a declared one. Most files declared as Latin-1 are cp1252, which fills its gaps."""
    if name == "iso8859-1":
        return "cp1252", name
    names = [name]
    while names[-1] in WIDER:
        names.append(WIDER[names[-1]])
    return tuple(names)


def _decode_first(path: str | os.PathLike, content: bytes, names: tuple[str, ...], kind: str, why: str) -> str:
    """Decode the content with the first of these encodings that fits; ``why`` explains the choice in the error."""
    errors = []
    for name in names:
        try:
            return content.decode(name)
        except UnicodeDecodeError as error:
            errors.append(error)
    raise DataError(f"{path}: not readable as {kind} ({why} {names[0]}; byte {errors[0].start} does not fit); "
                    "save it as UTF-8") from errors[0]


def read_json(path: str | os.PathLike) -> Any:
    """Return the content of a JSON file. Raise ``DataError`` also for a name repeated in one object."""
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise ValueError(f"{twice[:80]!r} occurs twice in the object that begins {str(pairs)[:80]}")
        return content
    text = read_text(path, "JSON")
    try:
        return json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        raise DataError(f"{path}: not readable as JSON (nested too deeply); write or download it again") from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}); write or download it again") from error


def read_xml(path: str | os.PathLike) -> ElementTree.Element:
    """Return the root of an XML file. Entities are refused: they can fill the memory or fetch other files."""
    text = read_text(path, "XML")
    if "<!ENTITY" in text:
        raise DataError(f"{path}: declares entities, which an annotation does not need and which are unsafe; remove "
                        "<!ENTITY ...>")
    try:
        return ElementTree.fromstring(text.lstrip())
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path}: not a readable annotation ({error}); write or download it again") from error
