import resource

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.data import Cells
from minicv.training import SegmentationRecipe, SegmentationTask, Training
from minicv.training.run import memory
from tests import strict_device

RECIPE = SegmentationRecipe(steps=4, batch=2, tile=20, elastic=2.0, weight_map=True)


def training(recipe=RECIPE, depth=1):
    minicv.seed(0)
    model = models.build("unet", width=2, depth=depth)
    return Training(model, SegmentationTask(Cells(3, 32), recipe, model))


def test_a_step_reads_once_from_the_device(monkeypatch):
    """The losses; every other read would make the processor wait for the device."""
    job = training()
    job.model.to("strict")
    job = Training(job.model, job.task)
    steps, reads = iter(job), []
    next(steps)
    monkeypatch.setattr(strict_device.StrictArray, "note_read", lambda self, what: reads.append(what))
    for step in range(1, 3):
        losses = next(steps)
        assert reads == [".get()"] * step and np.isfinite(losses["total"])


@pytest.mark.slow
def test_memory_does_not_grow_over_2000_steps():
    job = training(RECIPE.replaced(steps=2300, tile=8, augment=False, weight_map=False), depth=0)
    most, losses = [], {}
    for losses in job:  # noqa: B007 - the last ones are looked at below
        if job.step in (300, 2300):
            with open("/proc/self/statm") as file:
                most.append(int(file.read().split()[1]) * resource.getpagesize())
    assert np.isfinite(losses["total"]) and memory() > 0
    assert most[1] - most[0] < 1 << 20  # bytes: 500 a step
