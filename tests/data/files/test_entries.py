"""Values of a JSON file: taken if they are what they should be, else refused with file and place."""
import json
import re

import pytest

from minicv.data.errors import DataError
from minicv.data.files.entries import Entry, as_int, short_repr, unique


def entry(text='{"id": 17, "n": 30.0, "f": 30.5, "s": "30", "t": true, "z": 0, "box": [1, 2.5, 3, 4]}'):
    return Entry(json.loads(text), "a.json", "images[3]")


def test_what_is_right_is_taken():
    e = entry()
    assert e.whole("n") == 30 and type(e.whole("n")) is int and e.whole("none", default=5) == 5
    assert e.number("f") == 30.5 and e.text("s") == "30" and e.numbers("box", 4) == [1, 2.5, 3, 4]
    assert e.flag("t") is True and e.flag("z") is False and e.flag("none", 0) is False
    assert e.identifier("n") == 30 and e.identifier("s") == "30"
    assert str(e) == "images[3] (id 17)" and str(entry("{}")) == "images[3]"


BAD = ["null", "true", '"30"', "30.5", "NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400, "-1", "[30]", "{}"]


@pytest.mark.parametrize("value", BAD)
def test_whole_numbers(value):
    with pytest.raises(DataError, match=re.escape("a.json: images[3]: n must be a whole number from 0 to 1000000000")):
        entry(f'{{"n": {value}}}').whole("n", 0)


@pytest.mark.parametrize("value", [v for v in BAD if v != "30.5"])
def test_numbers(value):
    with pytest.raises(DataError, match=re.escape("a.json: images[3]: n must be a number from 0 to 1e+09, got ")):
        entry(f'{{"n": {value}}}').number("n")


@pytest.mark.parametrize("value", ["null", "2", "-1", "0.5", '"0"', '"1"', "NaN", "[]", "{}", '"false"'])
def test_flags(value):
    with pytest.raises(DataError, match=r"a\.json: images\[3\]: n must be 0 or 1, got "):
        entry(f'{{"n": {value}}}').flag("n")


@pytest.mark.parametrize("value", ["null", "1", "true", '""', '" "', r'"a\u0000b"', r'"\ud800"', r'"\n"', "[]", "{}"])
def test_text(value):
    with pytest.raises(DataError, match=r"a\.json: images\[3\]: n must be text of 1 to 1000 characters, none of them "
                                        "a control character, got ") as error:
        entry(f'{{"n": {value}}}').text("n")
    str(error.value).encode("utf-8")  # can be printed


@pytest.mark.parametrize("value", ["null", "true", '""', "1.5", "NaN", "1e400", "[]", "{}"])
def test_identifiers(value):
    with pytest.raises(DataError, match="n must be a whole number, or text, got"):
        entry(f'{{"n": {value}}}').identifier("n")


@pytest.mark.parametrize("value", ["null", "[1, 2, 3]", "[1, 2, 3, 4, 5]", '[1, 2, 3, "4"]', "[1, 2, 3, null]", "5",
                                   "[1, 2, 3, true]", "[1, 2, 3, NaN]", "[1, 2, 3, 1e10]", '"1234"', "{}", "[[]]"])
def test_lists_of_numbers(value):
    with pytest.raises(DataError, match=re.escape("images[3]: n must be 4 numbers up to 1e+09, got ")):
        entry(f'{{"n": {value}}}').numbers("n", 4)


def test_what_is_missing_or_no_object():
    with pytest.raises(DataError, match=r"a\.json: images\[3\] \(id 17\): has no width; it has 'id', 'n', 'f'"):
        entry().whole("width")
    with pytest.raises(DataError, match=r'a\.json: images\[3\]: must be an object {"name": value, ...}, got \[1\]'):
        entry("[1]")
    with pytest.raises(DataError, match=r"images\[3\]: n must be a list of objects, got 3"):
        entry('{"n": 3}').entries("n")
    with pytest.raises(DataError, match=r"images\[3\], n\[1\]: must be an object"):
        entry('{"n": [{}, 7]}').entries("n")


def test_unique():
    a, b = (Entry({"id": 4}, "a.json", f"images[{k}]") for k in range(2))
    unique([a, b], [4, 5], "id")
    with pytest.raises(DataError, match=r"a\.json: images\[1\] \(id 4\): has the same id as images\[0\] \(id 4\), 4; "
                                        "each needs its own"):
        unique([a, b], [4, 4], "id")


def test_values_in_messages_are_short():
    deep = [[]]
    for _ in range(3000):
        deep = [deep]
    assert short_repr(deep) == "a list nested deeply" and short_repr(list(range(1000))).endswith("...")
    assert len(short_repr("x" * 10 ** 6)) == 80 and as_int(True) is None and as_int(-3.0) == -3
