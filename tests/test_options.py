"""No option is passed over: each has an effect for a network and its data, or is refused by name.

The options come from the parser; one that has no entry in EFFECT fails the first test.
"""
import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

import minicv.data
from minicv import models
from minicv.cli import main as cli
from minicv.cli import networks, train
from minicv.data import Cells, StreetScenes
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.errors import UserError

# Of each option what it changes: "config", numbers of the training; "model", the network; "command", something that
# every network has (files, messages, threads, the data), tested with the command; or what decides if it is refused.
TRAIN = {
    **dict.fromkeys(("data", "out", "preset", "seed", "workers", "validate", "patience", "export_best", "resume",
                     "save_every", "check", "quiet", "model", "start"), "command"),
    **dict.fromkeys(("steps", "batch", "optimizer", "lr", "weight_decay", "schedule", "warmup"), "config"),
    "momentum": "with sgd", "milestones": "with --schedule step", "gamma": "with --schedule step",
    "freeze_bn": "with batch norm", "sync_batch_norm": "with batch norm and mpirun", "width": "with a width",
    "option": "model", "scale": "augmentation", "jitter": "augmentation", "elastic": "augmentation",
    "tile": "pixels", "augment": "pixels", "weight_map": "instances", "class_weights": "pixels", "two_stage": "pixels",
    "freeze": "with --start", "flip": "objects", "turn": "objects", "alternating": "faster_rcnn",
    "anchors": "anchors", "proposals": "proposals"}
ANSWERS = {**dict.fromkeys(("checkpoint", "data", "split", "json", "report", "out", "images"), "command"),
           "tile": "pixels", "average": "pixels", "scales": "pixels", "flip": "pixels", "score": "objects",
           "proposals": "proposals", "comp4": "objects"}
OTHERS = {"lessons": {"names", "quick", "data", "seed"}, "gradcheck": {"ops"}, "doctor": set(),
          "summary": {"model", "preset", "input"}, "papers": {"name"}, "claims": {"ids", "quick", "keep"},
          "export": {"checkpoint", "to", "out"},
          "data": {"data", "name", "root", "mirror", "connections", "quiet", "split", "out", "images"}}


def options_of(parser):
    """The names of all options and arguments of a command, those of its own commands included."""
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= set().union(*(options_of(each) for each in action.choices.values()))
        elif action.dest != "help":
            found.add(action.dest)
    return found


def test_every_option_of_every_command_has_a_decision():
    commands = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    decided = {**OTHERS, "train": set(TRAIN)}
    for name, parser in commands.items():
        if name in ("evaluate", "predict"):
            assert options_of(parser) <= set(ANSWERS), name
        else:
            assert options_of(parser) == decided[name], name
    assert set(ANSWERS) == options_of(commands["evaluate"]) | options_of(commands["predict"])


VALUES = {"steps": ["7"], "batch": ["3"], "optimizer": ["sgd"], "lr": ["0.25"], "weight_decay": ["0.125"],
          "schedule": ["cosine"], "warmup": ["3"], "momentum": ["0.5", "--optimizer", "sgd"], "freeze_bn": [],
          "sync_batch_norm": [], "width": ["6"], "scale": ["1.5"], "jitter": ["0.3"], "elastic": ["3"], "tile": ["20"],
          "augment": None, "weight_map": [], "class_weights": [], "two_stage": [], "turn": [], "alternating": [],
          "flip": None, "proposals": ["no.safetensors"], "freeze": ["backbone"], "milestones": ["0.5"],
          "gamma": ["0.5"], "option": ["no=1"], "anchors": ["auto"]}
WORDS = {"augment": ["--no-augment"], "flip": ["--no-flip"]}
DATA = {"cells": Cells(2, 32), "street-scenes": StreetScenes(2, (32, 40)), "shape-boxes": ShapeBoxes(2, 48)}


def words(option):
    return WORDS.get(option) or [f"--{option.replace('_', '-')}", *VALUES[option]]


@pytest.fixture(scope="module")
def built():
    """name, data -> a small network for it, made once."""
    made = {}

    def network(name, data):
        if (name, data) not in made:
            made[name, data] = models.build(name, num_classes=DATA[data].num_classes,
                                            in_channels=len(DATA[data][0].image))
        return made[name, data]
    return network


def accepted(built, name, data, option, monkeypatch, extra=()):
    """Whether train takes an option for a network on a data set; the config with it, or the message of the refusal."""
    monkeypatch.setattr(minicv.data, "open_dataset", lambda spec, split="train": DATA[data])
    args = cli.parser().parse_args(["train", name, "--data", data, "--out", "x", *words(option), *extra])
    commands = networks.commands_for(name)
    try:
        config = commands.config_from_args(name, args)
        model = built(name, data)
        options = {"num_classes": DATA[data].num_classes, **train.model_options(args)}
        train.anchor_options(args, options, DATA[data], config)
        commands.check_train_options(args, config, commands.open_dataset(data, "train", name), model, processes=2)
        if args.alternating or args.proposals is not None:
            for _ in itertools.islice(commands.make_tasks(model, DATA[data], config, args), 1):
                pass
    except UserError as error:
        return False, str(error)
    return True, config


PAIRS = [(name, data) for name in train.TRAINABLE
         for data in (("cells", "street-scenes") if name in models.names("segmentation") else ("shape-boxes",))]


@pytest.mark.parametrize(("name", "data"), PAIRS, ids=lambda value: str(value))
def test_train_uses_or_refuses_each_option(built, monkeypatch, name, data):
    segmentation, model = name in models.names("segmentation"), built(name, data)
    batch_norm = any(type(m).__name__ == "BatchNorm2d" for m in model.modules())
    rule = {"config": True, "with sgd": True, "pixels": segmentation, "objects": not segmentation,
            "with batch norm": batch_norm, "with batch norm and mpirun": batch_norm, "instances": segmentation,
            "with a width": "width" in models.model_options(type(model)), "with --schedule step": False,
            "model": False,  # no network has the option "no"
            "with --start": False, "faster_rcnn": "ster" in name or "mask" in name,
            "anchors": "anchor_scales" in models.model_options(type(model))}
    args = cli.parser().parse_args(["train", name, "--data", data, "--out", "x"])
    default = networks.commands_for(name).config_from_args(name, args)
    for option, effect in TRAIN.items():
        if effect == "command":
            continue
        good, result = accepted(built, name, data, option, monkeypatch)
        if effect == "augmentation":
            wanted = option != "elastic" if not segmentation or data == "street-scenes" else option == "elastic"
        elif effect == "proposals":  # the file is missing, which is said where it would be used
            assert not good and ("no such checkpoint" in result) == (name in models.names("detection")
                                                                     and not name.endswith("yolo")), (option, result)
            continue
        else:
            wanted = rule[effect]
        assert good == wanted, (option, result)
        if not good:
            assert f"--{option.replace('_', '-')}" in result, (option, result)
        elif hasattr(default, option) and option != "seed":
            assert getattr(result, option) != getattr(default, option), option
    assert accepted(built, name, data, "freeze", monkeypatch, ["--start", "no.pth"])[0]
    assert accepted(built, name, data, "momentum", monkeypatch, ["--optimizer", "adam"])[1] == (
        "--momentum is for the optimizer sgd, not for adam")
    for option in ("milestones", "gamma"):
        extra = ["--schedule", "step"] + ["--milestones", "0.25"] * (option == "gamma")
        assert accepted(built, name, data, option, monkeypatch, extra)[0]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--no-augment", "--elastic", "3"], "--elastic has no effect with --no-augment"),
    (["--two-stage", "--elastic", "3"], "--elastic has no effect with --two-stage"),
    (["--sync-batch-norm"], "--sync-batch-norm is for several processes, as in `mpirun -n 2 minicv train ...`"),
    (["--option", "num_classes=3"], "--option num_classes=3: num_classes follows from --data"),
    (["--option", "in_channels=3"], "--option in_channels=3: in_channels follows from --data"),
    (["--option", "depth=1", "--option", "depth=2"], "--option depth=2: depth is given twice"),
    (["--option", "width=3", "--width", "4"], "--width 4: --option gives the width, too"),
    (["--option", "depth=\"two\""], "--option depth=\"two\": must be int"),
    (["--save-every", "-1"], "--save-every -1.0: must be at least 0, seconds"),
    (["--save-every", "nan"], "--save-every nan: must be at least 0, seconds"),
    (["--freeze-bn"], "--freeze-bn is not for this unet, which has no batch norm"),
    (["--no-freeze-bn"], "--no-freeze-bn is not for this unet, which has no batch norm"),
])
def test_options_that_exclude_each_other(fails, monkeypatch, tmp_path, arguments, message):
    monkeypatch.setattr(minicv.data, "open_dataset", lambda spec, split="train": DATA["cells"])
    assert fails("train", "unet", "--data", "cells", "--out", tmp_path / "x", "--steps", 1, *arguments) == message
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", train.TRAINABLE)
def test_evaluate_and_predict_refuse_options_of_another_kind(name):
    commands, segmentation = networks.commands_for(name), name in models.names("segmentation")
    for option, effect in ANSWERS.items():
        if effect == "command":
            continue
        args = argparse.Namespace(**{**dict.fromkeys(ANSWERS), option: 1})
        if (effect == "pixels") == segmentation:
            commands.check_predict_options(name, args)
        else:
            with pytest.raises(UserError, match=f"--{option} is not for {name}"):
                commands.check_predict_options(name, args)


@pytest.mark.parametrize(("name", "value"), [("MINICV_THREADS", "many"), ("MINICV_THREADS", "-3"),
                                             ("MINICV_BACKEND", "abacus"), ("MINICV_PLAIN", "yes")])
def test_the_environment_is_not_passed_over(name, value):
    done = subprocess.run([sys.executable, "-m", "minicv", "papers"], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1]), name: value})
    assert done.returncode == 2 and value in done.stderr and done.stderr.startswith(("minicv papers: ", "minicv: "))
    assert done.stderr.count("\n") == 1
