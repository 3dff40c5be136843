"""A training step of every network on another device than NumPy's: on the strict one, which refuses what CuPy refuses,
and, where asked for (``pytest -m gpu``), on a GPU. That its numbers are NumPy's is in each network's own tests."""
import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import backend, data, models, training
from minicv.autograd import Tensor
from minicv.optim import SGD
from tests.strict_device import StrictArray

# Each read makes the processor wait for the device. The losses are read when somebody looks at them. The RPN's
# proposals are chosen on the host: how many there are depends on the numbers, and the network's second half needs them.
READS = {"faster_rcnn": 1, "mask_rcnn": 1}
TASKS = {"segmentation": (data.StreetScenes, training.SegmentationConfig, training.SegmentationTask),
         "detection": (data.ShapeBoxes, training.DetectionConfig, training.DetectionTask)}


def step_of(name: str, device: str):
    """A compact network on the device, and a function that trains it by one step on a batch of two generated images.

    The function moves the batch from the host to the device, and returns the losses, not read.
    """
    minicv.seed(0)
    cls, kind = models.model_class(name), models.MODELS[name].partition(".")[0]
    if kind == "backbones":
        model = models.build(name, width=8).to(device)
        optimizer = SGD(model.parameters(), 0.01)
        x, labels = Tensor(np.random.default_rng(0).random((2, 3, 64, 64), np.float32)), np.array([3, 7])

        def step():
            loss = F.cross_entropy(model(x.to(device)), backend.to_device(labels, device))
            loss.backward()
            optimizer.step()
            return training.loop.Losses(("total",), backend.xp_of(loss.data).stack([loss.data]))
        return model, step
    dataset, config, task = TASKS[kind]
    images = dataset(2, (64, 64))
    model = models.build(name, num_classes=images.num_classes, in_channels=3).to(device)
    changes = {"steps": 10, "batch": 2, "warmup": 0, **({"tile": None} if kind == "segmentation" else {})}
    task = task(model.train(), images, config(**{**cls.TRAIN_DEFAULTS["compact"], **changes}))
    job, batch = training.Training(task), task.collate([task.example(0), task.example(1)])
    return model, lambda: job.train_step(*training.loop.to_device(batch, device))


@pytest.mark.parametrize("device", ["strict", pytest.param("cupy", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", models.names())
def test_a_training_step(name, device):
    model, step = step_of(name, device)
    StrictArray.reads.clear()
    losses = step()
    reads = dict(StrictArray.reads)
    assert all(np.isfinite(loss) for loss in losses.values()) and losses["total"] > 0
    assert {p.device for p in model.parameters()} == {device}
    learned = [p for p in model.parameters() if p.grad is not None]
    assert learned and all(p.grad is None or type(p.grad) is type(p.data) for p in model.parameters())
    if device == "strict":
        assert sum(reads.values()) == READS.get(name, 0), reads
        assert sum(StrictArray.reads.values()) == READS.get(name, 0) + 1
