"""What the commands print and write, whatever the console, the locale and the data: no output ends a command."""
import contextlib
import io
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import minicv
from minicv import models
from minicv.autograd import Function
from minicv.cli import doctor
from minicv.cli import main as cli
from minicv.data import Cells, StreetScenes
from minicv.files import to_json
from minicv.ops.activation import ReLU
from minicv.training import save_checkpoint


def command(*arguments, **environment):
    """A command in a process of its own; its output as bytes."""
    return subprocess.run([sys.executable, "-m", "minicv", *map(os.fsencode, map(os.fspath, arguments))],
                          capture_output=True, env={**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1]),
                                                    **environment})


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp949", "latin-1", "utf-8"])
def test_names_that_the_console_cannot_print(tmp_path, encoding):
    """Korean, an accent, and bytes that are no UTF-8: each is predicted, and the next one, too."""
    minicv.seed(0)
    checkpoint = tmp_path / "m.safetensors"
    save_checkpoint(checkpoint, models.build("unet", width=2, depth=1), classes=["배경", "zell\u00e9 \U0001f9eb"])
    names = ["세포", "caf\u00e9", os.fsdecode(b"bad\xff"), "plain"]
    for name in names:
        Image.new("L", (24, 24), 99).save(tmp_path / f"{name}.png")
    done = command("predict", "--checkpoint", checkpoint, "--out", tmp_path / "out",
                   *(tmp_path / f"{name}.png" for name in names), PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert b"plain_overlay.png" in done.stdout and b"Traceback" not in done.stderr  # a font may be missing
    assert sorted(path.name for path in (tmp_path / "out").glob("*_labels.png")) == sorted(
        f"{name}_labels.png" for name in names)
    missing = command("predict", "--checkpoint", checkpoint, "--out", tmp_path / "out", tmp_path / "없음\U0001f9eb.png",
                      PYTHONIOENCODING=encoding)
    assert missing.returncode != 0 and b"no such file" in missing.stderr and b"Traceback" not in missing.stderr


def test_files_are_utf_8_in_any_locale(tmp_path):
    """With the C locale and without Python's UTF-8 mode, Python itself would write ASCII."""
    done = command("train", "unet", "--data", "cells", "--out", tmp_path / "한글", "--steps", "1", "--tile", "20",
                   "--width", "2", "--quiet", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "한글" / "metrics.jsonl").read_text(encoding="utf-8"))["step"] == 1


@pytest.mark.parametrize(("value", "text"), [
    (float("nan"), "null"), ({"a": [1.5, float("inf")]}, '{"a": [1.5, null]}'), ((1, "x"), '[1, "x"]'),
    (np.float64("nan"), "null"), ({"deep": {"er": -float("inf")}}, '{"deep": {"er": null}}')])
def test_json_is_strict(value, text):
    assert to_json(value) == text


def test_evaluate_says_null_where_nothing_is_measured(run, monkeypatch, tmp_path):
    class Void(StreetScenes):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.label[:] = 255
            return sample

    monkeypatch.setattr(minicv.data, "open_dataset", lambda spec, split="train": Void(1, (32, 40)))
    minicv.seed(0)
    checkpoint = tmp_path / "m.safetensors"
    save_checkpoint(checkpoint, models.build("fcn8s", num_classes=9), classes=list(StreetScenes.class_names))
    code, out, _ = run("evaluate", "--checkpoint", checkpoint, "--data", "street-scenes", "--json")
    assert code == 0 and json.loads(out, parse_constant=pytest.fail)["mean_iu"] is None
    code, out, _ = run("evaluate", "--checkpoint", checkpoint, "--data", "street-scenes")
    assert code == 0 and "mean_iu                nothing to measure" in out.splitlines()


@pytest.mark.parametrize(("classes", "message"), [
    (["cell", "background"], "the checkpoint has cell, background, the data set background, cell"),
    (["sky", "cell"], "only the checkpoint has sky; only the data set has background"),
    ([f"c{i}" for i in range(9)], "only the checkpoint has c0, c1, c2, c3, c4 and 4 more; only the data set has")])
def test_evaluate_compares_class_names(fails, tmp_path, classes, message):
    checkpoint = tmp_path / "m.safetensors"
    save_checkpoint(checkpoint, models.build("unet", width=2, num_classes=len(classes)), classes=classes)
    said = fails("evaluate", "--checkpoint", checkpoint, "--data", "cells")
    assert said.startswith(f"{checkpoint}: its {len(classes)} classes differ, in names or order, from the 2 of --data "
                           "cells: ")
    assert message in said


def test_evaluate_compares_counts_and_channels_where_there_are_no_names(fails, tmp_path):
    checkpoint = tmp_path / "m.safetensors"
    save_checkpoint(checkpoint, models.build("unet", width=2, num_classes=5))
    assert "knows 5 classes, and cells has 2: background, cell" in fails(
        "evaluate", "--checkpoint", checkpoint, "--data", "cells")
    save_checkpoint(checkpoint, models.build("unet", width=2, in_channels=3))
    assert "takes images of 3 channels; those of --data cells have 1" in fails(
        "evaluate", "--checkpoint", checkpoint, "--data", "cells")


def test_evaluate_opens_the_split_train_of_membranes_only(run, monkeypatch, tmp_path):
    """Two classes alone make no membranes: such a set has its classes' IU instead."""
    class Plain:
        num_classes, class_names, upright = 2, ("background", "cell"), False

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return Cells(1, 36)[0]

    opened = []

    def split_of(spec, split="train"):
        opened.append(split)
        return Plain() if spec == "plain" else Cells(1, 36)
    monkeypatch.setattr(minicv.data, "open_dataset", split_of)
    checkpoint = tmp_path / "m.safetensors"
    save_checkpoint(checkpoint, models.build("unet", width=2), classes=["background", "cell"])
    for spec, splits in (("plain", ["test"]), ("cells", ["test", "train"])):
        opened.clear()
        code, out, _ = run("evaluate", "--checkpoint", checkpoint, "--data", spec, "--json")
        assert code == 0 and opened == splits
        assert ("rand_f_score" in json.loads(out), "iu cell" in json.loads(out)) == (spec == "cells", spec == "plain")


def test_a_programming_error_shows_its_traceback_and_note(monkeypatch):
    """Only what the user can change is one line."""
    def broken(ctx, x):
        return np.zeros(3) + np.zeros(4)
    assert issubclass(ReLU, Function)
    monkeypatch.setattr(ReLU, "forward", broken)
    with pytest.raises(ValueError, match="could not be broadcast") as error, contextlib.redirect_stdout(io.StringIO()):
        cli.main(["--plain", "summary", "vgg16"])
    assert any("ReLU.forward" in note for note in error.value.__notes__)
    assert error.value.__notes__[-1].startswith("minicv summary: this is an error in minicv itself")


def test_gradcheck_shows_where_an_operation_raised(run, monkeypatch):
    def broken(ctx, x):
        return np.zeros(3) + np.zeros(4)
    monkeypatch.setattr(ReLU, "forward", broken)
    code, out, _ = run("gradcheck", "relu", "sigmoid")
    wrong = next(line for line in out.splitlines() if "WRONG" in line)
    assert code == 1 and "in ReLU.forward of float64" in wrong and "np.zeros(3) + np.zeros(4)" in wrong


def test_a_warning_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "run", lambda args: warnings.warn("look out", UserWarning, stacklevel=1) or 0)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.main(["doctor"]) == 0
    assert capsys.readouterr().err == "minicv doctor: warning: look out\n"


def test_images_are_read_before_a_training(fails, run, tmp_path, monkeypatch):
    """One that is damaged ends it before the first step, or, with --no-check, when its turn comes."""
    root = tmp_path / "set"
    for folder in ("image", "label"):
        (root / folder).mkdir(parents=True)
    sample = Cells(1, 64)[0]
    for i in range(1, 31):
        Image.fromarray((sample.image[0] * 255).astype(np.uint8)).save(root / "image" / f"{i}.png")
        Image.fromarray((sample.label * 255).astype(np.uint8)).save(root / "label" / f"{i}.png")
    bad = root / "image" / "3.png"
    bad.write_bytes(bad.read_bytes()[:200])
    said = fails("train", "unet", "--data", f"isbi2012:{root}", "--out", tmp_path / "out", "--steps", 1, "--tile", 20)
    assert str(bad) in said and not (tmp_path / "out").exists()
