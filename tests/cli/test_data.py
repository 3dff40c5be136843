"""minicv data show: one picture of a data set, and its numbers as text."""
import os

import pytest

from minicv.data import read_image


def test_show(run, few_images, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, text, error = run("data", "show", "shape-boxes", "--split", "val")
    assert (code, error) == (0, "") and os.listdir() == ["shape-boxes_val.png"]
    lines = text.splitlines()
    assert lines[0] == "2 images" and lines[1] == "size: 48 x 48 pixels" and lines[-1] == "shape-boxes_val.png"
    assert [line.split()[0] for line in lines[-6:-1]] == ["disc", "square", "triangle", "star", "cross"]
    _, height, width = read_image("shape-boxes_val.png", "RGB").shape
    assert (height, width) == (height, 1408) and height > 400
    assert run("data", "show", "cells", "--images", "1", "--out", tmp_path / "one.PNG")[0] == 0
    assert (tmp_path / "one.PNG").exists()


@pytest.mark.parametrize(("arguments", "message"), [
    (["cells", "--images", "0"], "--images 0: must be at least 1"),
    (["cells", "--out", "a.jpg"], "--out a.jpg: must end in .png"),
    (["cells", "--out", "no/where.png"], "--out no/where.png: the folder no does not exist"),
    (["cells", "--split", "dev"], "cells: Cells: split must be one of train, test, val, got 'dev'"),
    (["cellz"], "cellz: unknown data set 'cellz'; did you mean cells?"),
    (["bccd:/no/where"], "/no/where: no such folder")])
def test_show_errors(fails, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert fails("data", "show", *arguments).startswith(message)
    assert os.listdir() == []
