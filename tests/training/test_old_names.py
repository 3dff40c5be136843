"""Checkpoints of the format "minicv 1", written here field by field, as older versions wrote them."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import minicv
from minicv import models
from minicv.data import Cells, registry
from minicv.nn import init
from minicv.training import (
    CheckpointError,
    DetectionConfig,
    Run,
    SegmentationConfig,
    SegmentationTask,
    Training,
    load_checkpoint,
    load_pretrained,
)
from minicv.training.checkpoint import checksum
from minicv.training.evaluate import evaluate_segmentation
from minicv.training.old_names import OLD_NAMES, rename_all

CONFIG = SegmentationConfig(steps=3, tile=16, batch=1)


def training(config=CONFIG):
    minicv.seed(0)
    model = models.build("unet", width=1, depth=1)
    return Training(SegmentationTask(model, Cells(2, 32), config))


def write(path, job, data, **names):
    """Write a run's state as the format "minicv 1" has it; ``names``: {old: new} for single arrays and fields."""
    back = {new: old for old, new in names.items()}
    state = {back.get(name, name): array for name, array in job.model.state_dict().items()}
    state |= {f"optimizer.{name}": np.asarray(value) for name, value in job.optimizer.state_dict().items()}
    numbers = {back.get(name, name): value for name, value in vars(job.task.config).items()}
    options = {back.get(name, name): value for name, value in {"width": 1, "depth": 1}.items()}
    recipe = json.dumps({"model": "unet", "preset": "compact", "options": options})
    info = json.dumps({"data": data, "classes": ["a", "b"], "recipe": numbers, "seconds": 1.5, "best": -0.5,
                       "best_by": "loss", "step": job.step})
    save_file(state, path, {"format": "minicv 1", "recipe": recipe, "info": info,
                            "checksum": checksum(recipe + info, state)})


@pytest.fixture
def renamed(monkeypatch):
    """A table with an entry of each kind; what each would rename back."""
    for kind, old, new in (("options", "unet.levels", "depth"), ("options", "fcn8s.width", "depth"),
                           ("config", "images", "batch"), ("data", "kells", "cells"),
                           ("arrays", "top.w", "head.weight")):
        monkeypatch.setitem(OLD_NAMES[kind], old, new)
    return {"levels": "depth", "images": "batch", "top.w": "head.weight"}


def test_an_old_checkpoint_loads_and_evaluates(tmp_path, renamed):
    job = training()
    write(tmp_path / "old.safetensors", job, "kells", **renamed)
    model, info = load_checkpoint(tmp_path / "old.safetensors", expect="unet")
    assert model.build_args == {"model": "unet", "preset": "compact", "options": {"width": 1, "depth": 1}}
    assert info["config"] == json.loads(json.dumps(vars(CONFIG))) and info["data"] == "cells" and info["step"] == 0
    assert evaluate_segmentation(model, Cells(2, 32)) == evaluate_segmentation(job.model, Cells(2, 32))


def test_an_old_run_continues_bit_for_bit(tmp_path, renamed):
    whole, part = training(), training()
    for _ in whole:
        pass
    next(iter(part))
    write(tmp_path / "last.safetensors", part, "kells", **renamed)
    run = Run(training(), tmp_path, {"data": "cells", "classes": ["a", "b"]}, quiet=True)
    run.resume()
    assert run.training.step == 1 and run.seconds == 1.5 and run.best == -0.5
    run.run()
    for name, value in whole.model.state_dict().items():
        assert value.tobytes() == run.training.model.state_dict()[name].tobytes(), name


def test_the_weights_of_an_old_checkpoint_load_alone(tmp_path, renamed):
    job = training()
    write(tmp_path / "old.safetensors", job, "kells", **renamed)
    model = models.build("unet", width=1, depth=1)
    load_pretrained(model, tmp_path / "old.safetensors")
    np.testing.assert_array_equal(model.head.weight.data, job.model.head.weight.data)


def test_a_damaged_old_checkpoint_is_refused(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"a": np.zeros(3, np.float32)}, path, {"format": "minicv 1", "recipe": "{}", "info": "{}"})
    with pytest.raises(CheckpointError, match="do not match its checksum"):
        load_checkpoint(path)


WRITTEN = json.loads(Path(__file__).with_name("minicv_1.json").read_text())  # the names of all networks; # is a number


@pytest.mark.parametrize("name", WRITTEN["models"])
def test_the_options_and_arrays_of_every_network_have_todays_names(name):
    old = WRITTEN["models"][name]
    args, _, state = rename_all({"model": name, "options": old["options"]}, {}, dict.fromkeys(old["arrays"].split()))
    with init.blank():
        model = models.build(args["model"], **args["options"])
    assert set(state) == {re.sub(r"\d+", "#", array) for array in model.state_dict()}


def test_the_fields_of_the_configuration_and_the_data_sets_have_todays_names():
    for config, kind in ((SegmentationConfig(), "segmentation"), (DetectionConfig(), "detection")):
        old = {"config": dict.fromkeys(WRITTEN["config"][kind].split())}
        assert rename_all({"model": "", "options": {}}, old, {})[1]["config"].keys() <= vars(config).keys()
    for name in WRITTEN["data"].split():
        assert rename_all({"model": "", "options": {}}, {"data": name}, {})[1]["data"] in registry.DATASETS


def test_a_backbone_has_options_of_its_own(monkeypatch):
    for old, new in (("hidden", "units"), ("vgg16.hidden", "fc_width")):
        monkeypatch.setitem(OLD_NAMES["options"], old, new)
    args, _, _ = rename_all({"model": "fast_rcnn", "options": {
        "hidden": 3, "trunk": "vgg16", "trunk_options": {"hidden": 4}}}, {}, {})
    assert args["options"] == {"units": 3, "backbone": "vgg16", "backbone_options": {"fc_width": 4}}


def test_no_new_name_is_renamed_again():
    """Today's names that are another entry's old name would depend on the order of the table."""
    for kind, table in OLD_NAMES.items():
        assert not {new for old, new in table.items() if "." not in old} & table.keys(), kind


def test_only_whole_parts_of_arrays_names_are_renamed(monkeypatch):
    monkeypatch.setitem(OLD_NAMES["arrays"], "top", "head")
    _, _, state = rename_all({"model": "unet", "options": {}}, {}, {"top.weight": 1, "x.top": 2, "stop.top1.a": 3})
    assert state == {"head.weight": 1, "x.head": 2, "stop.top1.a": 3}


def test_arrays_of_one_model_may_be_renamed(monkeypatch):
    monkeypatch.setitem(OLD_NAMES["arrays"], "top", "head")
    monkeypatch.setitem(OLD_NAMES["arrays"], "vgg16.top", "tail")
    states = [rename_all({"model": name, "options": {}}, {}, {"top.w": 1})[2] for name in ("vgg16", "unet")]
    assert states == [{"tail.w": 1}, {"head.w": 1}]
