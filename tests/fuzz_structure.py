"""Files changed by structure, and what the readers make of them: ``python -m tests.fuzz_structure [--only NAME]``.

``tests/fuzz.py`` changes bytes; here every value of a JSON file, every element of an XML file, every line of a list and
every file name of a layout is replaced, removed, repeated or renamed, one at a time, and whole files are written in
other encodings. After each change the reader must give the right answer, or one error of its class that names the file.
Right is: what was not changed comes out as before, in the same order; what is lost is named in ``problems``. And
``data check`` must not end early, must name a fault where the reader refuses or reports one, and after 0 faults every
sample can be read and made into a training example. ``tests/structure_readers.py`` and ``tests/structure_formats.py``
know the readers.
"""
from __future__ import annotations

import argparse
import copy
import json
import re
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from minicv.data import DataError, DataWarning
from tests.fuzz import SECONDS, Slow


class Change(NamedTuple):
    """One changed file. ``place``: where, as a path through the file; ``how``: what was done. ``apply`` makes it, given
    the folder and the file. ``expected``: "same" where the meaning did not change, "refused" where it cannot be known,
    the lines to be read from a list; None if both may be right.
    """

    place: tuple
    how: str
    apply: Callable[[Path, Path], None]
    expected: Any = None


class Reader(NamedTuple):
    """``make(folder)`` writes a small data set and returns the file to change; ``changes(content)`` are those to try;
    ``read(folder, file, change, before)`` raises ``error``, or AssertionError for a wrong answer, or returns what was
    read: first of the file as it is, with ``before`` None."""

    make: Callable[[Path], Path]
    changes: Callable[[bytes], Iterator[Change]]
    read: Callable[[Path, Path, Change | None, Any], Any]
    error: type[Exception] = DataError


def write(content: bytes) -> Callable[[Path, Path], None]:
    return lambda folder, file: file.write_bytes(content)


# ---------------------------------------------------------------------------------------------------------
# JSON
# ---------------------------------------------------------------------------------------------------------
VALUES = [None, "", "x", "1", "狗", "\ud800", 0, 7, -1, 2.5, 10 ** 12, 10 ** 400, float("nan"), float("inf"), "<1e400>",
          True, False, [], [1], [[]], [None], {}, {"a": 1}, "<deep>"]


def dumps(value: Any) -> bytes:
    """JSON, with some that ``json`` does not write: see VALUES and ``json_changes``."""
    text = json.dumps(value).replace('"<1e400>"', "1e400").replace('"<deep>"', "[" * 3000 + "]" * 3000)
    return re.sub(r"<twice>", "", text).encode()


def places(value: Any, place: tuple = ()) -> Iterator[tuple]:
    """The paths to all values inside of a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*place, key)
        yield from places(each, (*place, key))


def at(value: Any, place: tuple) -> Any:
    for key in place:
        value = value[key]
    return value


def json_values(content: Any) -> Iterator[tuple[tuple, str, Any, Any]]:
    """(place, how, the changed content, "same" where it means the same) for every value of a JSON file."""
    def changed(place, change):
        new = copy.deepcopy(content)
        change(at(new, place[:-1]), place[-1])
        return new
    for value in VALUES:
        yield (), f"the file is {value!r:.20}", value, None
    for place in places(content):
        old, last = at(content, place), place[-1]

        def rename(name, place=place):
            return changed(place, lambda parent, key: parent.update({name: parent.pop(key)}))
        for value in VALUES:
            if value != old or type(value) is not type(old):
                def put(parent, key, value=value):
                    parent[key] = value
                yield place, f"{value!r:.20}", changed(place, put), None
        yield place, "removed", changed(place, lambda parent, key: parent.pop(key)), None
        if isinstance(last, int):
            yield place, "repeated", changed(place, lambda parent, key: parent.insert(key, parent[key])), None
        else:
            yield place, "renamed", rename(f"{last}_"), None
            yield place, "capitals", rename(last.upper()), None
            yield place, "twice", changed(place, lambda parent, key: parent.update({f"<twice>{key}": None})), "refused"
        if isinstance(old, dict):
            yield place, "more", changed(place, lambda parent, key: parent[key].update(note="more")), "same"
        if type(old) is int:
            as_float = changed(place, lambda parent, key: parent.__setitem__(key, float(parent[key])))
            yield place, "float", as_float, "same"


def json_changes(content: bytes) -> Iterator[Change]:
    """Every value changed, two documents, trailing text, and encodings: JSON is Unicode."""
    text = content.decode()
    for place, how, new, expected in json_values(json.loads(text)):
        yield Change(place, how, write(dumps(new)), expected)
    for ending in ("x", "]", "}", text, "\0", ","):
        yield Change((), f"ends with {ending:.5}", write((text + ending).encode()))
    for cut in range(0, len(text), max(1, len(text) // 20)):
        yield Change((), f"cut at {cut}", write(text[:cut].encode()))
    yield from encoded(text, ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ["gbk", "euc-jp", "big5"])


def encoded(text: str, known: list[str], unknown: list[str]) -> Iterator[Change]:
    """``known``: encodings to be read; ``unknown``: those that nothing in the file tells; they must not be guessed."""
    for encoding in known:
        yield Change((), encoding, write(text.encode(encoding)), "same")
    for encoding in unknown:
        if not text.isascii():
            yield Change((), encoding, write(text.encode(encoding)), "refused")


# ---------------------------------------------------------------------------------------------------------
# XML
# ---------------------------------------------------------------------------------------------------------
TEXTS = ["", " ", "x", "0", "-1", "2.5", "7", "1e400", "nan", "inf", "99999999999", "1_0", "１", "true", "狗",
         "a\nb", "\x7f"]
DECLARED = ["gb2312", "gbk", "gb18030", "big5", "shift_jis", "euc-jp", "utf-16", "utf-8"]


def xml_changes(content: bytes) -> Iterator[Change]:
    """Every element removed, repeated, emptied, renamed, wrapped, its text replaced; encodings; entities."""
    text = content.decode()
    count = len(list(ElementTree.fromstring(text).iter()))
    for k in range(count):
        for how, change in XML_CHANGES.items():
            root = ElementTree.fromstring(text)
            parents = {child: parent for parent in root.iter() for child in parent}
            element = list(root.iter())[k]
            place = (*path_of(element, parents), element.tag)
            if change(element, parents.get(element)) is not False:
                yield Change(place, how, write(ElementTree.tostring(root, "utf-8")))
    for encoding in DECLARED:
        yield Change((), f"declared {encoding}", write(
            f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)), "same")
    for encoding, expected in {"gbk": "same", "euc-jp": "same", "utf-16": "same", "no-such-8": "refused",
                               "hex": "refused", "": "refused", "punycode": "refused"}.items():
        yield Change((), f"declared {encoding}, written as UTF-8", write(
            f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode()), expected)
    yield from encoded(text, ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ["gbk", "euc-jp", "big5"])
    for how, new in {"entities": f'<!DOCTYPE annotation [<!ENTITY a "b">]>{text}', "two roots": text * 2, "nothing": "",
                     "JSON": "{}", "cut": text[:-5], "other root": f"<annotations>{text}</annotations>"}.items():
        yield Change((), how, write(new.encode()), "refused")


def path_of(element, parents) -> tuple:
    """The numbers of an element and of those around it among their siblings."""
    if element not in parents:
        return ()
    return (*path_of(parents[element], parents), list(parents[element]).index(element))


def _rename(name: Callable[[str], str]) -> Callable:
    def change(element, parent):
        element.tag = name(element.tag)
    return change


def _text(value: str) -> Callable:
    def change(element, parent):
        if len(element):
            return False
        element.text = value
    return change


def _empty(element, parent):
    element.clear()


def _remove(element, parent):
    return False if parent is None else parent.remove(element)


def _repeat(element, parent):
    return False if parent is None else parent.insert(list(parent).index(element), copy.deepcopy(element))


def _wrap(element, parent):
    if parent is None:
        return False
    around = ElementTree.Element("group")
    parent[list(parent).index(element)] = around
    around.append(element)


XML_CHANGES = {"removed": _remove, "repeated": _repeat, "emptied": _empty, "wrapped": _wrap,
               "renamed": _rename(lambda tag: f"{tag}x"), "capitals": _rename(str.upper), "title": _rename(str.title),
               "namespace": _rename(lambda tag: f"{{http://example.org}}{tag}"),
               **{f"text {text!r}": _text(text) for text in TEXTS}}


# ---------------------------------------------------------------------------------------------------------
# Lists
# ---------------------------------------------------------------------------------------------------------
def line_changes(content: bytes) -> Iterator[Change]:
    """Lines removed, repeated, replaced, joined; line ends; encodings. ``expected``: the lines that are to be read."""
    lines = content.decode().splitlines()
    for k, line in enumerate(lines):
        rest = lines[:k], lines[k + 1:]
        yield Change((k,), "removed", write("\n".join([*rest[0], *rest[1]]).encode()), [*rest[0], *rest[1]])
        yield Change((k,), "repeated", write("\n".join([*lines, line]).encode()), "refused")
        yield Change((k,), "blank around", write("\n".join([*rest[0], f" \t{line} ", "", *rest[1]]).encode()), lines)
        for other in ("x", "..", ".", "/", "\0", "a\0b", "狗狗", "x" * 5000, line + line, f"{line[:-1]}?", "*", "-1",
                      '{"a": 1}', line.upper() + "1", "\x01", "~", line + " 1", line + ".x"):
            yield Change((k,), f"{other!r:.20}", write("\n".join([*rest[0], other, *rest[1]]).encode()), "refused")
    for how, new in {"CRLF": "\r\n".join(lines), "CR": "\r".join(lines),
                     "blank lines": "\n\n" + "\n\n".join(lines) + "\n \n"}.items():
        yield Change((), how, write(new.encode()), lines)
    for how, new in {"nothing": "", "blanks": " \n\n ", "one line": " ".join(lines), "zeros": "\0" * 9}.items():
        yield Change((), how, write(new.encode()), "refused")
    text = "\n".join(lines)
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        yield Change((), encoding, write(text.encode(encoding)), lines)
    yield Change((), "bytes", write(b"\xff\xfe\xfd"), "refused")


# ---------------------------------------------------------------------------------------------------------
# The corpus
# ---------------------------------------------------------------------------------------------------------
def attempt(reader: Reader, folder: Path, file: Path, change: Change, before: Any) -> str:
    """"read right", "refused by name", or what went wrong."""
    def alarm(*_):
        raise Slow
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", DataWarning)
            reader.read(folder, file, change, before)
        return "read right" if change.expected != "refused" else "read, and should be refused"
    except reader.error as error:
        message = str(error)
        if change.expected not in (None, "refused"):
            return f"refused, and should be read: {message}"
        if str(folder) not in message:
            return f"its error names no file: {message}"
        short = len(message) < 2000 or "x" * 1000 in message  # a long file name is the file's
        return "refused by name" if short else f"its error has {len(message)} letters"
    except Slow:
        return f"not done after {SECONDS} s"
    except BaseException as error:  # AssertionError, KeyError, RecursionError, ...
        return f"{type(error).__name__}: {error!s:.300}"
    finally:
        signal.alarm(0)


def run(readers: dict[str, Reader], out: Path, every: int = 1) -> tuple[dict[str, list[int]], list[str]]:
    """Try every ``every``-th change of each reader: files tried, refused and right of each, and what went wrong."""
    counts, wrong = {}, []
    for name, reader in readers.items():
        folder = out / name.replace(" ", "_")
        folder.mkdir(parents=True)
        file = reader.make(folder)
        content, kept = file.read_bytes() if file.is_file() else b"", out / f"{folder.name}_kept"
        shutil.copytree(folder, kept)
        before = reader.read(folder, file, None, None)
        counts[name] = [0, 0, 0]
        for change in list(reader.changes(content))[::every]:
            if file.is_file():
                file.write_bytes(content)
            else:
                shutil.rmtree(folder)
                shutil.copytree(kept, folder)
            change.apply(folder, file)
            result = attempt(reader, folder, file, change, before)
            counts[name][0] += 1
            counts[name][1] += result == "refused by name"
            counts[name][2] += result == "read right"
            if result not in ("refused by name", "read right"):
                wrong.append(f"{name}, {'/'.join(map(str, change.place)) or 'whole'}, {change.how}: {result}")
    return counts, wrong


def table(counts: dict[str, list[int]]) -> str:
    """Markdown: a row for each reader, and the sums."""
    rows = {**counts, "all": [sum(column) for column in zip(*counts.values(), strict=True)]}
    return "\n".join(["| reader | files tried | refused by name | read right |", "|---|---|---|---|",
                      *(f"| {name} | {t:,} | {refused:,} | {right:,} |" for name, (t, refused, right) in rows.items())])


if __name__ == "__main__":
    from tests.structure_formats import READERS
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--only", choices=list(READERS), action="append")
    arguments.add_argument("--every", type=int, default=1, metavar="N", help="each N-th change only")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="minicv-structure-") as place:
        counts, wrong = run({n: READERS[n] for n in options.only or READERS}, Path(place), options.every)
    print("\n".join(wrong))
    print(table(counts))
    print(f"{sum(c[0] for c in counts.values())} changed files of {len(counts)} readers, {len(wrong)} wrong")
    sys.exit(1 if wrong else 0)
