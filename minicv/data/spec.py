"""The spec of a data set, as ``--data`` takes it: NAME[:PATH][,option=value ...].

The first colon ends the name, so a path may hold colons ("voc:C:\\images"). From the end, each ",option=value" is an
option; everything before them is the path, so it may hold commas. A folder whose own name ends like an option is given
with a slash behind it: "voc:a,b=c/".
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import suggest

OPTION = re.compile(r",\s*([A-Za-z_]\w*)\s*=([^,/\\]*)$")


class Spec(NamedTuple):
    """A spec in parts. ``str()`` returns it as text again."""

    name: str
    path: str
    options: dict[str, str]

    def __str__(self) -> str:
        options = "".join(f",{name}={value}" for name, value in self.options.items())
        return self.name + (f":{self.path}" if self.path else "") + options


def parse_spec(text: str) -> Spec:
    """Split a spec into its parts. Raise ``ValueError`` for an option that is given twice.

    >>> parse_spec("voc:C:\\\\my images, 2,val=0.2,seed=1")
    Spec(name='voc', path='C:\\\\my images, 2', options={'val': '0.2', 'seed': '1'})
    """
    rest, options = text, {}
    while match := OPTION.search(rest):
        if match[1] in options:
            raise ValueError(f"{text}: the option {match[1]} is given twice")
        options[match[1]] = match[2].strip()
        rest = rest[:match.start()]
    name, _, path = rest.partition(":")
    return Spec(name, path, dict(reversed(options.items())))


def option_values(spec: Spec, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return the options of a spec as values. Raise ``ValueError`` for an unknown option or a bad value.

    known: for each option a function that makes a value of its text, or raises ``ValueError`` with what it must be.
    """
    values = {}
    for name, text in spec.options.items():
        if name not in known:
            raise ValueError(f"{spec.name} has no option {name}; {suggest(name, known)}" if known else
                             f"{spec.name} takes no options, got {name}={text}")
        try:
            values[name] = known[name](text)
        except ValueError as error:
            raise ValueError(f"{name}={text}: must be {error}") from None
    return values


def share(text: str) -> float:
    """Return a share of the images, from 0 up to but without 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < 1:
        raise ValueError("a share of the images, from 0 to below 1, such as 0.2")
    return value


def whole(text: str) -> int:
    """Return a whole number, 0 or more."""
    if not re.fullmatch("[0-9]{1,18}", text):
        raise ValueError("a whole number, 0 or more")
    return int(text)


def yes_or_no(text: str) -> bool:
    """Return True for "yes", False for "no"."""
    if text not in ("yes", "no"):
        raise ValueError("yes or no")
    return text == "yes"
