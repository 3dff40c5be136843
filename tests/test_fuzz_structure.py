"""Structured faults of every reader (``tests/fuzz_structure.py``): a share of them, and, marked slow, all."""
import json

import pytest

from minicv.data import DataError
from tests.fuzz_structure import (
    Change,
    Reader,
    attempt,
    dumps,
    json_changes,
    json_values,
    line_changes,
    run,
    table,
    xml_changes,
)
from tests.structure_formats import READERS


def test_some_of_all_changes(tmp_path):
    counts, wrong = run(READERS, tmp_path, every=29)
    assert wrong == [] and len(counts) == len(READERS)
    assert sum(tried for tried, _, _ in counts.values()) >= 300 and all(refused for _, refused, _ in counts.values())


@pytest.mark.slow
def test_all_changes(tmp_path, capsys):
    counts, wrong = run(READERS, tmp_path)
    assert wrong == []
    assert sum(tried for tried, _, _ in counts.values()) >= 10_000
    assert all(refused and right for _, refused, right in counts.values())
    with capsys.disabled():
        print(f"\n{table(counts)}")


# ------------------------------------------------------------------------------------------------- what counts as wrong

@pytest.mark.parametrize("behavior, expected, result", [
    (None, None, "read right"), (None, "refused", "read, and should be refused"), (None, "same", "read right"),
    (DataError("FOLDER/a.json: no"), None, "refused by name"),
    (DataError("FOLDER/a.json: no"), "same", "refused, and should be read: FOLDER/a.json: no"),
    (DataError("no"), None, "its error names no file: no"),
    (DataError("FOLDER/a.json" + "y" * 3000), None, "its error has"), (KeyError("id"), None, "KeyError: 'id'"),
    (ValueError("FOLDER/a.json: no"), None, "ValueError: FOLDER/a.json: no"), (OSError("deep"), None, "OSError: deep"),
    (AssertionError("object 1 of a is lost"), None, "AssertionError: object 1 of a is lost"),
])
def test_what_counts_as_wrong(tmp_path, behavior, expected, result):
    def read(folder, file, change, before):
        if behavior is not None:
            raise type(behavior)(str(behavior.args[0]).replace("FOLDER", str(folder)))
    reader, change = Reader(None, None, read), Change((), "", None, expected)
    found = attempt(reader, tmp_path, tmp_path / "a.json", change, None)
    assert found.replace(str(tmp_path), "FOLDER").startswith(result)


def test_changes_by_hand():
    content = {"a": [1, {"b": "x"}]}
    changes = {(place, how): new for place, how, new, _ in json_values(content)}
    assert changes[("a", 1, "b"), "removed"] == {"a": [1, {}]}
    assert changes[("a", 0), "None"] == {"a": [None, {"b": "x"}]}
    assert changes[("a", 0), "repeated"] == {"a": [1, 1, {"b": "x"}]}
    assert changes[("a",), "renamed"] == {"a_": [1, {"b": "x"}]} and changes[("a",), "capitals"] == {"A": content["a"]}
    assert dumps(changes[("a", 1, "b"), "twice"]) == b'{"a": [1, {"b": "x", "b": null}]}'
    assert dumps("<1e400>") == b"1e400" and content == {"a": [1, {"b": "x"}]}


@pytest.mark.parametrize("changes, content, least", [
    (json_changes, json.dumps({"a": [1, {"b": "狗"}]}, ensure_ascii=False).encode(), 120),
    (xml_changes, "<annotation><name>狗</name></annotation>".encode(), 50), (line_changes, b"a\nb\n", 50)])
def test_changes_change(tmp_path, changes, content, least):
    """Most changed files differ from the one as it should be and from each other."""
    file, different = tmp_path / "file", set()
    made = list(changes(content))
    for change in made:
        change.apply(tmp_path, file)
        different.add(file.read_bytes())
    assert len(made) >= least and len(different) > 0.8 * len(made)
