"""The limits of files, functions and calls, and the direction of imports."""
import pytest

from tests import house


def test_no_file_function_or_call_is_too_large():
    assert [line for path in house.modules().values() for line in house.size_problems(path)] == []


def test_imports_go_one_way():
    assert house.import_problems() == []


def test_circles_are_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}
    assert house.circles(graph) == [["b", "c"]]
    assert house.circles({"a": {"b"}, "b": set()}) == []


@pytest.mark.parametrize(("source", "found"), [
    ("import minicv.nn", {"minicv.nn"}),
    ("from .conv import conv2d", {"minicv.ops.conv"}),
    ("from ..fast import layout", {"minicv.fast.layout"}),
    ("def f():\n    from .. import models", {"minicv.models"}),
    ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import models", set()),
])
def test_imports_are_found(tmp_path, source, found):
    path = tmp_path / "pad.py"
    path.write_text(source)
    assert house.imports("minicv.ops.pad", path, house.modules()) == found


def test_large_ones_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(house, "PACKAGE", tmp_path)
    path = tmp_path / "long.py"
    path.write_text("def f():\n" + "    f(1, 2, 3, 4, 5, 6)\n" * 60 + "zip(1, 2, 3, 4, 5, 6)\n" + "\n" * 400)
    problems = house.size_problems(path)
    assert len(problems) == 62 and "462 lines, 400 at most" in problems[0]
    assert any("f has 61 lines, 60 at most" in p for p in problems)
    assert sum("f is called with 6 positional arguments, 5 at most" in p for p in problems) == 60
