"""How much there is to read for each operation: ``python -m tests.benchmarks.reading [FUNCTION...]``.

For each Function of ``minicv/ops``: the lines from its class line, where the docstring states the equation, to the end
of ``backward``; the lines of code of ``forward`` and ``backward``; those of the functions of the same file that they
call; and the other files in which something lies that any of these use. ``autograd`` and ``backend`` do not count: who
reads an operation knows the first, and the second only selects NumPy or CuPy.

Exit code 1 if ``forward`` and ``backward`` of any have more than LARGEST lines of code together.
"""
from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import os
import pkgutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType

import minicv
from minicv import ops
from minicv.autograd import Function
from minicv.ops.conv import Windows

LARGEST = 30  # lines of code of forward and backward together
ARGUMENTS = {"windows": Windows}  # what a forward gets under this name, whose methods it calls
KNOWN = ("minicv.autograd", "minicv.backend")
ROOT = Path(minicv.__file__).parent


@dataclasses.dataclass
class Row:
    """What one reads of one operation; ``files`` are relative to ``minicv/``."""

    name: str
    file: str
    lines: int
    code: int
    helpers: int
    files: list[str]


def file_of(module: str) -> str:
    """A module's file, relative to ``minicv/``."""
    return Path(os.path.relpath(sys.modules[module].__file__, ROOT)).as_posix()


def tree_of(item: Callable | type) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(item))).body[0]


def code_lines(item: Callable | type) -> int:
    """The lines of a function or class that hold code, its first line included: no blanks, comments or docstrings."""
    tree = tree_of(item)
    docstrings = {line for node in ast.walk(tree)
                  if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None
                  for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    lines = textwrap.dedent(inspect.getsource(item)).splitlines()
    return sum(bool(text := line.strip()) and not text.startswith("#") and n not in docstrings
               for n, line in enumerate(lines, 1))


def plain_functions() -> list[type[Function]]:
    """Every Function of ``minicv/ops`` that has a forward and a backward, file by file, in the order of the code."""
    modules = [importlib.import_module(f"{ops.__name__}.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]
    found = [cls for module in modules for cls in vars(module).values()
             if isinstance(cls, type) and issubclass(cls, Function) and cls.__module__ == module.__name__
             and cls.forward is not Function.forward and cls.backward is not Function.backward]
    return sorted(found, key=lambda cls: (cls.__module__, inspect.getsourcelines(cls)[1]))


def used(cls: type[Function], item: Callable | type) -> Iterator[Callable | type]:
    """What the code of ``item`` uses: functions and classes of the project, methods of ``cls`` and of ARGUMENTS."""
    module = sys.modules[item.__module__]
    for node in ast.walk(tree_of(item)):
        value = None
        if isinstance(node, ast.Name):
            value = getattr(module, node.id, None)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = ARGUMENTS.get(node.value.id) or (
                cls if node.value.id in ("ctx", "self", "cls") else getattr(module, node.value.id, None))
            value = getattr(owner, node.attr, None) if inspect.isclass(owner) or inspect.ismodule(owner) else None
        value = inspect.unwrap(value) if callable(value) else value
        if isinstance(value, FunctionType | type) and f"{value.__module__}.".startswith(("minicv.", item.__module__)):
            yield value


def read(cls: type[Function]) -> Row:
    """What one reads of ``cls``. Methods that it inherits count as its own."""
    ways = [cls.forward, cls.backward]
    helpers, elsewhere, pending = [], {w.__module__ for w in ways}, list(ways)
    while pending:
        for item in used(cls, pending.pop()):
            if item.__module__ != cls.__module__:
                elsewhere.add(item.__module__)
            elif item not in [cls, *ways, *helpers]:
                helpers.append(item)
                pending.append(item)
    last = max((inspect.getsourcelines(w) for w in ways if w.__qualname__.startswith(cls.__qualname__ + ".")),
               key=lambda found: found[1], default=inspect.getsourcelines(cls))
    files = [file_of(module) for module in elsewhere - {cls.__module__} if not module.startswith(KNOWN)]
    return Row(cls.__name__, file_of(cls.__module__), last[1] + len(last[0]) - inspect.getsourcelines(cls)[1],
               sum(map(code_lines, ways)), sum(map(code_lines, helpers)), sorted(files))


def main(names: list[str]) -> int:
    classes = plain_functions()
    unknown = set(names) - {cls.__name__ for cls in classes}
    if unknown:
        print(f"no Function {', '.join(sorted(unknown))} in minicv/ops", file=sys.stderr)
        return 2
    rows = [read(cls) for cls in classes if not names or cls.__name__ in names]
    print(f"{'Function':<30}{'file':<26}{'lines':>6}{'code':>6}{'helpers':>9}   other files")
    for r in rows:
        print(f"{r.name:<30}{r.file:<26}{r.lines:>6}{r.code:>6}{r.helpers:>9}   {', '.join(r.files) or '-'}")
    codes = sorted(r.code for r in rows)
    print(f"\n{len(rows)} Functions: code of forward + backward: median {codes[len(codes) // 2]}, largest {codes[-1]}; "
          f"{sum(not r.files for r in rows)} need no other file, {sum(len(r.files) > 1 for r in rows)} more than one")
    large = [r.name for r in rows if r.code > LARGEST]
    if large:
        print(f"more than {LARGEST} lines: {', '.join(large)}")
    return 1 if large else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
