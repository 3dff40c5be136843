import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.autograd import Tensor
from minicv.data import Cells
from minicv.training import SegmentationRecipe, SegmentationTask, Training, load_checkpoint, parallel
from tests import oracle

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1])}


def mpirun(*arguments, n=2):
    """mpirun -n 2 python ARGUMENTS; skips without mpi4py."""
    oracle.require("mpi4py")
    beside = Path(sys.executable).parent / "mpirun"  # the wheel's
    program = str(beside) if beside.exists() else shutil.which("mpirun")
    if program is None:
        pytest.skip("mpirun is not installed")
    return subprocess.run([program, "-n", str(n), sys.executable, *map(str, arguments)], env=ENVIRONMENT, text=True,
                          capture_output=True, timeout=120)


def test_buckets_hold_every_parameter_once_last_first(monkeypatch):
    monkeypatch.setattr(parallel, "BUCKET", 40)
    sizes = [3, 20, 1, 2, 6, 7]
    params = [Tensor(np.zeros(n, np.float64 if n == 2 else np.float32)) for n in sizes]
    found = [[p.size for p in bucket] for bucket in parallel.buckets(params)]
    assert found == [[7, 6], [2], [1, 20], [3]]  # 28 + 24 bytes; another dtype; 4 + 80; 12


def test_a_process_on_its_own():
    group = parallel.group()
    assert (group.rank, group.size) == (0, 1) and group.mean([1.0]) == [1.0]


def test_a_batch_that_cannot_be_shared():
    class Three(parallel.Group):
        size = 3
    model = models.build("unet", width=1)
    task = SegmentationTask(Cells(1, 32), SegmentationRecipe(batch=4, tile=20), model)
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared evenly by 3 processes; use a batch of 6"):
        Training(model, task, Three())


GRADIENTS = """
import json, sys
import numpy as np
import minicv
from minicv import models
from minicv.data import Cells
from minicv.training import SegmentationRecipe, SegmentationTask, Training, group
processes = group()
minicv.seed(processes.rank)  # other first weights in each: they get those of process 0
model = models.build("unet", width=4, depth=2, dropout=0.0)
recipe = SegmentationRecipe(steps=2, batch=4, lr=0.05, momentum=0.5, warmup=0, tile=20, elastic=2.0)
training = Training(model, SegmentationTask(Cells(4, 40), recipe, model), processes)
steps = iter(training)
losses = [next(steps)["total"]]
gradients = {name: p.grad.copy() for name, p in model.named_parameters()}
losses.append(next(steps)["total"])
if processes.rank == 0:
    np.savez(sys.argv[1], losses=losses, **gradients)
"""


def test_two_processes_with_half_the_batch_each_give_the_gradients_of_one(tmp_path):
    (tmp_path / "gradients.py").write_text(GRADIENTS)
    two = mpirun(tmp_path / "gradients.py", tmp_path / "two.npz")
    assert two.returncode == 0, two.stderr
    one = subprocess.run([sys.executable, tmp_path / "gradients.py", tmp_path / "one.npz"], env=ENVIRONMENT,
                         capture_output=True, text=True)
    assert one.returncode == 0, one.stderr
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert set(one) == set(two) and len(one) > 10
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=1e-6, err_msg=name)
    assert max(abs(one[name]).max() for name in one) > 1e-3


SYNCHRONISED = """
import sys
import numpy as np
import minicv, minicv.ops as F
from minicv import Tensor, nn
from minicv.training import group, parallel
processes = group()
rng = np.random.default_rng(0)
x, gy = rng.normal(3, 2, (4, 3, 5, 6)), rng.normal(0, 1, (4, 3, 5, 6))  # float64
weight, bias = rng.normal(1, 1, 3), rng.normal(0, 1, 3)
share = slice(4 // processes.size * processes.rank, 4 // processes.size * (processes.rank + 1))
layer = nn.BatchNorm2d(3)
layer.weight.data, layer.bias.data = weight, bias
layer.running_mean, layer.running_var = np.zeros(3), np.ones(3)
layer.group = processes if processes.size > 1 else None
part = Tensor(x[share], requires_grad=True)
y = layer(part)
# as in training: the mean of the processes' losses is the loss of one
processes.backward((y * Tensor(gy[share] * processes.size)).sum(), layer.parameters())
np.savez(sys.argv[1] + f"/{processes.size}-{processes.rank}.npz", y=y.data, gx=part.grad / processes.size,
         gw=layer.weight.grad, gb=layer.bias.grad, mean=layer.running_mean, var=layer.running_var)
"""


def test_synchronised_batch_norm_is_that_of_one_process(tmp_path):
    (tmp_path / "bn.py").write_text(SYNCHRONISED)
    two = mpirun(tmp_path / "bn.py", tmp_path)
    assert two.returncode == 0, two.stderr
    subprocess.run([sys.executable, tmp_path / "bn.py", tmp_path], env=ENVIRONMENT, check=True)
    one, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1-0", "2-0", "2-1"))
    for name in ("y", "gx"):
        np.testing.assert_allclose(np.concatenate([first[name], second[name]]), one[name], rtol=0, atol=1e-12)
    for name in ("gw", "gb", "mean", "var"):
        np.testing.assert_allclose(first[name], one[name], rtol=1e-12, err_msg=name)
        np.testing.assert_array_equal(first[name], second[name])


def test_training_synchronises_if_asked():
    class Two(parallel.Group):
        size = 2
    minicv.seed(0)
    model = models.build("resnet18")
    norms = [m for _, m in model.modules() if isinstance(m, minicv.nn.BatchNorm2d)]
    task = SegmentationTask(Cells(1, 32), SegmentationRecipe(batch=2), models.build("unet", width=1))
    group = Two()
    Training(model, task, group, synchronise=True)
    assert norms and all(m.group is group for m in norms)
    Training(model, task, group)
    assert all(m.group is None for m in norms)


def test_a_process_that_fails_ends_all_with_its_own_error(tmp_path):
    (tmp_path / "fail.py").write_text("""
from minicv.training import all_or_none, group
processes = group()
with all_or_none(processes):
    if processes.rank == 1:
        raise ValueError("picture 7 is unreadable")
    processes.barrier()  # process 0 would wait here for ever
""")
    result = mpirun(tmp_path / "fail.py")
    assert result.returncode != 0
    assert "minicv: process 1 of 2: picture 7 is unreadable" in result.stderr


def test_by_the_command(tmp_path):
    result = mpirun("-m", "minicv.cli", "train", "unet", "--data", "cells", "--width", "2", "--tile", "20", "--steps",
                    "4", "--batch", "2", "--quiet", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("unet compact") == 1 and ", 2 processes" in result.stdout
    assert load_checkpoint(tmp_path / "last.safetensors")[1]["step"] == 4
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 4
