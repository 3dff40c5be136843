import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv import models, nn
from minicv.autograd import Function
from minicv.backend import machine
from minicv.cli import doctor
from minicv.cli import main as cli
from minicv.course import lessons
from minicv.data import Cells, read_image, read_label, write_png
from minicv.fast.elementwise import FastSigmoid
from minicv.models.segmentation.unet import UNet
from minicv.ops.activation import Sigmoid
from minicv.training import SegmentationConfig, load_checkpoint, save_checkpoint
from minicv.viz import render_segmentation


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    minicv.seed(0)
    save_checkpoint(path, models.build("unet", width=4))
    return path


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "cells 1.png"
    write_png(path, Cells(1, (61, 47))[0].image)
    return path


TINY = ["--data", "cells", "--steps", "3", "--width", "4", "--tile", "20", "--quiet"]


# ------------------------------------------------------------------------------------------------- the command itself

def test_help_and_version(run):
    code, out, _ = run("--help")
    assert code == 0
    for command in ("lessons", "gradcheck", "train", "evaluate", "predict", "doctor", "exit codes"):
        assert command in out
    for command in ("lessons", "gradcheck", "doctor", "train", "evaluate", "predict"):
        code, out, _ = run(command, "--help")
        assert code == 0 and out.startswith(f"usage: minicv {command}")
    assert run("--version") == (0, f"minicv {minicv.__version__}\n", "")


@pytest.mark.parametrize("arguments", [
    [], ["paint"], ["train"], ["train", "--data", "cells"], ["predict", "--checkpoint", "a", "--out", "b"],
    ["train", "unet", *TINY[:-1], "--out", "x", "--steps", "many"], ["train", "unet", "--preset", "tiny"],
])
def test_a_wrong_command_line_is_code_2_and_one_line_that_names_the_help(run, arguments):
    code, out, error = run(*arguments)
    command = " ".join(["minicv", *arguments[:1]]).removesuffix(" paint")
    assert (code, out) == (2, "") and error.count("\n") == 1
    assert error.startswith(f"{command}: ") and error.endswith(f"; see {command} -h\n")


@pytest.mark.parametrize(("arguments", "message"), [
    (["trian"], "minicv: argument COMMAND: invalid choice: 'trian'; did you mean train?; see minicv -h\n"),
    (["data", "chek", "voc:x"],
     "minicv data: argument check|show|download: invalid choice: 'chek'; did you mean check?; "),
    (["train", "unet", *TINY, "--out", "x", "--optimizer", "adan"],
     "minicv train: argument --optimizer: invalid choice: 'adan'; did you mean adam?; see minicv train -h\n"),
    (["--backend", "gpu", "doctor"], "minicv: argument --backend: invalid choice: 'gpu'; there are: numpy, cupy; see "),
])
def test_the_nearest_choice_is_suggested_for_an_unknown_one(run, arguments, message):
    code, _, error = run(*arguments)
    assert code == 2 and error.startswith(message)


@pytest.mark.parametrize(("arguments", "command"), [
    (["train", "unet", *TINY, "--out", "x", "--stepz", "3"], "minicv train"),
    (["gradcheck", "relu", "--stepz", "3"], "minicv gradcheck"), (["doctor", "--stepz", "3"], "minicv doctor"),
    (["lessons", "run", "08", "--stepz", "3"], "minicv lessons run"),
    (["data", "check", "voc:x", "--stepz", "3"], "minicv data check"),
])
def test_an_unknown_option_names_the_command_that_lacks_it(run, arguments, command):
    code, _, error = run(*arguments)
    assert code == 2 and re.fullmatch(rf"{command}: unrecognized arguments: --stepz( 3)?; see {command} -h\n", error)


def test_an_unknown_model_is_named(fails, tmp_path):
    known = ", ".join(models.names("segmentation") + models.names("detection"))
    for name, message in (("vnet", "no network 'vnet'; did you mean unet?"),
                          ("qqq", f"no network 'qqq'; there are: {known}"),
                          ("vgg16", "vgg16 is a classifier: lesson 05 trains it"),
                          ("resnet50", "resnet50 is a classifier: lesson 05 trains some of these")):
        assert fails("train", name, *TINY, "--out", tmp_path) == f"argument MODEL: {message}; see minicv train -h"
    assert fails("summary", "vgg") == "argument MODEL: no network 'vgg'; did you mean vgg16?; see minicv summary -h"


def test_interrupted(run, monkeypatch, checkpoint, image_file, tmp_path):
    def interrupt(self, images, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(UNet, "predict", interrupt)
    code, _, error = run("predict", "--checkpoint", checkpoint, image_file, "--out", tmp_path)
    assert (code, error) == (130, "minicv predict: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell")
def test_a_reader_that_has_enough_is_no_error():
    root = Path(minicv.__file__).parents[1]
    done = subprocess.run(["sh", "-c", f"'{sys.executable}' -m minicv papers | head -1"], text=True, cwd=root,
                          capture_output=True, check=True)
    assert done.stdout.startswith("adam ") and done.stderr == ""


def test_not_enough_memory(fails, monkeypatch, checkpoint, image_file, tmp_path):
    def large(self, images, **options):
        np.empty(1 << 50)
    monkeypatch.setattr(UNet, "predict", large)
    message = fails("predict", "--checkpoint", checkpoint, image_file, "--out", tmp_path)
    assert message.startswith("not enough memory (Unable to allocate 8.00 PiB")


def test_cupy_where_there_is_none_says_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import of it fails
    monkeypatch.delitem(minicv.backend.devices._modules, "cupy", raising=False)
    code, _, error = run("--backend", "cupy", "gradcheck", "relu")
    assert code == 2 and error.count("\n") == 1
    assert error.startswith("minicv gradcheck: minicv.use('cupy'): CuPy cannot be imported; install it with")


def test_as_a_program():
    """The exit code reaches the shell, and no traceback the reader."""
    environment = {**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-m", "minicv", "gradcheck", "reluu"], capture_output=True, text=True,
                            env=environment)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("minicv gradcheck: no operation named reluu; did you mean relu?")
    assert result.stderr.count("\n") == 1


# --------------------------------------------------------------------------------------------------------------- train

def test_train(run, few_images, tmp_path):
    out = tmp_path / "new" / "folder"
    code, text, error = run("train", "unet", *TINY, "--out", out)
    assert (code, error) == (0, "")
    assert sorted(os.listdir(out)) == ["best.safetensors", "curve.png", "last.safetensors", "metrics.jsonl"]
    about, numbers, own, pixels, images, result, path = text.splitlines()
    assert about == "unet compact: 30,298 parameters, 2 images"
    assert numbers == "3 steps of 2 images, adam: lr 0.001 (poly, 100 steps of warmup), weight decay 0, seed 0"
    assert pixels.startswith("pixels: ") and "cell " in pixels and "background " in pixels and pixels.count("%") == 2
    assert images == "images: 36 x 36 pixels"
    assert own.startswith("tile 20, augment, elastic ")
    assert result.startswith("3 steps in ") and result.endswith(" over the last 3")
    assert path == str(out / "last.safetensors")
    model, info = load_checkpoint(out / "last.safetensors", expect="unet")
    assert info["data"] == "cells" and info["seconds"] >= 0
    assert SegmentationConfig(**info["config"]) == SegmentationConfig(
        steps=3, batch=2, optimizer="adam", lr=0.001, warmup=100, tile=20)
    assert model.build_args == {"model": "unet", "preset": "compact",
                            "options": {"num_classes": 2, "in_channels": 1, "width": 4}}


def test_train_options_reach_the_config(run, few_images, tmp_path):
    code, _, _ = run("train", "unet", *TINY, "--out", tmp_path, "--preset", "paper", "--width", "1", "--lr", "0.5",
                     "--elastic", "0", "--weight-map", "--seed", "3")
    assert code == 0
    model, info = load_checkpoint(tmp_path / "last.safetensors")
    assert model.depth == 4
    assert SegmentationConfig(**info["config"]) == SegmentationConfig(
        steps=3, lr=0.5, schedule="constant", tile=20, elastic=0.0, weight_map=True, seed=3)


def test_train_is_reproducible_by_seed(run, few_images, tmp_path):
    def weights(seed, name):
        assert run("train", "unet", *TINY, "--out", tmp_path / name, "--seed", seed)[0] == 0
        return load_checkpoint(tmp_path / name / "last.safetensors")[0].state_dict()

    one, two, other = weights(1, "a"), weights(1, "b"), weights(2, "c")
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name])
    assert any((value != other[name]).any() for name, value in one.items())


def test_train_shows_a_bar_unless_quiet(run, few_images, tmp_path):
    _, _, error = run("train", "unet", *TINY[:-1], "--out", tmp_path)
    assert "6/6" in error and "loss=" in error  # images


@pytest.mark.parametrize(("options", "message"), [
    (["--data", "mnist"], "--data mnist: unknown data set 'mnist'; there are: cells, isbi2012, "),
    (["--data", "cels"], "--data cels: unknown data set 'cels'; did you mean cells?"),
    (["--data", "isbi2012"], "--data isbi2012: isbi2012 needs a path, as in isbi2012:DIR; "
     "minicv data download isbi2012 --root DIR downloads it"),
    (["--data", "voc"], "--data voc: voc needs a path, as in voc:DIR"),
    (["--data", "isbi2012:/no/where"],
     "/no/where/image: no such folder; ISBI 2012 is expected as image/N.png and label/N.png; "
     "minicv data download isbi2012 --root /no/where downloads it"),
    (["--option", "padding=x"], "--option padding=x: text needs quotes: --option 'padding=\"x\"'"),
    (["--tile", "300"], "train: none of the 2 images gives an example; cells-0-"),
    (["--tile", "0"], "--tile 0: must be at least 1"),
    (["--steps", "0"], "--steps 0: must be at least 1"),
    (["--seed", "-1"], "--seed -1: must be at least 0"),
    (["--width", "0"], "unet: UNet(in_channels=1, num_classes=2, width=0, depth=3): each must be at least 1, depth 0"),
    (["--lr", "-1"], "--lr -1.0: must be at least 0"),
    (["--lr", "1e30", "--steps", "20"], "the loss became "),
])
def test_train_errors(fails, few_images, tmp_path, options, message):
    out = tmp_path / "out"
    assert fails("train", "unet", *TINY, "--out", out, *options).startswith(message)
    assert not out.exists() or not list(out.iterdir())


def test_train_does_not_write_over_a_file(fails, few_images, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert "is a file, not a folder" in fails("train", "unet", *TINY, "--out", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


# ------------------------------------------------------------------------------------------------------------ evaluate

MEASURES = ["pixel_accuracy", "mean_accuracy", "mean_iu", "frequency_weighted_iu", "boundary_f_score", "pixel_error",
            "threshold", "rand_f_score", "warping_error"]


def test_evaluate(run, few_images, checkpoint):
    code, out, error = run("evaluate", "--checkpoint", checkpoint, "--data", "cells", "--json")
    assert (code, error) == (0, "")
    result = json.loads(out)
    assert list(result) == MEASURES and out.count("\n") == 1
    assert all(0 <= value <= 1 for value in result.values())
    assert result["pixel_error"] == pytest.approx(1 - result["pixel_accuracy"])  # both at probability 0.5, two classes
    code, out, _ = run("evaluate", "--checkpoint", checkpoint, "--data", "cells", "--tile", 16)
    assert code == 0
    measures, table = out.split("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["class", "background", "cell"]
    rows = [line.split() for line in measures.splitlines()]
    assert [name for name, _ in rows] == MEASURES
    for name, value in rows:  # tiles change nothing but the last digits
        assert float(value) == pytest.approx(result[name], abs=2e-3)


def test_scales_and_flip(run, fails, few_images, checkpoint, image_file, tmp_path):
    """evaluate and predict average over them, as the network's own ``predict`` does."""
    options = ["--scales", "0.5,1", "--flip"]
    plain, averaged = (json.loads(run("evaluate", "--checkpoint", checkpoint, "--data", "cells", "--json", *some)[1])
                       for some in ([], options))
    assert plain["mean_iu"] != averaged["mean_iu"]
    assert run("predict", "--checkpoint", checkpoint, image_file, "--out", tmp_path / "out", *options)[0] == 0
    expected = load_checkpoint(checkpoint)[0].predict([read_image(image_file)], scales=(0.5, 1), flip=True)[0].labels
    np.testing.assert_array_equal(read_label(tmp_path / "out" / f"{image_file.stem}_labels.png"), expected)
    again = ["evaluate", "--checkpoint", checkpoint, "--data", "cells"]
    assert fails(*again, "--scales", "1,a") == (
        "argument --scales: 1,a: must be numbers with commas between them, as in 0.75,1,1.25; see minicv evaluate -h")
    assert fails(*again, "--scales", "0") == "UNet.predict(scales=(0.0,)): needs factors above 0, at most 8"
    assert fails(*again, "--average", "--flip") == (
        "UNet.predict: average has the mirror image among its 8 versions; leave out flip")


def test_evaluate_errors(fails, few_images, checkpoint, tmp_path):
    missing = tmp_path / "no.safetensors"
    assert fails("evaluate", "--checkpoint", missing, "--data", "cells") == (
        f"{missing}: no such checkpoint; minicv train ... --out DIR writes DIR/last.safetensors")
    message = fails("evaluate", "--checkpoint", checkpoint, "--data", "isbi2012:/no/where")
    assert message.startswith("/no/where/image: no such folder")
    assert fails("evaluate", "--checkpoint", checkpoint, "--data", "cells", "--tile", "0") == (
        "UNet.predict(tile=0): the side of an output tile must be at least 1")


# ------------------------------------------------------------------------------------------------------------- predict

@pytest.mark.parametrize("options", [[], ["--tile", "16"]])
def test_predict(run, checkpoint, image_file, tmp_path, options):
    other = tmp_path / "b.tif"
    from PIL import Image
    Image.fromarray((Cells(1, (20, 33), 5)[0].image[0] * 255).astype(np.uint8)).save(other)
    out = tmp_path / "images" / "deep"
    code, text, error = run("predict", "--checkpoint", checkpoint, image_file, other, "--out", out, *options)
    assert (code, error) == (0, "")
    assert sorted(os.listdir(out)) == ["b_labels.png", "b_overlay.png", "cells 1_labels.png", "cells 1_overlay.png",
                                       "legend.png", "legend.txt"]
    model = load_checkpoint(checkpoint)[0]
    *lines, one, two = text.splitlines()
    assert (one, two) == (str(out / "legend.png"), str(out / "legend.txt"))
    for source, line in zip((image_file, other), lines, strict=True):
        image = read_image(source)
        labels = model.predict([image], 16 if options else None)[0].labels
        np.testing.assert_array_equal(read_label(out / f"{source.stem}_labels.png"), labels)
        shown = read_image(out / f"{source.stem}_overlay.png", "RGB")
        H, W = image.shape[1:]
        times = 500 // max(H, W)
        np.testing.assert_array_equal(shown, render_segmentation(
            image, labels, ["class 0", "class 1"], times).transpose(2, 0, 1) / np.float32(255))
        share = labels.mean()
        assert line == (f"{out / source.stem}_overlay.png  ({W} x {H} pixels)  class 0: {1 - share:.1%}  "
                        f"class 1: {share:.1%}")


def test_predict_in_color(run, tmp_path, image_file):
    """A network of three input channels reads RGB, also from a gray image; one of one channel reads gray."""
    minicv.seed(0)
    save_checkpoint(tmp_path / "rgb.safetensors", models.build("unet", in_channels=3, num_classes=9, width=2))
    color = tmp_path / "color.png"
    write_png(color, np.random.default_rng(0).random((3, 12, 10)))
    code, text, _ = run("predict", "--checkpoint", tmp_path / "rgb.safetensors", color, image_file, "--out", tmp_path)
    assert code == 0 and "class 8: " in text
    shown = read_image(tmp_path / "color_overlay.png", "RGB")
    assert shown.shape[0] == 3 and shown.shape[1] > 12 * 41 and shown.shape[2] == 10 * 41  # over a legend


def damaged_checkpoint(checkpoint, path):
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return "damaged: its contents do not match its checksum"


def truncated_checkpoint(checkpoint, path):
    path.write_bytes(checkpoint.read_bytes()[:-1])
    return "not a safetensors file, or a damaged one ("


def image_as_checkpoint(checkpoint, path):
    write_png(path, np.zeros((8, 8)))
    return "not a safetensors file, or a damaged one ("


def missing_checkpoint(checkpoint, path):
    return "no such checkpoint"


class Classifier(nn.Module):
    PRESETS = {"compact": {}}

    def __init__(self, num_classes: int = 3):
        self.head = nn.Linear(4, num_classes)


def checkpoint_of_another_model(checkpoint, path):
    save_checkpoint(path, models.build("classifier"))
    return "the model 'classifier' neither labels pixels nor finds objects"


@pytest.mark.parametrize("make", [damaged_checkpoint, truncated_checkpoint, image_as_checkpoint, missing_checkpoint,
                                  checkpoint_of_another_model])
def test_a_checkpoint_that_cannot_be_used_is_named_and_nothing_is_written(fails, few_images, checkpoint, image_file,
                                                                          tmp_path, monkeypatch, make):
    monkeypatch.setitem(models.MODELS, "classifier", "classifier:Classifier")
    original = models.model_class
    monkeypatch.setattr(models, "model_class", lambda name: Classifier if name == "classifier" else original(name))
    path, out = tmp_path / "x.safetensors", tmp_path / "out"
    reason = make(checkpoint, path)
    assert fails("predict", "--checkpoint", path, image_file, "--out", out).startswith(f"{path}: {reason}")
    assert not out.exists()
    assert fails("evaluate", "--checkpoint", path, "--data", "cells").startswith(f"{path}: {reason}")


def test_predict_errors(fails, checkpoint, image_file, tmp_path):
    assert fails("predict", "--checkpoint", checkpoint, "--out", tmp_path / "out", image_file, "--tile", "0") == (
        "UNet.predict(tile=0): the side of an output tile must be at least 1")
    assert not (tmp_path / "out").exists()


def test_gradcheck(run):
    code, out, error = run("gradcheck", "sigmoid", "conv2d", "exp")
    assert (code, error) == (0, "")
    heading, *lines, last = out.splitlines()
    assert heading.split() == ["operation", "case", "shapes", "version", "error", "verdict"]
    cases = minicv.ops.cases(["sigmoid", "conv2d", "exp"])
    expected = [(case, storey) for case in cases for storey in ("plain", "fast")[:1 if case.name == "exp" else 2]]
    assert len(lines) == len(expected)
    for line, (case, storey) in zip(lines, expected, strict=True):
        assert line.startswith(case.name) and case.label in line
        assert case.name != "sigmoid" or line.index(f" {storey} ") + 1 == heading.index("version")
        assert float(re.search(rf" {storey} +(\d\.\de[+-]\d\d)  (ok|kink)\b", line)[1]) < 1e-6
    assert last.startswith(f"{len(cases)} cases, 0 wrong, ")
    assert run("gradcheck", "sigmoid")[1].splitlines()[-1].startswith("1 case, 0 wrong, ")


@pytest.mark.slow
def test_gradcheck_of_everything(run):
    code, out, _ = run("gradcheck")
    _, *lines, last = out.splitlines()
    assert [line for line in lines if "  WRONG  " in line] == [] and code == 0
    assert {line.split()[0] for line in lines} == {case.name for case in minicv.ops.cases()}
    assert last.startswith(f"{len(minicv.ops.cases())} cases, 0 wrong, ")


def wrong_slope(ctx, gy):
    return 2 * gy


def wrong_shape(ctx, gy):
    return gy.sum(axis=0)


def crash(ctx, gy):
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(("backward", "reason"), [
    (wrong_slope, "backward says "),
    (wrong_shape, "ValueError: Sigmoid.backward: the gradient has shape "),
    (crash, "ZeroDivisionError: oh"),
])
@pytest.mark.parametrize(("broken", "storey", "where"), [
    (Sigmoid, "plain", "see minicv/ops/activation.py"),
    (FastSigmoid, "fast", "see minicv/fast, which stands for minicv/ops/activation.py")])
def test_gradcheck_says_which_storey_is_broken(run, monkeypatch, backward, reason, broken, storey, where):
    monkeypatch.setattr(broken, "backward", backward)
    code, out, error = run("gradcheck", "sigmoid", "relu")
    assert (code, error) == (1, "")
    *lines, verdict, last = out.splitlines()
    wrong = [line for line in lines if "  WRONG  " in line]
    assert wrong and all(line.startswith("sigmoid") and f" {storey} " in line for line in wrong) and reason in wrong[0]
    assert [line for line in lines if line.startswith("relu") and line.endswith("  ok")]  # the others are checked
    every = len(minicv.ops.cases(["sigmoid"]))
    assert verdict == f"sigmoid: {storey} is wrong in {len(wrong)} of {every} cases; {where}"
    assert last.startswith(f"{len(minicv.ops.cases(['sigmoid', 'relu']))} cases, {len(wrong)} wrong, ")


@pytest.mark.parametrize("broken", [Sigmoid, FastSigmoid])
def test_gradcheck_compares_forward_with_the_loops(run, monkeypatch, broken):
    forward = broken.forward
    monkeypatch.setattr(broken, "forward", lambda ctx, x: forward(ctx, x) + 1)
    code, out, _ = run("gradcheck", "sigmoid")
    assert code == 1 and "WRONG  forward gives " in out and "the loops " in out


def test_gradcheck_notices_a_backward_of_zeros(run, monkeypatch):
    from minicv.ops.softmax import LogSoftmax
    assert issubclass(LogSoftmax, Function)
    monkeypatch.setattr(LogSoftmax, "backward", lambda ctx, gy: 0 * gy)
    code, out, _ = run("gradcheck", "log_softmax")
    assert code == 1 and "WRONG" in out and "log_softmax: plain is wrong" in out


def test_gradcheck_of_an_unknown_operation(fails):
    assert fails("gradcheck", "conv3d", "relu") == "no operation named conv3d; did you mean conv2d?"
    assert fails("gradcheck", "xyzzy").startswith("no operation named xyzzy; there are: ")


# --------------------------------------------------------------------------------------------------- lessons and doctor

LESSON = '''"""{title}"""
from minicv.course.lessons import Lesson
lesson = Lesson("{name}", __doc__, needs="label")
print("quick", lesson.quick, "seed", lesson.seed, "data", lesson.data, flush=True)
{more}
lesson.finish()
'''


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "LESSONS_DIR", tmp_path)
    monkeypatch.setenv("MINICV_LESSONS_OUT", str(tmp_path / "out"))
    monkeypatch.delenv("MINICV_QUICK", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(minicv.__file__).parents[1]))
    for name, title, more in (("00_good", "A good one", ""), ("01_bad", "A bad one", "raise SystemExit(3)")):
        (tmp_path / f"{name}.py").write_text(LESSON.format(name=name, title=title, more=more))


def test_lessons_are_listed(run, scripts):
    expected = (0, "00_good  A good one\n01_bad  A bad one\n", "")
    assert run("lessons") == expected and run("lessons", "list") == expected


def test_lessons_run(scripts, capfd):
    assert cli.main(["lessons", "run", "good", "--quick", "--seed", "4", "--data", "cells"]) == 0
    out = capfd.readouterr().out
    assert "quick True seed 4 data cells" in out and "0 claims: 0 hold, 0 do not" in out


def test_a_failed_lesson_is_code_1(scripts, capfd):
    assert cli.main(["lessons", "run"]) == 1
    out = capfd.readouterr().out
    assert "FAILED (exit code 3)" in out and "0 claims" in out  # the other one ran too


def test_an_unknown_lesson(fails, scripts):
    assert fails("lessons", "run", "09_gan") == "no lesson '09_gan'; there are: 00_good, 01_bad"
    assert fails("lessons", "run", "00_goood") == "no lesson '00_goood'; did you mean 00_good?"


def test_no_lessons(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "LESSONS_DIR", tmp_path / "nothing")
    assert fails("lessons").startswith(f"no lessons in {tmp_path / 'nothing'}; reinstall minicv")


def test_doctor(run, monkeypatch):
    monkeypatch.setattr(machine, "best_of", lambda work: 1.0)  # the measurements take seconds
    code, out, error = run("doctor")
    assert (code, error) == (0, "")
    for word in ("minicv", "NumPy", "BLAS", "threads", "advice"):
        assert word in out


def test_plain_reaches_the_operations_and_the_lessons(monkeypatch, scripts, capfd):
    (lessons.LESSONS_DIR / "00_good.py").write_text(LESSON.format(
        name="00_good", title="", more="import minicv; print('plain:', minicv.plain.active())"))
    for words, plain in ((["--plain"], "plain: True"), ([], "plain: False")):
        assert cli.main([*words, "lessons", "run", "good", "--quick"]) == 0
        assert plain in capfd.readouterr().out
    seen = []
    monkeypatch.setattr(doctor, "run", lambda args: seen.append(minicv.plain.active()) or 0)
    assert cli.main(["--plain", "doctor"]) == 0 and cli.main(["doctor"]) == 0
    assert seen == [True, False]
