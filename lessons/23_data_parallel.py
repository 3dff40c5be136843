"""
Data parallel: one batch, several processes
===========================================

Every process has the whole network and a share of each batch. The processes compute gradients independently, average them,
and take the same step. This lesson shows why that equals the step of one process with the whole batch, what has to travel
and when it can, and how much two processes on this machine gain. Beside it: `minicv/training/parallel.py`. The last part needs
an MPI (`pip install -e '.[mpi]' mpich`) and is left out where there is none.
"""

# %%
from minicv.course.lessons import Lesson

lesson = Lesson("23_data_parallel", __doc__)

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import minicv
from minicv import models
from minicv.autograd import graph
from minicv.backend import to_numpy
from minicv.training.parallel import gradient_buckets
from minicv.viz import PALETTE

BLUE, ORANGE = PALETTE[[5, 1]] / 255

# %%
# 1. The mean of the halves is the whole
# --------------------------------------
# The loss L is a mean over the batch, and a gradient is linear: dL/dw of eight images is the mean of the dL/dw of its two
# halves. Batch norm is the exception, because there the images of a batch influence each other: the mean and variance of half
# a batch are not those of the whole. `minicv train --sync-batch-norm` exchanges them, too.


def gradients(name, x, target):
    """dL/dw of every weight for this part of the batch, in one row."""
    minicv.seed(lesson.seed)
    net = models.build(name, in_channels=x.shape[1], **({"dropout": 0.0} if name == "unet" else {}))
    scores = net(lesson.tensor(x))
    minicv.ops.cross_entropy(scores, lesson.tensor(target)).backward()
    return np.concatenate([to_numpy(p.grad).ravel() for p in net.parameters()])


# %%
# Two networks, U-Net without batch norm and ResNet with it, and random images. The difference is relative to the largest
# gradient: rounding for U-Net, much more for ResNet.

rng = np.random.default_rng(lesson.seed)
differences = {}
for name, side, classes in (("unet", 140, (52, 52)), ("resnet18", 64, ())):
    x = rng.standard_normal((8, 3, side, side), np.float32)
    target = rng.integers(0, 2, (8, *classes))
    whole, first, second = (gradients(name, x[part], target[part]) for part in (slice(8), slice(4), slice(4, 8)))
    differences[name] = np.abs((first + second) / 2 - whole).max() / np.abs(whole).max()
    print(f"{name}: mean of the halves against the whole, largest difference {differences[name]:.1e} of the largest")
lesson.claim("P1", "data parallelism", "the mean of the halves' gradients is that of the whole batch, without batch norm",
             f"U-Net (no batch norm) {differences['unet']:.1e}, ResNet (batch norm) {differences['resnet18']:.1e}, of the "
             "largest gradient", differences["unet"] < 1e-5 < 1e-3 < differences["resnet18"])

# %%
# 2. Adding up in a ring
# ----------------------
# If n processes sent everything to one of them and back, that one would handle n times the bytes. In a ring each sends to its
# neighbor only. The gradient is cut into n parts, and at each turn every process passes one part on. After n - 1 turns each
# process holds one complete part; n - 1 more turns bring the complete parts around. Each process has sent 2 (n - 1) / n times
# the gradient: never twice, however many there are.


def ring(gradients):
    """All-reduce of n equally long rows; every process's result, and how many numbers each sent."""
    n = len(gradients)
    parts = [np.array_split(g.astype(float), n) for g in gradients]  # parts[process][part]
    sent = 0
    for complete in (False, True):
        for turn in range(n - 1):
            # process r passes on what it received a turn before; at first, its own part
            which = [(r - turn + complete) % n for r in range(n)]
            messages = [parts[r][which[r]].copy() for r in range(n)]
            for r, message in enumerate(messages):
                target = parts[(r + 1) % n]
                target[which[r]] = message if complete else target[which[r]] + message
            sent += len(messages[0])
    return [np.concatenate(p) for p in parts], sent


# %%
# The sums must equal those of NumPy, and the numbers sent those of the formula.

size = 840
for n in (2, 3, 4, 8):
    rows = rng.standard_normal((n, size))
    results, sent = ring(rows)
    assert all(np.allclose(result, rows.sum(axis=0)) for result in results)
    print(f"ring of {n}: each sends {sent / size:.2f} times its gradient (by the formula {2 * (n - 1) / n:.2f})")

# %%
# 3. When can a gradient leave?
# -----------------------------
# Backward reaches the last layer first. Its gradient is complete long before the first layer's, and can travel while backward
# continues. `graph.backward(ready=...)` calls `ready` when a weight's gradient is complete. `gradient_buckets` groups the
# gradients into messages of about 4 MB, because each message costs time of its own.

minicv.seed(lesson.seed)
net = models.build("resnet18", width=16 if lesson.quick else 64)
x = lesson.tensor(rng.standard_normal((4, 3, 64, 64), np.float32))


def complete(loss):
    """When each gradient was complete, in seconds, and its bytes."""
    found, start = [(0.0, 0)], time.perf_counter()
    graph.backward(loss, ready=lambda p: found.append((time.perf_counter() - start, p.data.nbytes)))
    return np.array(found).T


for _ in range(2):  # the first run warms the caches up
    times, sizes = complete(minicv.ops.cross_entropy(net(x), lesson.tensor(np.arange(4))))
share = np.cumsum(sizes) / sum(sizes)
messages = [sum(p.data.nbytes for p in bucket) / 2**20 for bucket in gradient_buckets(list(net.parameters()))]
print(f"ResNet, {sum(sizes) / 2**20:.1f} MB of gradients in messages of {', '.join(f'{m:.1f}' for m in messages)} MB")
half = times[share >= 0.5][0] / times[-1]

# %%
# The share of the gradients' bytes that is complete, against the share of backward's time. If the blue curve is above the
# dotted diagonal, gradients are complete early; where it crosses the orange line, half of the bytes can have left.

figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.step(times / times[-1], share, where="post", color=BLUE)
ax.plot([0, 1], [0, 1], color="0.7", ls=":", label="evenly")
ax.axhline(0.5, color=ORANGE, lw=1)
ax.set(xlabel="share of backward's time", ylabel="share of the gradients' bytes", ylim=(0, 1.02),
       title="ResNet-18: when the gradients are complete")
ax.legend()
lesson.save(figure, "ready")
lesson.claim("P2", "data parallelism", "most gradients are complete well before backward ends, so they can travel meanwhile",
             f"half of the bytes after {half:.0%} of backward's time", half < 0.5)

# %%
# 4. Two processes on this machine
# --------------------------------
# The same number of images, by one process with all cores, by one with a single core, and by two with one core each. The
# script below trains the compact U-Net and prints its rate in images per second.

RUN = """
import json, sys, time
import minicv
from minicv import models
from minicv.data import Cells
from minicv.training import SegmentationConfig, SegmentationTask, Training, process_group
processes = process_group()
minicv.seed(0)
model = models.build("unet")
config = SegmentationConfig(steps=int(sys.argv[1]), batch=2, tile=116, optimizer="adam", warmup=100)
training = Training(SegmentationTask(model, Cells(4, 256), config), processes)
steps = iter(training)
for _ in range(3):
    next(steps)
start = time.perf_counter()
done = sum(1 for _ in steps)
if processes.rank == 0:
    print(json.dumps(2 * done / (time.perf_counter() - start)))
"""

# %%
# Two processes need an MPI, found by its `mpirun`, and mpi4py; without them this part is left out. ``measure_rate`` runs the
# script in processes of its own, with as many threads as given, or all.


def find_mpirun():
    beside = Path(sys.executable).parent / "mpirun"
    return str(beside) if beside.exists() else shutil.which("mpirun")


def measure_rate(command, threads):
    environment = {**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1])}
    if threads:
        environment["MINICV_THREADS"] = threads
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "run.py"
        script.write_text(RUN)
        result = subprocess.run([*command, sys.executable, str(script), "8" if lesson.quick else "60"],
                                env=environment, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


mpirun = find_mpirun() if importlib.util.find_spec("mpi4py") else None
rates = {}
if mpirun is None:
    print("no MPI here: two processes are not tried")
else:
    for name, command, threads in (("one process, all cores", [], None), ("one process, one core", [], "1"),
                                   ("two processes, one core each", [mpirun, "-n", "2"], "1")):
        rates[name] = measure_rate(command, threads)
        print(f"{name}: {rates[name]:.1f} images/s")

# %%
# Longer bars are faster. In the full run two processes do not reach 1.6 times the rate of one, so the claim does not hold
# there. They share the memory, wait for the slower one at each step, and exchange messages; which of these costs most is open.

if rates:
    figure, ax = plt.subplots(figsize=(7, 2.4), layout="constrained")
    ax.barh(list(rates), list(rates.values()), color=[BLUE, BLUE, ORANGE])
    ax.invert_yaxis()
    ax.set(xlabel="images per second", title="training the compact U-Net")
    lesson.save(figure, "rates")
    all_cores, one, two = rates.values()
    lesson.claim("P3", "data parallelism", "two processes with a core each are nearly twice as fast as one with one core",
                 f"{two / one:.2f} times; one process with all cores {all_cores / one:.2f} times",
                 None if lesson.quick or (os.cpu_count() or 1) < 2 else two > 1.6 * one)
lesson.finish()
