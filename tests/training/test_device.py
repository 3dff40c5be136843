import resource

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.data import Cells, ShapeBoxes
from minicv.training import (
    DetectionConfig,
    DetectionTask,
    Run,
    SegmentationConfig,
    SegmentationTask,
    Training,
    load_checkpoint,
)
from minicv.training.run import max_memory
from tests import strict_device

CONFIG = SegmentationConfig(steps=4, batch=2, tile=20, elastic=2.0, weight_map=True)


def training(config=CONFIG, depth=1):
    minicv.seed(0)
    model = models.build("unet", width=2, depth=depth)
    return Training(SegmentationTask(model, Cells(3, 32), config))


def on_strict(config=CONFIG):
    job = training(config)
    job.model.to("strict")
    return Training(job.task)


def test_a_step_reads_its_losses_when_somebody_looks():
    """With one read; every other would make the processor wait for the device."""
    job = on_strict()
    steps = iter(job)
    next(steps)
    strict_device.StrictArray.reads.clear()
    for step in range(1, 3):
        losses = next(steps)
        assert sum(strict_device.StrictArray.reads.values()) == step - 1
        assert np.isfinite(losses["total"]) and losses["loss"] == losses["total"] and list(losses) == ["loss", "total"]
        assert sum(strict_device.StrictArray.reads.values()) == step


def test_a_run_reads_the_losses_of_ten_steps_at_once(tmp_path, monkeypatch):
    here = Run(training(CONFIG.replace(steps=20)), tmp_path / "here", quiet=True).run()
    run = Run(on_strict(CONFIG.replace(steps=20)), tmp_path / "there", quiet=True)
    monkeypatch.setattr(run, "save", lambda: None)  # which reads all weights
    strict_device.StrictArray.reads.clear()
    there = run.run()
    assert sum(strict_device.StrictArray.reads.values()) == 2
    for a, b in zip(here, there, strict=True):
        assert a["step"] == b["step"] and b["total"] == pytest.approx(a["total"], rel=1e-5)


def test_a_loss_on_a_device_that_is_not_finite_is_found_before_anything_is_saved(tmp_path):
    run = Run(on_strict(CONFIG.replace(steps=20, lr=1e30)), tmp_path, quiet=True, save_every=0)
    with pytest.raises(RuntimeError, match=r"the loss became (nan|inf) at step [12]; a smaller learning rate"):
        run.run()
    assert all(np.isfinite(v).all() for v in load_checkpoint(tmp_path / "last.safetensors")[0].state_dict().values())


def detector():
    """Faster R-CNN on images of 64 x 64: how many proposals it has differs from step to step."""
    minicv.seed(0)
    images = ShapeBoxes(4, (64, 64))
    model = models.build("faster_rcnn", num_classes=images.num_classes, min_size=64, max_size=64)
    return Training(DetectionTask(model, images, DetectionConfig(steps=2300, lr=0.001)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [
    lambda: training(CONFIG.replace(steps=2300, tile=8, augment=False, weight_map=False), depth=0), detector])
def test_memory_does_not_grow_over_2000_steps(make):
    job, most, losses = make(), [], {}
    for losses in job:  # noqa: B007 - the last ones are looked at below
        if job.step in (300, 2300):
            with open("/proc/self/statm") as file:
                most.append(int(file.read().split()[1]) * resource.getpagesize())
    assert np.isfinite(losses["total"]) and max_memory() > 0
    assert most[1] - most[0] < 1 << 20  # bytes: 500 a step
