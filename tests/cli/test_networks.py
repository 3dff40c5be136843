"""The minicv command with every network: train, evaluate, predict; which commands belong to a network."""
import contextlib
import io
import json

import numpy as np
import pytest

import minicv
from minicv import models, training
from minicv.cli import main as cli
from minicv.cli import networks, train
from minicv.cli.commands import NetworkCommands
from minicv.cli.detection import DetectionCommands
from minicv.data import StreetScenes, read_image, read_label, write_png
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.detection import Detections
from minicv.errors import UserError
from minicv.training import load_checkpoint, save_checkpoint
from tests.models.detection.learning import PROPOSING, TINY
from tests.oracle import require

OPTIONS = [f"--option={name}={json.dumps(value)}" for name, value in
           {**TINY, **PROPOSING, "allowed_border": 1e9, "mask_width": 4}.items() if name != "num_classes"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A Mask R-CNN that has learned nothing, and finds much."""
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    minicv.seed(0)
    model = models.build("mask_rcnn", **{**TINY, **PROPOSING, "allowed_border": 1e9, "num_classes": 5, "mask_width": 4})
    save_checkpoint(path, model, classes=["disc", "square", "triangle", "star", "cross"])
    return path


def test_every_network_that_is_trained_has_commands_and_a_config():
    for name in train.TRAINABLE:
        args = cli.parser().parse_args(["train", name, "--data", "shape-boxes", "--out", "x"])
        assert networks.commands_for(name).config_from_args(name, args).steps > 0
    with pytest.raises(UserError, match="the model 'vgg16' neither labels pixels nor finds objects"):
        networks.commands_for("vgg16")


def test_commands_that_are_not_finished_cannot_be_made():
    class Unfinished(DetectionCommands):
        make_task = NetworkCommands.make_task
    with pytest.raises(TypeError, match="abstract class Unfinished .*make_task"):
        Unfinished()


def config(name, *options):
    """The config that the command line gives for a network."""
    return networks.commands_for(name).config_from_args(name, cli.parser().parse_args(
        ["train", name, "--data", "street-scenes", "--out", "x", *options]))


def test_another_optimizer_has_its_own_numbers():
    for options, numbers in (([], (0.001, 0.0)), (["--optimizer", "sgd"], (0.0001, 0.0005)),
                             (["--preset", "paper", "--optimizer", "adam"], (0.001, 0.0)),
                             (["--optimizer", "adam", "--lr", "0.002", "--weight-decay", "0.1"], (0.002, 0.1))):
        chosen = config("fcn8s", *options)
        assert (chosen.lr, chosen.weight_decay) == numbers


def test_options_of_the_schedule_and_of_sgd():
    chosen = config("unet", "--optimizer", "sgd", "--momentum", "0.8", "--weight-decay", "0.1",
                    "--schedule", "step", "--milestones", "0.5,0.75", "--gamma", "0.2", "--warmup", "7", "--freeze-bn")
    assert (chosen.momentum, chosen.weight_decay, chosen.gamma, chosen.warmup) == (0.8, 0.1, 0.2, 7)
    assert chosen.milestones == (0.5, 0.75) and chosen.freeze_bn and config("unet", "--no-freeze-bn").freeze_bn is False
    assert config("yolo").flip and not config("yolo", "--no-flip").flip


def test_another_schedule_does_not_take_over_the_networks_milestones(monkeypatch):
    monkeypatch.setitem(models.model_class("pspnet").TRAIN_DEFAULTS, "paper",
                        {"schedule": "step", "milestones": (0.5,), "gamma": 0.5})
    assert config("pspnet", "--preset", "paper").gamma == 0.5 and config("pspnet").schedule == "poly"
    assert config("pspnet", "--preset", "paper", "--gamma", "0.3").milestones == (0.5,)
    assert config("pspnet", "--preset", "paper", "--schedule", "cosine").milestones == ()


@pytest.mark.parametrize(("options", "message"), [
    (["--optimizer", "adam", "--momentum", "0.9"], "--momentum is for the optimizer sgd, not for adam"),
    (["--milestones", "0.5"], "--milestones is for --schedule step, not for poly"),
    (["--schedule", "cosine", "--gamma", "0.5"], "--gamma is for --schedule step, not for cosine"),
    (["--schedule", "step"], "--schedule step needs --milestones"),
    (["--flip"], "--flip is not for unet"),
])
def test_options_of_training_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        config("unet", *options)


def test_train_evaluate_predict(run, few_images, tmp_path):
    out = tmp_path / "run"
    code, text, error = run("train", "mask_rcnn", "--data", "shape-boxes", "--out", out, "--steps", 2, "--optimizer",
                            "adam",
                            "--turn", "--scale", 1.2, "--jitter", 0.1, "--quiet", *OPTIONS)
    assert (code, error) == (0, "")
    assert "2 steps in" in text and "scale 1.2, jitter 0.1" in text and ", turn, " in text
    model, info = load_checkpoint(out / "last.safetensors")
    assert info["classes"] == ["disc", "square", "triangle", "star", "cross"] and model.min_size == 48
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert {"rpn_class", "rpn_box", "class", "box", "mask", "total"} < json.loads(lines[-1]).keys()
    code, text, _ = run("evaluate", "--checkpoint", out / "last.safetensors", "--data", "shape-boxes", "--split", "val",
                        "--json")
    assert code == 0 and {"mAP@0.5", "AP@0.5 star", "COCO AP", "mask AP50"} < json.loads(text).keys()


@pytest.mark.parametrize("name", models.names("segmentation"))
def test_networks_that_label_pixels(run, monkeypatch, tmp_path, name):
    """All three commands, with the compact preset and the paper's config but for the batch; odd sides."""
    def few(spec, split="train"):
        return StreetScenes(2, (37, 50), len(split))
    monkeypatch.setattr(minicv.data, "open_dataset", few)
    out = tmp_path / "run"
    tile = ["--tile", 20] if name == "unet" else []
    code, text, error = run("train", name, "--data", "street-scenes", "--out", out, "--steps", 2, "--batch", 2,
                            "--quiet",
                            *tile)
    assert (code, error) == (0, "") and "2 steps in" in text
    code, text, error = run("evaluate", "--checkpoint", out / "last.safetensors", "--data", "street-scenes", "--json")
    assert (code, error) == (0, "") and {"mean_iu", "boundary_f_score", "iu ground"} <= json.loads(text).keys()
    write_png(tmp_path / "a.png", few("street-scenes")[0].image)
    code, text, error = run("predict", "--checkpoint", out / "last.safetensors", tmp_path / "a.png", "--out",
                            tmp_path / "p")
    assert (code, error) == (0, "") and text.startswith(f"{tmp_path / 'p' / 'a'}_overlay.png  (50 x 37 pixels)  ")
    labels = read_label(tmp_path / "p" / "a_labels.png")
    assert labels.shape == (37, 50) and labels.max() < 9


def test_fcn_in_stages(run, monkeypatch, tmp_path):
    """FCN-32s from a classifier, FCN-16s from that, ... (sec. 4.2); a step at a rate of nearly 0 changes nothing."""
    monkeypatch.setattr(minicv.data, "open_dataset", lambda spec, split="train": StreetScenes(2, 40))
    minicv.seed(1)
    classifier = models.build("vgg16", width=8, batch_norm=True)
    save_checkpoint(tmp_path / "vgg.safetensors", classifier)
    again = ["--data", "street-scenes", "--width", 8, "--steps", 1, "--batch", 1, "--lr", 1e-12, "--quiet"]
    start = tmp_path / "vgg.safetensors"
    for name in ("fcn32s", "fcn16s", "fcn8s"):
        code, text, _ = run("train", name, "--start", start, "--out", tmp_path / name, *again)
        taken, left, random, *_ = text.splitlines()
        assert code == 0 and taken.startswith(f"taken from {start}: backbone, head")
        assert ("warning" in text) == (name == "fcn32s")  # the classifier does not say how its images were normalized
        assert left == ("left in the file: classifier.6 (2 arrays)" if name == "fcn32s" else
                        "left in the file: nothing")
        assert random.startswith(f"start at random: {'score' if name == 'fcn32s' else 'skips'}")
        before, start = load_checkpoint(start)[0].state_dict(), tmp_path / name / "last.safetensors"
        after, key = load_checkpoint(start)[0].state_dict(), "features.0.weight"
        backbone = before[key if name == "fcn32s" else f"backbone.{key}"]
        np.testing.assert_allclose(after[f"backbone.{key}"], backbone, atol=1e-6)
        if name != "fcn32s":
            np.testing.assert_allclose(after["score.weight"], before["score.weight"], atol=1e-6)
    assert (models.build("vgg16", width=8, batch_norm=True).state_dict()[key] != before[f"backbone.{key}"]).any()


@pytest.fixture
def resnet(tmp_path):
    """A file of PyTorch's with a small ResNet, and its arrays by name."""
    minicv.seed(1)
    model = models.build("resnet18", "paper", width=4, num_classes=7)
    training.export_weights(tmp_path / "resnet.pth", model, "torch")
    return tmp_path / "resnet.pth", model.state_dict()


def on_resnet(**options):
    """The arguments of a training of Faster R-CNN on a small ResNet."""
    own = {**TINY, **PROPOSING, "allowed_border": 1e9, "backbone": "resnet18", "cut_at": "layer2",
           "backbone_options": {"width": 4}, **options}
    return ["train", "faster_rcnn", "--data", "shape-boxes", "--steps", 2, "--quiet",
            *options_of(**{name: value for name, value in own.items() if name != "num_classes"})]


def test_start_and_freeze(run, few_images, resnet, tmp_path):
    """From the weights of another program, with another normalization: the backbone stays as it is in the file."""
    path, theirs = resnet
    again = [*on_resnet(normalization="image"), "--start", path, "--freeze", "backbone", "--out", tmp_path / "run"]
    code, text, _ = run(*again)
    lines = text.splitlines()
    assert code == 0 and lines[0].startswith(f"taken from {path}: backbone (50 arrays, ") and "backbone frozen" in text
    assert lines[1] == "left in the file: layer3, layer4, fc (52 arrays)"
    assert lines[2].startswith("start at random: head, rpn (14 arrays, ")
    assert lines[3] == (f"warning: {path} does not say how its images were normalized; if it comes from ImageNet, add "
                        "--option 'normalization=\"imagenet\"', as this network has 'image'")
    trained, info = load_checkpoint(tmp_path / "run" / "last.safetensors")
    for name, array in trained.backbone.state_dict().items():
        np.testing.assert_array_equal(array, theirs[name])
    assert info["config"]["freeze"] == "backbone" and trained.normalization == "image"
    code, text, _ = run(*again, "--resume", "--steps", 3)
    assert code == 0 and "taken" not in text and "from step 2" in text  # the weights are the run's
    again = [*on_resnet(), "--start", tmp_path / "run" / "last.safetensors", "--out", tmp_path / "more"]
    lines = run(*again)[1].splitlines()
    assert lines[1:3] == ["left in the file: nothing", "start at random: nothing"]
    assert lines[3] == (f"warning: {again[-3]} was trained on images with normalization 'image': add --option "
                        "'normalization=\"image\"', as this network has 'imagenet'")
    assert "images with normalization" not in run(*again[:-1], tmp_path / "third", "--option",
                                                  'normalization="image"')[1]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--start", "no.pth"], "no.pth: no such file"),
    (["--freeze", "backbone"], "--freeze backbone needs --start FILE: without it, the backbone would stay random")])
def test_start_and_freeze_that_do_not_work(fails, few_images, tmp_path, arguments, message):
    assert fails(*on_resnet(), *arguments, "--out", tmp_path / "run") == message
    assert not (tmp_path / "run").exists()


def test_a_start_of_other_channels_names_the_preset(fails, few_images, resnet, tmp_path):
    message = fails(*on_resnet(backbone_options={"width": 8}), "--start", resnet[0], "--out", tmp_path / "run")
    assert message == (f"--start {resnet[0]}: conv1.weight is (4, 3, 7, 7), and faster_rcnn has (8, 3, 7, 7) there; "
                       "the compact preset has fewer channels than published weights, --preset paper has as many")


@pytest.mark.parametrize("to", ["torch", "safetensors"])
def test_export_and_back(run, fails, resnet, tmp_path, to):
    minicv.seed(2)
    model = models.build("pspnet", "paper", backbone_options={"width": 4}, num_classes=3)
    checkpoint = tmp_path / "last.safetensors"
    save_checkpoint(checkpoint, model, {"optimizer.0.v": np.ones(3)})
    file = tmp_path / ("last.pth" if to == "torch" else "last_weights.safetensors")
    assert run("export", checkpoint, "--to", to) == (
        0, f"{file}\n{len(model.state_dict())} arrays, {sum(a.size for a in model.state_dict().values()):,} numbers, "
        "named as in minicv; images in 0..1 are normalized by their own mean and deviation\n", "")
    again = models.build("pspnet", "paper", backbone_options={"width": 4}, num_classes=3)
    assert not training.load_pretrained(again, file).random
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, model.state_dict()[name])
    assert run("export", checkpoint, "--to", to, "--out", tmp_path / "new" / "w")[0] == 0
    assert (tmp_path / "new" / "w").read_bytes() == file.read_bytes()
    assert fails("export", checkpoint, "--to", to, "--out", checkpoint) == (
        f"--out {checkpoint}: would overwrite the checkpoint")
    assert fails("export", checkpoint, "--to", to, "--out", tmp_path) == f"--out {tmp_path}: is a folder; name the file"
    assert fails("export", resnet[0], "--to", to).startswith(f"{resnet[0]}: not a safetensors file")


def options_of(**options):
    return [f"--option={name}={json.dumps(value)}" for name, value in options.items()]


@pytest.mark.parametrize(("name", "options"), [
    ("rcnn", {"warp_size": 32, "context": 2.0, "rois_per_image": 8, "proposal_max_size": 24, "backbone_options": {
        "depth": 11, "width": 4, "hidden": 16, "pooled": 1, "batch_norm": True, "dropout": 0.0}}),
    ("sppnet", {k: v for k, v in TINY.items() if k not in ("roi_size", "num_classes")}),
    ("fast_rcnn", {k: v for k, v in TINY.items() if k != "num_classes"}),
    ("yolo", {"layers": "3x4 max 3x5 max", "image_size": 24, "hidden": 8})])
def test_networks_that_search_and_yolo(run, few_images, tmp_path, name, options):
    """All three commands; proposals by selective search are made once for each image and kept beside the weights."""
    out = tmp_path / "run"
    code, text, error = run("train", name, "--data", "shape-boxes", "--out", out, "--steps", 2, "--batch", 2,
                            "--optimizer",
                            "adam", "--lr", 0.001, "--quiet", *options_of(**options))
    assert (code, error) == (0, "") and "2 steps in" in text
    model, _ = load_checkpoint(out / "last.safetensors")
    if name in ("rcnn", "sppnet"):  # all three trainings are in the file
        assert model.svm_weight.any() and (model.svm_bias != -2).any()
    assert len(list(out.glob("proposals/selective_search/*"))) == (0 if name == "yolo" else 2)
    code, text, error = run("evaluate", "--checkpoint", out / "last.safetensors", "--data", "shape-boxes", "--json")
    assert (code, error) == (0, "") and 0 <= json.loads(text)["mAP@0.5"] <= 1
    assert len(list(out.glob("proposals/selective_search/*"))) == (0 if name == "yolo" else 4)
    write_png(tmp_path / "a.png", ShapeBoxes(1, (40, 60))[0].image)
    code, text, error = run("predict", "--checkpoint", out / "last.safetensors", tmp_path / "a.png", "--out",
                            tmp_path / "p", "--score", -1)
    assert (code, error) == (0, "") and text.startswith(f"{tmp_path / 'p' / 'a'}_boxes.png  (60 x 40 pixels)  ")
    assert json.loads((tmp_path / "p" / "images.json").read_text())["images"][0]["width"] == 60


@pytest.mark.parametrize(("name", "options", "sure"), [
    ("faster_rcnn", {}, 0.5), ("sppnet", {}, 0.0), ("sppnet", {"svm": False}, 0.5), ("yolo", {}, 0.25)])
def test_predict_writes_what_a_network_is_sure_of(run, monkeypatch, tmp_path, name, options, sure):
    model = models.build(name, **options)
    assert model.display_score == sure
    found = Detections(np.tile(np.array([[1, 2, 30, 40]], np.float32), (2, 1)),
                       np.array([sure, sure - 0.01], np.float32), np.array([0, 1]))
    monkeypatch.setattr(type(model), "predict", lambda self, images, proposals, score: [found[found.scores >= score]])
    monkeypatch.setattr(type(model), "propose", lambda self, image: found.boxes)
    save_checkpoint(tmp_path / "model.safetensors", model)
    write_png(tmp_path / "a.png", np.zeros((3, 50, 60), np.float32))
    again = ["predict", "--checkpoint", tmp_path / "model.safetensors", tmp_path / "a.png", "--out", tmp_path / "p"]
    for more, count in (([], 1), (["--score", -1], 2)):
        assert run(*again, *more)[0] == 0
        assert len(json.loads((tmp_path / "p" / "results.json").read_text())) == count


def test_a_run_goes_on(run, few_images, tmp_path):
    again = ["train", "faster_rcnn", "--data", "shape-boxes", "--quiet", *OPTIONS[:-1]]
    assert run(*again, "--out", tmp_path / "a", "--steps", 2)[0] == 0
    assert run(*again, "--out", tmp_path / "a", "--steps", 2, "--resume")[0] == 0


def test_alternating_training(run, fails, few_images, monkeypatch, tmp_path):
    """Four trainings; stopped in the third, it goes on there, and ends as if it had not been stopped."""
    again = ["train", "faster_rcnn", "--data", "shape-boxes", "--alternating", "--steps", 2, "--quiet", *OPTIONS[:-1]]
    code, text, error = run(*again, "--out", tmp_path / "a")
    assert (code, error) == (0, "") and text.count("2 steps in ") == 4
    files = [tmp_path / "a" / folder / "last.safetensors" for folder in ("1_rpn", "2_head", "3_rpn", "")]
    states = [load_checkpoint(file)[0].state_dict() for file in files]
    learned = [{name.partition(".")[0] for name in after if (after[name] != before[name]).any()}
               for before, after in zip(states[1:-1], states[2:], strict=True)]
    assert learned == [{"rpn"}, {"head"}]  # on the backbone of the second

    def stop(self, *arguments, original=training.Training.train_step):
        if self.model.trainable == ("rpn",) and self.model.backbone.frozen and self.step == 1:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as m:
        m.setattr(training.Training, "train_step", stop)
        assert run(*again, "--out", tmp_path / "b")[0] == 130
    assert not (tmp_path / "b" / "last.safetensors").exists()
    assert run(*again, "--out", tmp_path / "b", "--resume")[0] == 0
    whole = load_checkpoint(tmp_path / "b" / "last.safetensors")[0].state_dict()
    assert all((whole[name] == states[-1][name]).all() for name in whole)

    for out in ("a", "b"):
        assert "already exists: add --resume to continue it" in fails(*again, "--out", tmp_path / out)
    assert fails(*again, "--out", tmp_path / "c", "--proposals", files[0]) == (
        "--alternating makes its own proposals; leave out --proposals")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_predict_writes_results_that_pycocotools_loads(run, checkpoint, tmp_path):
    image = ShapeBoxes(1, (40, 60))[0].image
    write_png(tmp_path / "a.png", image)
    write_png(tmp_path / "b.png", image)
    out = tmp_path / "out"
    code, text, error = run("predict", "--checkpoint", checkpoint, tmp_path / "a.png", tmp_path / "b.png", "--out", out,
                            "--score", 0.1, "--comp4")
    assert (code, error) == (0, "") and text.startswith(f"{out / 'a'}_boxes.png  (60 x 40 pixels)  disc: ")
    names = load_checkpoint(checkpoint)[1]["classes"]
    assert sorted(p.name for p in out.iterdir()) == sorted([
        "a_boxes.png", "b_boxes.png", "images.json", "results.json", *(f"comp4_det_test_{n}.txt" for n in names)])
    assert read_image(out / "a_boxes.png", "RGB").shape == (3, 8 * 40, 8 * 60)  # 500 // 60 times as large
    found = load_checkpoint(checkpoint)[0].predict([read_image(tmp_path / "a.png", "RGB")])[0]
    found = found[found.scores >= 0.1]
    require("pycocotools")
    from pycocotools.coco import COCO
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(out / "images.json"))
        loaded = coco.loadRes(str(out / "results.json"))
    assert [coco.imgs[i]["file_name"] for i in (1, 2)] == [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    for image_id in (1, 2):
        entries = loaded.loadAnns(loaded.getAnnIds(image_id))
        assert len(entries) == len(found) > 0
        for entry, box, label, score, mask in zip(entries, found.boxes, found.labels, found.scores, found.masks,
                                                  strict=True):
            assert entry["bbox"] == [*box[:2].tolist(), *(box[2:].astype(float) - box[:2]).tolist()]
            assert entry["score"] == score and coco.cats[entry["category_id"]]["name"] == names[label]
            np.testing.assert_array_equal(loaded.annToMask(entry), mask)
    lines = [line.split() for name in names for line in (out / f"comp4_det_test_{name}.txt").read_text().splitlines()]
    assert len(lines) == 2 * len(found) and {line[0] for line in lines} == {"a", "b"}
    run("predict", "--checkpoint", checkpoint, tmp_path / "a.png", "--out", out, "--score", 1)
    assert json.loads((out / "results.json").read_text()) == []


def test_proposals_of_another_checkpoint(run, few_images, tmp_path):
    rpn = tmp_path / "rpn" / "last.safetensors"
    assert run("train", "faster_rcnn", "--data", "shape-boxes", "--out", rpn.parent, "--steps", 1, "--quiet",
               *OPTIONS[:-1])[0] == 0
    fast = [o for o in OPTIONS if any(f"={name}=" in o for name in TINY)]
    code, _, error = run("train", "fast_rcnn", "--data", "shape-boxes", "--out", tmp_path / "fast", "--steps", 1,
                         "--quiet",
                         "--proposals", rpn, *fast)
    assert (code, error) == (0, "")
    kept = tmp_path / "fast" / "proposals" / "rpn"
    assert len(list(kept.glob("*.npz"))) == 2
    assert run("evaluate", "--checkpoint", tmp_path / "fast" / "last.safetensors", "--data", "shape-boxes",
               "--proposals",
               rpn)[0] == 0
    assert len(list(kept.glob("*.npz"))) == 4  # the test images, too


@pytest.mark.parametrize(("arguments", "message"), [
    (["unet", "--turn"], "--turn is not for unet, which labels pixels"),
    (["faster_rcnn", "--workers", "0"], "--workers 0: must be at least 1"),
    (["faster_rcnn", "--weight-map"], "--weight-map is not for faster_rcnn, which finds objects"),
    (["faster_rcnn", "--option", "short"], "--option short: must be NAME=VALUE with the value in JSON, as in min_size"),
    (["faster_rcnn", "--option", "roi_pooling=align"],
     "--option roi_pooling=align: text needs quotes: --option 'roi_pooling=\"align\"'"),
    (["faster_rcnn", "--option", "x=3"], "--option x=3: faster_rcnn has no option x; there are: normalization,"),
    (["faster_rcnn", "--option", "min_sise=3"],
     "--option min_sise=3: faster_rcnn has no option min_sise; did you mean min_size?"),
    (["yolo", "--alternating"], "--alternating is not for yolo; it is for faster_rcnn and mask_rcnn"),
    (["fast_rcnn", "--proposals", "no.safetensors"], "no.safetensors: no such checkpoint"),
])
def test_errors(fails, few_images, tmp_path, arguments, message):
    assert fails("train", *arguments, "--data", "shape-boxes", "--out", tmp_path / "x").startswith(message)


@pytest.mark.parametrize(("model", "spec", "needs"), [
    ("unet", "shape-boxes",
     "labels pixels and needs a class for every pixel, as in cells, camvid:PATH or masks:PATH"),
    ("unet", "shapes", "labels pixels and needs a class for every pixel"),
    ("faster_rcnn", "cells",
     "finds objects and needs a box around every object, as in shape-boxes, bccd:PATH or yolo:PATH"),
])
def test_a_data_set_of_another_kind_is_refused(fails, tmp_path, model, spec, needs):
    assert fails("train", model, "--data", spec, "--out", tmp_path / "x").startswith(
        f"--data {spec} is not for {model}, which {needs}")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("name", "does", "options"), [
    ("unet", "labels pixels", [["--proposals", "a.safetensors"]]),
    ("yolo", "finds objects", [["--tile", "64"], ["--average"]])])
def test_options_of_another_kind_are_not_passed_over(fails, tmp_path, name, does, options):
    save_checkpoint(tmp_path / "m.safetensors", models.build(name))
    predict = ["predict", "--checkpoint", tmp_path / "m.safetensors", "--out", tmp_path / "out", tmp_path / "a.png"]
    evaluate = ["evaluate", "--checkpoint", tmp_path / "m.safetensors", "--data", "cells"]
    for option in options:
        for command in (predict, evaluate):
            assert fails(*command, *option).startswith(f"{option[0]} is not for {name}, which {does}")
    if name == "unet":
        assert fails(*predict, "--score", "0").startswith("--score is not for unet, which labels pixels")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_is_not_measured_on_a_data_set_of_another_kind(fails, checkpoint):
    assert fails("evaluate", "--checkpoint", checkpoint, "--data", "cells").startswith(
        "--data cells is not for mask_rcnn, which finds objects and needs a box")
