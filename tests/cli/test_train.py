"""``minicv train`` without options, and what it says: defaults, folder, survey, anchors, expected time, the best."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicv import data, models
from minicv.cli import main as cli
from minicv.cli import networks
from minicv.cli.defaults import default_folder
from minicv.cli.examples import render_objects
from minicv.data.files import decode
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.training import load_checkpoint
from minicv.training.checkpoint import read_checkpoint
from tests.models.detection.learning import PROPOSING, TINY

TINY_RCNN = [f"--option={name}={json.dumps(value)}" for name, value in
             {**TINY, **PROPOSING, "allowed_border": 1e9}.items()
             if name not in ("num_classes", "anchor_scales", "anchor_ratios")]


@pytest.fixture
def boxes(monkeypatch):
    """``--data shape-boxes``: four small images."""
    monkeypatch.setattr(data, "open_dataset", lambda spec, split="train": ShapeBoxes(4, 48, seed=len(split)))


# ----------------------------------------------------------------------------------------------------- without options
@pytest.mark.parametrize(("spec", "folder"), [
    ("cells", "runs/unet-cells"), ("bccd:data/blood", "runs/unet-blood"), ("isbi2012:a/b/", "runs/unet-b"),
    ("yolo:data/cows,val=0.2,seed=0", "runs/unet-cows"), ("voc:C:\\my images", "runs/unet-C-my-images"),
    ("coco:.", f"runs/unet-{Path.cwd().name}")])
def test_the_folder_of_a_run(spec, folder):
    assert default_folder("unet", spec).as_posix() == folder


def test_train_says_which_folder_it_chooses(run, few_images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, text, _ = run("train", "unet", "--data", "cells", "--steps", 1, "--tile", 20, "--width", 2, "--quiet")
    folder = Path("runs") / "unet-cells"
    assert code == 0 and text.startswith(f"folder of the run: {folder} (--out chooses another)\n")
    assert (tmp_path / folder / "last.safetensors").exists()


@pytest.mark.parametrize("name", models.names("segmentation") + models.names("detection"))
def test_help_shows_the_numbers_of_a_network(run, name):
    code, text, _ = run("train", name, "--help")
    text = re.sub(r"\s+", " ", text)
    ours, theirs = (networks.commands_for(name).config_from_args(name, cli.parser().parse_args(
        ["train", name, "--data", "x", "--preset", preset])) for preset in ("compact", "paper"))
    assert code == 0
    assert f"number of training steps (default for {name}: {ours.steps}; with --preset paper: {theirs.steps})" in text
    assert f"(default for {name}: {ours.lr:g}" in text and f"{ours.optimizer}; with --preset paper: sgd)" in text
    assert ("--elastic" in text) == ("--turn" not in text) == (name in models.names("segmentation"))


def test_help_without_a_network_lists_all_options(run):
    code, text, _ = run("train", "--help")
    assert code == 0 and "--elastic" in text and "--turn" in text and "default for" not in text


@pytest.mark.parametrize("name", models.names("segmentation") + models.names("detection"))
def test_the_compact_preset_trains_by_adam(name):
    config = networks.commands_for(name).config_from_args(name, cli.parser().parse_args(["train", name, "--data", "x"]))
    assert (config.optimizer, config.lr, config.weight_decay) == ("adam", 0.001, 0)


@pytest.mark.parametrize(("upright", "sizes", "tile"), [
    (True, [(90, 120)] * 2, None), (True, [(90, 120), (90, 110)], 192), (True, [(193, 100)] * 2, 192),
    (False, [(90, 120), (300, 400)], 90), (False, [(300, 400)], 192)])
def test_the_tile_fits_the_images(upright, sizes, tile):
    class Images:
        num_classes, class_names = 2, ("a", "b")

        def __len__(self):
            return len(sizes)

        def label_of(self, i):
            return np.zeros(sizes[i], np.uint8)
    Images.upright = upright
    commands = networks.commands_for("fcn8s")
    for options, wanted in (([], tile), (["--tile", "50"], 50), (["--preset", "paper"], 500)):
        args = cli.parser().parse_args(["train", "fcn8s", "--data", "x", *options])
        config = commands.fit_config(args, Images(), commands.config_from_args("fcn8s", args))
        assert config.tile == wanted


# --------------------------------------------------------------------------------------------------------- the survey
def test_the_survey_of_boxes(run, boxes, tmp_path):
    code, text, _ = run("train", "faster_rcnn", "--data", "shape-boxes", "--out", tmp_path / "run", "--steps", 1,
                        "--quiet", *TINY_RCNN, "--option", "anchor_scales=[200]")
    count = np.bincount(np.concatenate([sample.labels for sample in ShapeBoxes(4, 48, seed=5)]), minlength=5)
    assert code == 0 and re.search(rf"objects: .*square {count[1]} \({count[1] / count.sum():.0%}\)", text)
    assert "images: 48 x 48 pixels\n" in text  # as large as the network sees them
    assert "objects that an anchor fits: 0% at IoU 0.5, 0% at 0.7 (scales 200; ratios " in text
    assert re.search(r"warning: anchors fit only 0% of the objects at IoU 0.5; --anchors auto takes scales [\d., ]+ "
                     r"and ratios [\d., ]+ instead", text)


def test_anchors_auto_is_kept(run, fails, boxes, tmp_path):
    """The options of the model are in the checkpoint, so that evaluate and --resume need nothing."""
    out = tmp_path / "run"
    train = ("train", "faster_rcnn", "--data", "shape-boxes", "--out", out, "--quiet", *TINY_RCNN)
    code, text, _ = run(*train, "--steps", 1, "--anchors", "auto")
    fit = re.search(r"an anchor fits: (\d+)% at IoU 0.5, .*scales ([\d., ]+); ratios ([\d., ]+)\)", text)
    assert code == 0 and int(fit[1]) > 80 and "warning: anchors" not in text
    model, info = load_checkpoint(out / "last.safetensors")
    assert ", ".join(f"{s:g}" for s in model.config.anchor_scales) == fit[2] and info["anchors"] == "auto"
    assert run("evaluate", "--checkpoint", out / "last.safetensors", "--data", "shape-boxes", "--json")[0] == 0
    for options in ([], ["--anchors", "auto"]):
        code, text, _ = run(*train, "--steps", 2 + len(options), "--resume", *options)
        assert code == 0 and "steps in" in text
    assert read_checkpoint(out / "last.safetensors")[0]["options"]["anchor_scales"] == list(model.config.anchor_scales)
    assert fails("train", "yolo", "--data", "shape-boxes", "--anchors", "auto", "--out", tmp_path / "x") == (
        "--anchors is not for yolo, which has no anchors")
    assert fails(*train, "--anchors", "auto", "--option", "anchor_ratios=[1]", "--out", tmp_path / "x") == (
        "--anchors auto: --option gives anchor_ratios, too")
    assert not (tmp_path / "x").exists()


def test_the_survey_of_pixels(run, few_images, tmp_path):
    _, text, _ = run("train", "unet", "--data", "cells", "--out", tmp_path / "run", "--steps", 1, "--width", 2,
                     "--quiet")
    shares = [float(share) for share in re.findall(r"([\d.]+)%", next(
        line for line in text.splitlines() if line.startswith("pixels: ")))]
    assert sum(shares) == pytest.approx(100, abs=0.2) and shares == sorted(shares, reverse=True)
    assert "tile 36, augment" in text and "images: 36 x 36 pixels" in text


# ---------------------------------------------------------------------------------------------------------- the best
def test_validation_stops_early_and_the_best_is_exported(run, few_images, tmp_path, monkeypatch):
    from minicv import training
    scores = iter([0.5, 0.7, 0.6, 0.6, *[0.1] * 9])
    monkeypatch.setattr(training, "evaluate_segmentation", lambda *args, **options: {"mean_iu": next(scores)})
    out, best = tmp_path / "run", tmp_path / "best.safetensors"
    code, text, _ = run("train", "unet", "--data", "cells", "--out", out, "--steps", 10, "--tile", 20, "--width", 2,
                        "--validate", "--patience", 2, "--export-best", best, "--quiet")
    assert code == 0
    assert "stopped after step 4 of 10: the last 2 measurements on val are no better than the best before" in text
    assert f"{out / 'best.safetensors'}: step 2, 0.7000 on val" in text and text.endswith(f"{best}\n")
    (model, info), (kept, _) = load_checkpoint(best), load_checkpoint(out / "best.safetensors")
    assert info["step"] == 2 and best.stat().st_size < (out / "best.safetensors").stat().st_size
    for name, value in kept.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[name], value)


@pytest.mark.parametrize(("options", "message"), [
    (["--patience", "3"], "--patience is for --validate, whose measurements it counts"),
    (["--validate", "--patience", "-1"], "--patience -1: must be at least 0"),
    (["--validate", "--patience", "3", "--alternating"],
     "--patience is not for --alternating, whose four trainings build on each other"),
    (["--export-best", "best.pth"], "--export-best best.pth: the name must end with .safetensors"),
])
def test_options_of_the_best_that_cannot_be_used(fails, boxes, options, message):
    assert fails("train", "faster_rcnn", "--data", "shape-boxes", *options) == message


def test_networks_with_svms_are_not_validated_before_these_are_trained(fails, boxes, tmp_path):
    message = fails("train", "rcnn", "--data", "shape-boxes", "--validate", "--out", tmp_path / "x", "--no-check")
    assert message.startswith("--validate is not for rcnn: its SVMs, which find the objects, are trained after the")


@pytest.mark.parametrize("trained", [False, True])
def test_examples_before_the_svms_are_trained_come_from_the_softmax(trained):
    class Model:
        svm, display_score, svm_weight = True, 0.5, np.full((2, 3), float(trained))

        def predict(self, images, proposals, score):
            self.by_svm = self.svm
            return ShapeBoxes(len(images), 48)
    model = Model()
    rows = render_objects(ShapeBoxes(6, 48), None, model)
    assert model.by_svm == trained and model.svm
    assert [len(images) for images in rows.values()] == [4, 4] and list(rows) == ["truth", "prediction"]


# ------------------------------------------------------------------------------------------------------ large images
def test_large_photos_are_decoded_once(run, tmp_path, monkeypatch):
    """At the check before the first step, not at every step."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 255, (300, 400, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "train" / f"{i}.jpg")
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps({
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 300} for i in range(2)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [40, 60, 120, 90], "area": 1, "iscrowd": 0}
                        for i in range(2)], "categories": [{"id": 1, "name": "cow"}]}))
    reads = []
    monkeypatch.setattr("minicv.data.files.images.decode",
                        lambda path, page: reads.append(path) or decode.decode(path, page))
    code, text, _ = run("train", "faster_rcnn", "--data", f"coco:{tmp_path}", "--out", tmp_path / "run", "--steps", 4,
                        "--quiet", *TINY_RCNN, "--anchors", "auto")
    assert code == 0 and "images: 400 x 300 pixels; the network sees 64 x 48" in text
    assert len([path for path in reads if path.name == "1.jpg"]) == 1
    assert len([path for path in reads if path.name == "0.jpg"]) <= 3  # also before its size is known
