import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minicv
from minicv import models
from minicv.training import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint, strip_optimizer
from tests.oracle import require


def tiny(seed=0, **options):
    minicv.seed(seed)
    return models.build("unet", "compact", **{"width": 1, "depth": 1, **options})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, tiny(), note="first")
    return path


def rewrite(path, change):
    """Save a checkpoint's arrays again, with changed metadata; no minicv involved."""
    header_size = int.from_bytes(path.read_bytes()[:8], "little")
    metadata = json.loads(path.read_bytes()[8:8 + header_size])["__metadata__"]
    state = load_file(path)
    change(metadata, state)
    save_file(state, path, metadata or None)


def reason(path, **options):
    """The message of the CheckpointError, without the file's name, which it must start with; one line."""
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, **options)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message[len(f"{path}: "):]


# --------------------------------------------------------------------------------------------------------- round trip

@pytest.mark.parametrize("options", [
    {}, {"width": 3, "depth": 2, "num_classes": 5, "in_channels": 3, "padding": "same", "dropout": 0.25},
])
def test_round_trip_bit_for_bit(tmp_path, options):
    model = tiny(**options)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = (rng.standard_normal(p.shape) * 10.0 ** rng.integers(-38, 38, p.shape)).astype(np.float32)
    model.head.bias.data[:2] = np.float32(1e-45), -0.0  # the smallest number above 0, and the other zero
    info = {"data": "cells", "config": {"lr": 0.1, "schedule": "poly"}, "losses": [1.5, 0.25], "nothing": None,
            "name": "Zürich"}
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model, **info)
    loaded, found = load_checkpoint(path, expect="unet")
    assert found == info
    assert loaded.build_args == model.build_args and type(loaded) is type(model)
    assert (loaded.depth, loaded.dropout, loaded.in_channels, loaded.lost) == (
        model.depth, model.dropout, model.in_channels, model.lost)
    state, expected = loaded.state_dict(), model.state_dict()
    assert list(state) == list(expected)
    for name, value in state.items():
        assert value.dtype == expected[name].dtype and value.tobytes() == expected[name].tobytes(), name


def test_a_loaded_model_predicts_the_same(path):
    model, image = tiny(), np.random.default_rng(0).random((1, 9, 8), np.float32)
    np.testing.assert_array_equal(load_checkpoint(path)[0].predict([image])[0].probabilities,
                                  model.predict([image])[0].probabilities)


def test_the_arrays_can_be_read_without_minicv(path):
    state = load_file(path)
    for name, value in tiny().state_dict().items():
        np.testing.assert_array_equal(state[name], value)


def test_saving_replaces_the_file_and_leaves_nothing_else(path):
    save_checkpoint(path, tiny(1), note="second")
    assert os.listdir(path.parent) == ["model.safetensors"]
    model, info = load_checkpoint(path)
    assert info == {"note": "second"}
    np.testing.assert_array_equal(model.head.weight.data, tiny(1).head.weight.data)


def test_a_path_may_be_text(tmp_path):
    save_checkpoint(str(tmp_path / "a.safetensors"), tiny())
    assert load_checkpoint(str(tmp_path / "a.safetensors"))[1] == {}


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX's")
def test_others_may_read_it_as_the_umask_says(tmp_path):
    old = os.umask(0o022)
    try:
        save_checkpoint(tmp_path / "a.safetensors", tiny())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o644


# ------------------------------------------------------------------------------------------------------ what goes wrong

def test_a_missing_file_or_a_folder(tmp_path):
    assert reason(tmp_path / "no.safetensors") == (
        "no such checkpoint; minicv train ... --out DIR writes DIR/last.safetensors")
    assert reason(tmp_path) == "is a folder; name the file, such as last.safetensors"


def test_not_safetensors(path):
    for content in (b"", b"hello", b"\x89PNG" + bytes(1000), b"PK\x03\x04" * 100, bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        assert reason(path).startswith("not a safetensors file, or a damaged one (")


def test_truncated_at_any_length(path):
    content = path.read_bytes()
    for length in [*range(0, len(content), 7), *range(len(content) - 30, len(content))]:
        path.write_bytes(content[:length])
        assert reason(path).startswith("not a safetensors file, or a damaged one (")
    path.write_bytes(content)
    load_checkpoint(path)


def test_something_appended(path):
    path.write_bytes(path.read_bytes() + b"\0")
    assert reason(path).startswith("not a safetensors file, or a damaged one (")


def test_a_flipped_bit_anywhere(path):
    """Structure, description or a weight: nothing that differs from what was saved is loaded."""
    save_checkpoint(path, tiny(depth=0), note="")
    content, reasons = path.read_bytes(), set()
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        reasons.add(re.sub(r" ?(\(|'|None).*", "", reason(path)))
    assert reasons == {
        "not a safetensors file, or a damaged one",
        "its format is",
        "damaged: its contents do not match its checksum",
    }


def test_a_flipped_bit_in_a_weight(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert reason(path) == "damaged: its contents do not match its checksum"


def test_safetensors_of_another_program(path):
    save_file({"weight": np.zeros(3, np.float32)}, path)
    alone = "; minicv.training.load_pretrained reads weights alone"
    assert reason(path) == f"its format is None, this version reads 'minicv 2'{alone}"
    save_file({"weight": np.zeros(3, np.float32)}, path, {"format": "pt"})
    assert reason(path) == f"its format is 'pt', this version reads 'minicv 2'{alone}"


def test_numbers_that_numpy_does_not_have(path):
    torch = require("torch")
    from safetensors.torch import save_file as save_torch
    save_torch({"weight": torch.zeros(3, dtype=torch.bfloat16)}, path)
    assert reason(path).startswith("not a safetensors file, or a damaged one (")


def test_a_newer_format(path):
    rewrite(path, lambda metadata, state: metadata.update(format="minicv 3", build_args="another notation"))
    assert reason(path) == "its format is 'minicv 3', this version reads 'minicv 2'"


def test_another_model_than_expected(path):
    assert reason(path, expect="fcn") == "holds the model 'unet', not 'fcn'"


def changed(**metadata):
    """A change of the metadata with the right checksum: what a program that is wrong would write."""
    def change(old, state):
        from minicv.training.checkpoint import checksum
        old.update({k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()})
        old["checksum"] = checksum(old["build_args"] + old["info"], state)
    return change


@pytest.mark.parametrize(("change", "message"), [
    (lambda metadata, state: metadata.pop("checksum"), "damaged: its contents do not match its checksum"),
    (lambda metadata, state: metadata.update(info="{}"), "damaged: its contents do not match its checksum"),
    (lambda metadata, state: state["head.bias"].fill(1), "damaged: its contents do not match its checksum"),
    (changed(build_args="nonsense"), "its description of the model is damaged (JSONDecodeError("),
    (changed(build_args=[]), "its description of the model is damaged (TypeError("),
    (changed(build_args={"model": "unet"}), "its description of the model is damaged (KeyError('preset'))"),
    (changed(build_args="[" * 100_000), "its description of the model is damaged (RecursionError("),
    (changed(build_args={"model": ["unet"], "preset": "compact", "options": {}}), "its description of the model is"),
    (changed(build_args={"model": "unet", "preset": "compact", "options": [1]}), "its description of the model is"),
    (changed(info=[1]), "its description of the model is damaged (TypeError("),
    (changed(info=None), "its description of the model is damaged (TypeError("),
    (changed(build_args={"model": "vnet", "preset": "compact", "options": {}}),
     "no model named 'vnet'; did you mean unet?"),
    (changed(build_args={"model": "unet", "preset": "tiny", "options": {}}),
     "build('unet', preset='tiny'): the presets"),
    (changed(build_args={"model": "unet", "preset": "compact", "options": {"depht": 1}}),
     "build('unet'): no option depht; it has "),
    (changed(build_args={"model": "unet", "preset": "compact", "options": {"width": 2, "depth": 1}}),
     "UNet.load_state_dict: the state does not fit the model: contract.0.conv1.weight: (1, 1, 3, 3) in the state, "
     "(2, 1, 3, 3) in the model; "),
    (changed(build_args={"model": "unet", "preset": "compact", "options": {"width": 1, "depth": 0}}),
     "UNet.load_state_dict: the state does not fit the model: unexpected contract.1.conv1.bias, "),
    (changed(build_args={"model": "unet", "preset": "compact", "options": {"width": "wide"}}),
     "build('unet'): width='wide'; it must be int"),
])
def test_a_description_that_does_not_fit(path, change, message):
    rewrite(path, change)
    assert reason(path).startswith(message)


def test_saving_what_cannot_be_saved_changes_nothing(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="save_checkpoint: Linear was not built by minicv.models.build, so a"):
        save_checkpoint(path, minicv.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(path, tiny(1), losses=np.zeros(3))
    assert path.read_bytes() == before and os.listdir(path.parent) == ["model.safetensors"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/a.safetensors cannot be written, its folder does not exist"):
        save_checkpoint(tmp_path / "nowhere" / "a.safetensors", tiny())


# --------------------------------------------------------------------------------------------------------------- killed

SAVING = """
import os, signal, sys
import minicv
from minicv import models
from minicv.training import save_checkpoint
path, where = sys.argv[1:]
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if where:
    setattr(os, where, kill)
built = []
for seed in (0, 1):
    minicv.seed(seed)
    built.append(models.build("unet", "compact", width=12))
while True:
    for seed, model in enumerate(built):
        save_checkpoint(path, model, seed=seed)
        print(seed, flush=True)
"""


def saving(path, where=""):
    root = Path(minicv.__file__).parents[1]
    return subprocess.Popen([sys.executable, "-c", SAVING, str(path), where], stdout=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": str(root)})


def check_complete(path):
    """It is one of the two checkpoints that were saved in turn, to the last bit."""
    model, info = load_checkpoint(path)
    minicv.seed(info["seed"])
    expected = models.build("unet", "compact", width=12).state_dict()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, expected[name])


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_killed_before_the_file_is_complete_leaves_the_old_one(path, where):
    before = path.read_bytes()
    with saving(path, where) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert path.read_bytes() == before
    left = [name for name in os.listdir(path.parent) if name != path.name]
    assert len(left) == 1 and left[0].startswith(".model.safetensors.") and left[0].endswith(".tmp")


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
def test_killed_at_any_time_leaves_a_complete_file(tmp_path):
    """Two checkpoints of 1 MB saved in turn to one name, as fast as can be, by four processes killed at random."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}" / "model.safetensors" for i in range(4)]
    for path in paths:
        path.parent.mkdir()
    processes = [saving(path) for path in paths]
    for process, path in zip(processes, paths, strict=True):
        for _ in range(3):
            assert process.stdout.readline()  # so some saves have ended
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        process.stdout.close()
        check_complete(path)


def test_exported_weights_have_no_optimizer(tmp_path):
    minicv.seed(0)
    model = models.build("unet", width=4, depth=1)
    save_checkpoint(tmp_path / "run.safetensors", model, {"optimizer.0.m": np.ones((4, 4), np.float32)},
                    classes=["a", "b"], step=3)
    strip_optimizer(tmp_path / "run.safetensors", tmp_path / "best.safetensors")
    again, info = load_checkpoint(tmp_path / "best.safetensors")
    assert info["classes"] == ["a", "b"] and again.build_args == model.build_args
    assert set(read_checkpoint(tmp_path / "best.safetensors")[2]) == set(model.state_dict())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value)
