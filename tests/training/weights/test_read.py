"""Files of weights as others write them: wrapped, prefixed, in half precision, as checkpoints."""
import argparse
import collections

import numpy as np
import pytest
from safetensors.numpy import save_file

from minicv import models, training
from minicv.data import Cells
from minicv.training import CheckpointError, read_weights, save_checkpoint, save_training
from tests.oracle import require

STATE = {"conv.weight": np.arange(6, dtype="f4").reshape(1, 2, 3), "bn.num_batches_tracked": np.array(7),
         "bn.bias": np.array([1.5], "f4")}
PLAIN = {name: array for name, array in STATE.items() if "num_batches" not in name}


def check(weights):
    assert weights.keys() == PLAIN.keys()
    for name, array in PLAIN.items():
        np.testing.assert_array_equal(weights[name], array)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_what_wrappers_add_to_the_names_is_removed(tmp_path, prefix):
    save_file({prefix + name: array for name, array in STATE.items()}, tmp_path / "w.safetensors")
    weights = read_weights(tmp_path / "w.safetensors")
    check(weights)
    assert weights.path == str(tmp_path / "w.safetensors") and weights.normalization is None


def test_a_part_that_was_compiled_or_is_called_module(tmp_path):
    save_file({"a._orig_mod.x": np.ones(1), "module.y": np.ones(1)}, tmp_path / "w.safetensors")
    assert set(read_weights(tmp_path / "w.safetensors")) == {"a.x", "module.y"}


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("name", ["state_dict", "model", "model_state_dict"])
def test_weights_beside_an_optimizer(tmp_path, name, as_zip):
    """As training scripts save them: with the optimizer's state, the scheduler's, numbers and arguments."""
    torch = require("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3).bfloat16()}}, "param_groups": [
        {"lr": 0.001, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1, 2, 3]}]}
    torch.save({"epoch": 3, "best": 0.75, "optimizer": optimizer, "scheduler": {
        "milestones": collections.Counter([2, 3]), "gamma": 0.1}, name: net.state_dict(), "args": argparse.Namespace(
            lr=0.1, resume=None)}, tmp_path / "w.pth", _use_new_zipfile_serialization=as_zip)
    weights = read_weights(tmp_path / "w.pth")
    assert list(weights) == [each for each in net.state_dict() if "num_batches" not in each]
    for each, array in weights.items():
        np.testing.assert_array_equal(array, net.state_dict()[each].numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_precision_of_safetensors(tmp_path, dtype):
    torch = require("torch")
    from safetensors.torch import save_file as save
    state = {"b": torch.randn(2, 3, 4).to(getattr(torch, dtype)), "a": torch.tensor(-1.5).to(getattr(torch, dtype)),
             "whole": torch.ones(3)}
    save(state, tmp_path / "w.safetensors")
    weights = read_weights(tmp_path / "w.safetensors")
    assert weights.keys() == state.keys()
    for name, t in state.items():
        np.testing.assert_array_equal(weights[name], t.double().numpy())
        assert weights[name].dtype == (np.float32 if t.dtype == torch.bfloat16 else t.numpy().dtype)


def test_other_numbers_are_refused(tmp_path):
    torch = require("torch")
    from safetensors.torch import save_file as save
    save({"x": torch.ones(2).to(torch.float8_e4m3fn)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"w.safetensors: .* type F8_E4M3 are not read, convert .* to float32"):
        read_weights(tmp_path / "w.safetensors")


def test_each_refusal_says_what_to_save(tmp_path):
    torch = require("torch")
    path, net = tmp_path / "net.pth", torch.nn.Linear(2, 2)
    for saved in (net, {"model": net}, [1, 2], net.weight.data):
        torch.save(saved, path)
        with pytest.raises(CheckpointError, match=r"save the weights alone, with torch.save\(model.state_dict"):
            read_weights(path)


def test_a_checkpoint_gives_its_weights_without_the_optimizer(tmp_path):
    config = training.SegmentationConfig(steps=1, tile=20, momentum=0.9)
    model = models.build("unet", width=2, depth=1, normalization="imagenet")
    job = training.Training(training.SegmentationTask(model, Cells(1, 32), config))
    list(job)
    save_training(tmp_path / "last.safetensors", job)
    weights = read_weights(tmp_path / "last.safetensors")
    assert weights.keys() == model.state_dict().keys() and weights.normalization == "imagenet"
    save_checkpoint(tmp_path / "c.safetensors", models.build("resnet18", width=4))
    assert read_weights(tmp_path / "c.safetensors").normalization is None  # a classifier has no such option


def test_a_damaged_checkpoint_is_refused_once(tmp_path):
    save_checkpoint(tmp_path / "c.safetensors", models.build("unet", width=2, depth=1))
    content = bytearray((tmp_path / "c.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="^[^:]*c.safetensors: damaged: its contents do not match its checksum$"):
        read_weights(tmp_path / "c.safetensors")
