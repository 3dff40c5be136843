"""Image files of every kind through the readers (``tests/fuzz_images.py``): a sample, and all in a slow test."""
import re
from collections import Counter

import numpy as np
import pytest

from minicv.data import DataError
from tests import fuzz_images
from tests.image_corpus import File


def test_a_sample_is_read_right_or_refused_by_name(tmp_path, capfd):
    counts = fuzz_images.main(tmp_path, every=97)
    out = capfd.readouterr().out  # of libtiff, too
    assert not [k for k in counts if k[1] == "wrong"], out
    assert len({reader for reader, _ in counts}) == 12 and sum(counts.values()) > 500
    assert sum(n for (_, result), n in counts.items() if result == "read") > 100


@pytest.mark.slow
def test_all_are_read_right_or_refused_by_name(tmp_path, capfd):
    counts = fuzz_images.main(tmp_path)
    assert not [k for k in counts if k[1] == "wrong"], capfd.readouterr().out
    assert sum(counts.values()) > 50_000
    with capfd.disabled():
        print("\n" + fuzz_images.table(counts))


def test_what_counts_as_wrong(tmp_path):
    path = tmp_path / "a.png"

    def result_of(outcome):
        def run():
            if isinstance(outcome, BaseException):
                raise outcome
            return fuzz_images.compare(*outcome)
        return fuzz_images.attempt(run, path)
    one = np.ones((2, 2))
    assert result_of((one, one)) == "read" and result_of((one, one + 0.1, 0.2)) == "read"
    assert result_of(DataError(f"{path}: damaged")) == "refused"
    assert "was read" in result_of((one, None)) and "other values" in result_of((one, 2 * one))
    assert "other values" in result_of((one, np.ones((1, 2))))
    assert result_of(DataError("damaged")) == "its error does not name the file: damaged"
    assert result_of(DataError(f"{path}: {'x' * 900}")).startswith("an error of 9")
    assert result_of(KeyError("id")) == "KeyError: 'id'"


def test_the_table_counts_each_reader():
    lines = fuzz_images.table(Counter({("a", "read"): 3, ("a", "refused"): 2, ("b", "wrong"): 1})).splitlines()
    assert lines[2:] == ["| a | 5 | 2 | 3 | 0 |", "| b | 1 | 0 | 0 | 1 |", "| all | 6 | 2 | 3 | 1 |"]


def test_label_files_say_what_they_hold():
    files = list(fuzz_images.label_files(fuzz_images.LISTED[fuzz_images.SMALL].astype(np.uint8), fuzz_images.palette()))
    assert len({f.name for f in files}) == len(files) >= 15 and all(isinstance(f, File) for f in files)
    assert {f.name for f in files if f.numbers is None} == {
        "gray JPEG", "gray, half transparent", "negative", "RGB JPEG", "RGB resized"}
    assert all(re.match(rb"\x89PNG|\xff\xd8|II", f.content) for f in files)
