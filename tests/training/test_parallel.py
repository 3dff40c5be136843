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
from minicv.training import SegmentationConfig, SegmentationTask, Training, load_checkpoint, parallel
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
    monkeypatch.setattr(parallel, "BUCKET_SIZE", 40)
    sizes = [3, 20, 1, 2, 6, 7]
    params = [Tensor(np.zeros(n, np.float64 if n == 2 else np.float32)) for n in sizes]
    found = [[p.size for p in bucket] for bucket in parallel.gradient_buckets(params)]
    assert found == [[7, 6], [2], [1, 20], [3]]  # 28 + 24 bytes; another dtype; 4 + 80; 12


def test_a_process_on_its_own():
    group = parallel.process_group()
    assert (group.rank, group.size) == (0, 1) and group.sum(np.ones(2)).tolist() == [1.0, 1.0]


def test_a_batch_that_cannot_be_shared():
    class Three(parallel.ProcessGroup):
        size = 3
    model = models.build("unet", width=1)
    task = SegmentationTask(model, Cells(1, 32), SegmentationConfig(batch=4, tile=20))
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared evenly by 3 processes; use a batch of 6"):
        Training(task, Three())


GRADIENTS = """
import json, sys
import numpy as np
import minicv
from minicv import models
from minicv.data import Cells
from minicv.training import SegmentationConfig, SegmentationTask, Training, process_group
processes = process_group()
minicv.seed(processes.rank)  # other first weights in each: they get those of process 0
model = models.build("unet", width=4, depth=2, dropout=0.0)
config = SegmentationConfig(steps=2, batch=4, lr=0.05, momentum=0.5, warmup=0, tile=20, elastic=2.0)
training = Training(SegmentationTask(model, Cells(4, 40), config), processes)
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


STAND_IN = """
import sys, types
import numpy as np
from mpi4py import MPI
from minicv import backend
from tests.strict_device import StrictArray, strict

def note(*what): print(*what, file=open(f"{sys.argv[1]}.{MPI.COMM_WORLD.rank}", "a"))

class Stream:  # work is done in its order, and by what it waits for
    def __init__(self, non_blocking=False): self.work = []
    def record(self):
        event = len(self.work), self
        self.work.append(event)
        return event
    def wait_event(self, event): self.work.append(event)

current = Stream()

class NCCLBackend:
    def __init__(self, n_devices, rank, use_mpi=False):
        assert (n_devices, rank, use_mpi) == (MPI.COMM_WORLD.size, MPI.COMM_WORLD.rank, True)
    def all_reduce(self, in_array, out_array, op="sum", stream=None):
        assert in_array is out_array and in_array.flags.c_contiguous and op == "sum"
        assert stream is not current and stream.work[-1][1] is current, "begins before the array is computed"
        MPI.COMM_WORLD.Allreduce(MPI.IN_PLACE, out_array._array)
        note("sum of", out_array.size)

cuda = types.SimpleNamespace(Stream=Stream, get_current_stream=lambda: current,
                             runtime=types.SimpleNamespace(getDeviceCount=lambda: GPUS),
                             Device=lambda n=None: types.SimpleNamespace(use=lambda: n is not None and note("GPU", n)))
sys.modules["cupy"] = types.SimpleNamespace(cuda=cuda)
sys.modules["cupy.cuda"] = types.SimpleNamespace(nccl=types.SimpleNamespace(available=True))  # not imported with CuPy
sys.modules["cupyx"] = sys.modules["cupyx.distributed"] = types.SimpleNamespace(NCCLBackend=NCCLBackend)
vars(strict)["cuda"] = cuda
backend.register_device("cupy", strict, StrictArray)
StrictArray.get = lambda self: self._array.copy()
backend.use("cupy")
"""

AT_THE_END = """
note("waited for", sum(event[1] is not current for event in current.work))
"""


@pytest.mark.parametrize("gpus", [2, 1])
def test_gradients_on_gpus_travel_by_nccl_and_through_the_host_where_there_are_too_few(tmp_path, gpus):
    """CuPy and NCCL are stand-ins: what is shown is what they are asked to do, and that the gradients are right."""
    script = GRADIENTS.replace("p.grad.copy()", "minicv.backend.to_numpy(p.grad)")
    (tmp_path / "host.py").write_text(script)
    (tmp_path / "gpus.py").write_text(f"GPUS = {gpus}\n{STAND_IN}\n{script}\n{AT_THE_END}")
    two = mpirun(tmp_path / "gpus.py", tmp_path / "two.npz")
    assert two.returncode == 0, two.stderr
    for rank in range(2):
        notes = (tmp_path / f"two.npz.{rank}").read_text().splitlines()
        assert notes[0] == f"GPU {rank % gpus}"
        assert ("sum of 2" in notes) == (gpus == 2)  # the losses of a step
        assert notes[-1] == f"waited for {sum(note.startswith('sum of') for note in notes)}"  # before it was used
    subprocess.run([sys.executable, tmp_path / "host.py", tmp_path / "one.npz"], env=ENVIRONMENT, check=True)
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert set(one) == set(two) and len(one) > 10
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=2e-6, err_msg=name)


@pytest.mark.gpu
def test_gradients_on_gpus(tmp_path, monkeypatch):
    """By NCCL on a machine with two GPUs, through the host with one."""
    script = GRADIENTS.replace("p.grad.copy()", "minicv.backend.to_numpy(p.grad)")
    (tmp_path / "gradients.py").write_text(f"from tests import hostcupy\nhostcupy.start_if_asked()\n{script}"
                                           "print('NCCL:', getattr(processes, 'nccl', None) is not None)")
    subprocess.run([sys.executable, tmp_path / "gradients.py", tmp_path / "one.npz"], env=ENVIRONMENT, check=True)
    monkeypatch.setitem(ENVIRONMENT, "MINICV_BACKEND", "cupy")
    monkeypatch.setitem(ENVIRONMENT, "HOSTCUPY_DEVICES", "2")
    two = mpirun(tmp_path / "gradients.py", tmp_path / "two.npz")
    assert two.returncode == 0, two.stderr
    assert two.stdout.count("True") == 2 or not os.environ.get("HOSTCUPY")  # which has two GPUs
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)


SYNCHRONIZED = """
import sys
import numpy as np
import minicv, minicv.ops as F
from minicv import Tensor, nn
from minicv.training import process_group, parallel
processes = process_group()
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


def test_synchronized_batch_norm_is_that_of_one_process(tmp_path):
    (tmp_path / "bn.py").write_text(SYNCHRONIZED)
    two = mpirun(tmp_path / "bn.py", tmp_path)
    assert two.returncode == 0, two.stderr
    subprocess.run([sys.executable, tmp_path / "bn.py", tmp_path], env=ENVIRONMENT, check=True)
    one, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1-0", "2-0", "2-1"))
    for name in ("y", "gx"):
        np.testing.assert_allclose(np.concatenate([first[name], second[name]]), one[name], rtol=0, atol=1e-12)
    for name in ("gw", "gb", "mean", "var"):
        np.testing.assert_allclose(first[name], one[name], rtol=1e-12, err_msg=name)
        np.testing.assert_array_equal(first[name], second[name])


UNEQUAL = """
import sys
import numpy as np
import minicv.ops as F
from minicv import Tensor
from minicv.training import process_group
processes = process_group()
x, gy = np.random.default_rng(0).normal(3, 2, (2, 1, 3, 1, 7))  # 7 values per channel: 1 in process 0, 6 in process 1
cut = slice(None) if processes.size == 1 else (slice(0, 1), slice(1, 7))[processes.rank]
part, mean, var = Tensor(x[..., cut], requires_grad=True), np.zeros(3), np.ones(3)
y = F.batch_norm(part, mean, var, training=True, group=processes if processes.size > 1 else None)
y.backward(gy[..., cut])
np.savez(sys.argv[1] + f"/{processes.size}-{processes.rank}.npz", y=y.data, gx=part.grad, mean=mean, var=var)
"""


def test_synchronized_batch_norm_of_unequal_parts_one_of_them_a_single_value(tmp_path):
    (tmp_path / "bn.py").write_text(UNEQUAL)
    two = mpirun(tmp_path / "bn.py", tmp_path)
    assert two.returncode == 0, two.stderr
    subprocess.run([sys.executable, tmp_path / "bn.py", tmp_path], env=ENVIRONMENT, check=True)
    one, first, second = (np.load(tmp_path / f"{name}.npz") for name in ("1-0", "2-0", "2-1"))
    for name in ("y", "gx"):
        np.testing.assert_allclose(np.concatenate([first[name], second[name]], -1), one[name], rtol=0, atol=1e-12)
    for name in ("mean", "var"):
        np.testing.assert_allclose(first[name], one[name], rtol=1e-12)


SHARED = """
import sys
import numpy as np
import minicv
from minicv import Tensor, models, ops as F
from minicv.data import IGNORE
from minicv.models.detection import roi_heads
from minicv.models.detection.base import Target
from minicv.training import DetectionConfig, Training, process_group
processes = process_group()
kind = sys.argv[2]
rng = np.random.default_rng(0)

class Task:  # a batch of two: an image each where there are two processes
    config = DetectionConfig(steps=1, batch=2, warmup=0)
    def example(self, i):
        return i
    def collate(self, examples):
        x = Tensor(np.stack([X[i] for i in examples]))
        return (x, Tensor(np.stack([LABEL[i] for i in examples]))) if kind == "unet" else (x, [T[i] for i in examples])

minicv.seed(0)
if kind == "unet":
    X = rng.standard_normal((2, 1, 20, 20)).astype(np.float32)
    LABEL = rng.integers(0, 2, (2, 16, 16))
    LABEL[0, 2:] = IGNORE  # 32 pixels with a label in one image, 256 in the other
    model = models.build("unet", width=4, depth=0, dropout=0.0)
else:
    X = rng.standard_normal((2, 3, 48, 64)).astype(np.float32)
    near = np.array([[4, 4, 20, 30], [6, 4, 22, 28], [30, 10, 50, 40], [3, 8, 19, 30], [0, 0, 60, 40]], np.float32)
    masks = np.zeros((1, 48, 64), bool)
    masks[0, 4:30, 4:20] = True
    T = [Target(near[:1], np.array([0]), (48, 64), masks, near[:4] if kind != "mask_rcnn" else None),
         Target(near[2:3], np.array([1]), (48, 64), None, near[1:] if kind != "mask_rcnn" else None)]
    size = {"num_classes": 3, "hidden": 8, "rois_per_image": 500, "dropout": 0.0}
    if kind == "rcnn":
        size = {"num_classes": 3, "warp_size": 32, "context": 2.0, "rois_per_image": 500, "backbone_options":
                {"depth": 11, "width": 2, "hidden": 8, "pooled": 1, "batch_norm": False, "dropout": 0.0}}
    else:
        size |= {"backbone_options": {"depth": 11, "width": 4}, "cut_at": "relu3_2", "foreground_fraction": 1.0}
    if kind == "mask_rcnn":
        size |= {"anchor_scales": (8.0, 16.0, 32.0), "anchors_per_image": 10 ** 5, "post_nms_top_n": (40, 20),
                 "mask_width": 4}
    model = models.build(kind, **size)
drawn = []
sample_rois = roi_heads.sample_rois
def counted(*arguments):
    rois = sample_rois(*arguments)
    drawn.append(len(rois.boxes))
    return rois
roi_heads.sample_rois = counted
Task.model = model
losses = next(iter(Training(Task(), processes)))
names = [name for name, p in model.named_parameters() if p.grad is not None]
drawn = processes.sum(np.array([sum(drawn)]))
if processes.rank == 0:
    np.savez(sys.argv[1], drawn=drawn, **losses, **{name: dict(model.named_parameters())[name].grad for name in names})
"""


@pytest.mark.parametrize("kind", ["unet", "rcnn", "fast_rcnn", "mask_rcnn"])
def test_one_and_two_processes_train_on_the_same_pixels_and_boxes_with_the_same_weight(tmp_path, kind):
    """However unequally pixels with a label, boxes, and objects with a mask are spread over the processes."""
    (tmp_path / "shared.py").write_text(SHARED)
    two = mpirun(tmp_path / "shared.py", tmp_path / "two.npz", kind)
    assert two.returncode == 0, two.stderr
    subprocess.run([sys.executable, tmp_path / "shared.py", tmp_path / "one.npz", kind], env=ENVIRONMENT, check=True)
    one, two = np.load(tmp_path / "one.npz"), np.load(tmp_path / "two.npz")
    assert set(one) == set(two) and one["drawn"] == two["drawn"]
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=2e-4, atol=2e-6, err_msg=name)


NAMES = """
import json, sys
import numpy as np
import minicv
from minicv import Tensor
from minicv.training import DetectionConfig, Run, Training, process_group
processes = process_group()

class Irregular(minicv.nn.Linear):  # each process has a loss of its own, and one has another from its second step on
    build_args = {"model": "irregular"}
    def losses(self, x):
        own = {"ab"[processes.rank]: (self(x) ** 2).mean()}
        return own | ({"late": own["ab"[processes.rank]] * 0 + 3} if processes.rank and x.data[0, 0] > 2 else {})

minicv.seed(0)
class Task:
    model = Irregular(2, 1)
    config = DetectionConfig(steps=10, batch=2, warmup=0, lr=0.0)
    def example(self, i):
        return i
    def collate(self, examples):
        return (Tensor(np.full((1, 2), examples[0], np.float32)),)

Run(Training(Task(), processes), sys.argv[1], quiet=True).run()
"""


def test_losses_that_only_one_process_has(tmp_path):
    (tmp_path / "names.py").write_text(NAMES)
    two = mpirun(tmp_path / "names.py", tmp_path)
    assert two.returncode == 0, two.stderr
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["late"] == pytest.approx(3 / 2 * 9 / 10)  # in one of two processes, at nine of ten steps
    assert line["a"] > 0 < line["b"] and line["total"] == pytest.approx(line["a"] + line["b"] + line["late"])


def test_training_synchronizes_if_asked():
    class Two(parallel.ProcessGroup):
        size = 2
    minicv.seed(0)
    model = models.build("resnet18")
    norms = [m for m in model.modules() if isinstance(m, minicv.nn.BatchNorm2d)]
    task = SegmentationTask(model, Cells(1, 32), SegmentationConfig(batch=2))
    group = Two()
    Training(task, group, sync_batch_norm=True)
    assert norms and all(m.group is group for m in norms)
    Training(task, group)
    assert all(m.group is None for m in norms)


def test_a_process_that_fails_ends_all_with_its_own_error(tmp_path):
    (tmp_path / "fail.py").write_text("""
from minicv.data import DataError
from minicv.training import abort_on_error, process_group
processes = process_group()
with abort_on_error(processes):
    if processes.rank == 1:
        raise DataError("image 7 is unreadable")
    processes.barrier()  # process 0 would wait here for ever
""")
    result = mpirun(tmp_path / "fail.py")
    assert result.returncode != 0
    assert "minicv: process 1 of 2: image 7 is unreadable" in result.stderr


def test_after_a_failed_process_the_last_checkpoint_is_good(tmp_path):
    """Process 1 fails in step 6; what process 0 saved after step 5 goes on to the weights of an undisturbed run."""
    options = ("train", "unet", "--data", "cells", "--width", "2", "--tile", "20", "--steps", "8", "--batch", "2",
               "--quiet", "--out")
    (tmp_path / "fail.py").write_text("""
import sys
import minicv.data
from minicv.cli.main import main
from minicv.training import Training
train_step = Training.train_step
def failing(self, *batch):
    if self.group.rank == 1 and self.step == 5:
        raise minicv.data.DataError("this one is worn out")
    return train_step(self, *batch)
Training.train_step = failing
sys.exit(main())
""")
    failed = mpirun(tmp_path / "fail.py", *options, tmp_path / "failed", "--save-every", "0")
    assert failed.returncode != 0 and "minicv: process 1 of 2: this one is worn out" in failed.stderr
    assert load_checkpoint(tmp_path / "failed" / "last.safetensors")[1]["step"] in (4, 5)
    resumed = mpirun("-m", "minicv", *options, tmp_path / "failed", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    whole = mpirun("-m", "minicv", *options, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    one, two = (load_checkpoint(tmp_path / name / "last.safetensors") for name in ("failed", "whole"))
    assert one[1]["step"] == two[1]["step"] == 8
    for name, value in one[0].state_dict().items():
        np.testing.assert_array_equal(value, two[0].state_dict()[name], err_msg=name)


def test_by_the_command(tmp_path):
    result = mpirun("-m", "minicv", "train", "unet", "--data", "cells", "--width", "2", "--tile", "20", "--steps",
                    "4", "--batch", "2", "--quiet", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("unet compact") == 1 and ", 2 processes" in result.stdout
    assert load_checkpoint(tmp_path / "last.safetensors")[1]["step"] == 4
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 4
