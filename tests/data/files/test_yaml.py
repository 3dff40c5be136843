"""The few values of a YAML file, against what PyYAML makes of them, written out by hand."""
import pytest

from minicv.data import DataError
from minicv.data.files.yaml import read_yaml


def read(tmp_path, text, keys=("names",)):
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    return read_yaml(tmp_path / "data.yaml", keys)


@pytest.mark.parametrize(("text", "value"), [
    ("names: [a, b c, 狗]", ["a", "b c", "狗"]),
    ("names: ['a', \"b, c\", 'it''s', d]", ["a", "b, c", "it's", "d"]),
    ("names: [a, b,\n  c,\n  d]\n", ["a", "b", "c", "d"]),
    ("names: [a, b, ]", ["a", "b"]),
    ("names:\n- a\n- b # comment\n", ["a", "b"]),
    ("names:\n  - 'a #1'\n  - b#2\n", ["a #1", "b#2"]),
    ("names:\n  0: a\n  1: traffic light\n", {0: "a", 1: "traffic light"}),
    ("names: {0: a, 1: 'b'}", {0: "a", 1: "b"}),
    ('names: ["\\u72d7", "a\\"b"]', ["狗", 'a"b']),
    ("names: a", "a"), ("names:", None), ("names: # nothing\n", None), ("other: 1", "missing"), ("names: []", []),
    ("---\n# first\nnames: [driver's seat]\n", ["driver's seat"]),
    ("train: x\n\nnames:\n\n  0: a\n\n  1: b\nother:\n  deep:\n    - 1\n", {0: "a", 1: "b"}),
    ("download: |\n  names: [x]\n  a: b: c\nnames: [a]", ["a"]),
])
def test_values(tmp_path, text, value):
    assert read(tmp_path, text).get("names", "missing") == value


@pytest.mark.parametrize(("text", "message"), [
    ("names: [a\n", "no end of the \\["), ("names: [[a], b]", "a list in a list"), ("names: [a, {b: c}]",
     "a list in a l"),
    ("names: !!set {a}", "must be text"), ("names: &x [a]", "must be text"), ("names: *x", "must be text"),
    ("names: |\n  a\n", "must be text.* and further lines"), ("names: a\n  b\n", "and further lines"),
    ("names: {a: b}", "each number once"), ("names:\n  0: a\n  0: b\n", "each number once"),
    ("names:\n  - a\n    - b\n", "not indented alike"), ("names:\n  - a: b\n", "must be text"),
    ("names: ['a]", "must be text|no end"), ("names: [a, , b]", "must be text"), ("names: [\"\\x\"]", "must be text"),
    ("names: [a]\nnames: [b]", "line 2: names occurs twice"), ("just text", "line 1: expected KEY: VALUE"),
    ('{"names": ["a"]}', "line 1: expected KEY: VALUE"), ("  indented: 1", "line 1: expected KEY: VALUE"),
])
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"data\.yaml: .*({message})"):
        read(tmp_path, text)
