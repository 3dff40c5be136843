import copy
import pickle
import threading
import time

import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.autograd import graph
from minicv.data import Cells
from minicv.errors import UserError
from minicv.training import Run, SegmentationConfig, SegmentationTask, Training
from minicv.training.loop import prefetch

SMALL = SegmentationConfig(steps=6, batch=2, tile=20, warmup=0, elastic=2.0)


def training(config=SMALL, workers=1, **options):
    minicv.seed(0)
    model = models.build("unet", **{"width": 4, "depth": 1, "dropout": 0.5, **options})
    return Training(SegmentationTask(model, Cells(3, 32), config), workers=workers)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_a_copy_of_a_training_goes_on_by_itself(copied):
    def go_on(run):
        return [dict(losses) for losses, _ in zip(run, range(2), strict=False)], run.model.state_dict()

    run = training()
    next(iter(run))
    other = copied(run)
    assert other.optimizer.param_groups[0]["params"][0] is next(other.model.parameters())
    assert other.step == run.step == 1
    before = other.model.state_dict()
    losses, weights = go_on(run)
    for name, value in other.model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    other_losses, other_weights = go_on(other)
    assert other_losses == losses
    for name, value in weights.items():
        np.testing.assert_array_equal(value, other_weights[name])


# --------------------------------------------------------------------------------------------------------------- ahead

@pytest.mark.parametrize("workers", [1, 3])
def test_ahead_keeps_the_order_whoever_is_first(workers):
    def make(i):
        time.sleep(0.002 * (i % 3))
        return i * i

    assert list(prefetch(make, iter(range(20)), workers)) == [i * i for i in range(20)]
    assert list(prefetch(make, iter([]), workers)) == []


@pytest.mark.parametrize("workers", [1, 3])
def test_ahead_is_bounded(workers):
    made, asked = [], []

    def numbers():
        for i in range(1000):
            asked.append(i)
            yield i

    items = prefetch(made.append, numbers(), workers)
    for _ in range(4):
        next(items)
    assert len(asked) == 4 + 2 * workers
    items.close()
    time.sleep(0.01)
    assert len(made) <= 4 + 2 * workers


def test_ahead_works_while_the_other_does():
    made = threading.Event()

    def make(i):
        if i == 1:
            made.set()
        return i

    items = prefetch(make, iter(range(9)))
    next(items)
    assert made.wait(10)  # 1 is made although nobody has asked for it


def test_what_a_worker_raises_comes_in_its_turn():
    def make(i):
        if i == 5:
            raise OSError("image 5: unreadable")
        return i

    seen = []
    with pytest.raises(OSError, match="image 5: unreadable"):
        for i in prefetch(make, iter(range(100)), 4):
            seen.append(i)
    assert seen == [0, 1, 2, 3, 4]


# ---------------------------------------------------------------------------------------------------------- the walk

def test_a_leaf_is_ready_once_when_its_gradient_is_whole():
    a, b, unused = (Tensor(np.array([v], np.float32), requires_grad=True) for v in (2.0, 3.0, 5.0))
    seen = []
    loss = ((a * b) * a + b).sum()  # a^2 b + b: a is used twice, and so is b
    graph.backward(loss, ready=lambda leaf: seen.append((leaf, float(leaf.grad[0]))))
    assert sorted(g for _, g in seen) == [5.0, 12.0]  # a^2 + 1 and 2ab
    assert {leaf for leaf, _ in seen} == {a, b} and unused.grad is None


# ------------------------------------------------------------------------------------------------------------ Training

@pytest.mark.parametrize("workers", [2, 5])
def test_the_number_of_workers_changes_nothing(workers):
    one, many = training(), training(workers=workers)
    assert list(one) == list(many)
    for name, value in one.model.state_dict().items():
        np.testing.assert_array_equal(value, many.model.state_dict()[name])


def test_an_error_in_a_worker_names_the_image():
    job = training(SMALL.replace(tile=40))
    with pytest.raises(ValueError, match=r"cells-0-\d: its 32 x 32 pixels are fewer than the 40 x 40 of a tile"):
        list(job)


class Irregular(minicv.nn.Linear):
    """A network whose losses change from step to step."""

    build_args = {"model": "irregular"}  # as ``models.build`` leaves it, for checkpoints

    def losses(self, x):
        step = int(x.data[0, 0])
        found = {"always": (self(x) ** 2).mean()}
        if step % 2:
            found["odd"] = (self(x) - 1).abs().mean()
        return found


class Counting:
    def __init__(self):
        self.model = Irregular(2, 1)

    config = SegmentationConfig(steps=20, batch=1, warmup=0, lr=1e-4)

    def example(self, i):
        return i

    def collate(self, examples):
        return (Tensor(np.full((1, 2), examples[0], np.float32)),)


def test_a_loss_that_is_missing_at_some_steps_counts_as_0_there(tmp_path):
    minicv.seed(0)
    steps = list(Training(Counting()))
    assert [list(each) for each in steps[:3]] == [["always", "total"], *[["always", "odd", "total"]] * 2]
    assert steps[2]["odd"] == 0 < steps[3]["odd"]
    assert all(each["total"] == pytest.approx(each["always"] + each.get("odd", 0)) for each in steps)
    minicv.seed(0)
    lines = Run(Training(Counting()), tmp_path, quiet=True).run()
    odd = [each.get("odd", 0) for each in steps]
    assert [line["odd"] for line in lines] == pytest.approx([np.mean(odd[:10]), np.mean(odd[10:])])
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_it_goes_on_from_any_step():
    """Weights, optimizer and step are all that a training is: what is random comes from (seed, step)."""
    whole, first, second = training(), training(), training()
    losses = list(whole)
    steps = iter(first)
    assert [next(steps), next(steps)] == losses[:2]
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.step = 2
    second.schedule.step(2)
    assert list(second) == losses[2:]
    for name, value in whole.model.state_dict().items():
        np.testing.assert_array_equal(value, second.model.state_dict()[name])


def test_named_losses_are_added_up():
    job = training()
    original = job.model.losses
    job.model.losses = lambda *batch: {**original(*batch), "twice": original(*batch)["loss"] * 2.0}
    for losses in job:
        assert list(losses) == ["loss", "twice", "total"]
        assert losses["total"] == pytest.approx(losses["loss"] + losses["twice"], rel=1e-6)


def test_every_epoch_sees_every_image_in_a_new_order():
    task = SegmentationTask(models.build(
        "unet", width=1, depth=0, padding="same"), Cells(5, 24), SMALL.replace(augment=False, tile=24, seed=4))
    images = [task.dataset[i].label.tobytes() for i in range(5)]
    seen = [images.index(task.example(i)[1].tobytes()) for i in range(15)]
    epochs = [seen[i:i + 5] for i in (0, 5, 10)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_batch_that_cannot_fit_into_the_memory_is_refused():
    model = models.build("unet", in_channels=1, num_classes=2, width=1, depth=1)
    task = SegmentationTask(model, Cells(2, (32, 32)), SegmentationConfig(steps=1, batch=10 ** 12, tile=8))
    with pytest.raises(UserError, match=r"a batch of 1000000000000: its images alone take \S+ GiB, and \S+ GiB are "
                                        r"free; use a smaller batch"):
        next(iter(Training(task)))
