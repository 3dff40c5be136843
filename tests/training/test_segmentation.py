import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv import models, nn
from minicv.data import Cells, Sample, WithWeightMap, standardise
from minicv.training import Recipe, load_checkpoint, save_checkpoint, train, train_steps
from minicv.training.segmentation import samples
from tests import strict_device  # noqa: F401 - makes the device "strict" known
from tests.models.torch_unet import torch_unet, torch_with_one_thread  # noqa: F401 - the fixture torch

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1])}


def unet(seed=0, **options):
    minicv.seed(seed)
    return models.build("unet", **{"width": 4, "depth": 1, "dropout": 0.0, **options})


SMALL = Recipe(steps=3, tile=20, warmup=0, elastic=2.0)


# --------------------------------------------------------------------------------------------------------------- recipe

def test_the_defaults_are_the_papers():
    recipe = Recipe()
    # U-Net, sec. 3: "we use a high momentum (0.99)"; sec. 3.1: "10 pixels standard deviation"
    assert recipe.momentum == 0.99 and recipe.elastic == 10.0 and recipe.augment


def test_replaced():
    recipe = Recipe(steps=5, lr=0.1)
    assert recipe.replaced(steps=7, lr=None) == Recipe(steps=7, lr=0.1)
    assert recipe.replaced() == recipe and recipe.replaced() is not recipe
    assert recipe.replaced(augment=False, elastic=0.0).augment is False  # 0 and False are values, None is not


@pytest.mark.parametrize(("options", "message"), [
    ({"schedule": "cosine"}, r"Recipe\(schedule='cosine'\): 'constant' or 'poly'"),
    ({"optimizer": "lion"}, r"Recipe\(optimizer='lion'\): 'sgd' or 'adam'"),
    ({"steps": 0}, r"Recipe\(steps=0\): must be at least 1"),
    ({"tile": 0}, r"Recipe\(tile=0\): must be at least 1"),
    ({"elastic": -1.0}, r"Recipe\(elastic=-1.0\): must be at least 0"),
    ({"warmup": -1}, r"Recipe\(warmup=-1\): must be at least 0"),
    ({"seed": -1}, r"Recipe\(seed=-1\): must be at least 0"),
])
def test_a_recipe_that_cannot_work(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)
    with pytest.raises(ValueError, match=message):
        Recipe().replaced(**options)


# -------------------------------------------------------------------------------------------------------------- samples

class Numbered:
    """Pictures that are recognised by their label, and a list of those asked for."""

    num_classes, class_names = 5, tuple("abcde")

    def __init__(self, size=(24, 28)):
        rng = np.random.default_rng(0)
        self.pictures = [Sample(rng.random((1, *size), np.float32), np.full(size, i), np.ones(size, np.int32), f"{i}")
                         for i in range(5)]
        self.asked = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.asked.append(index)
        return self.pictures[index]


def take(count, dataset, recipe, model):
    tiles = samples(dataset, recipe, model)
    return [next(tiles) for _ in range(count)]


def test_every_epoch_goes_through_all_pictures_in_a_new_order():
    data = Numbered()
    seen = [int(label[0, 0, 0]) for _, label, _ in take(15, data, SMALL, unet())]
    assert data.asked == seen
    epochs = [seen[i:i + 5] for i in (0, 5, 10)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert seen != [int(label[0, 0, 0]) for _, label, _ in take(15, data, SMALL.replaced(seed=1), unet())]


@pytest.mark.parametrize("weight_map", [False, True])
def test_tiles_are_batches_of_one_in_the_sizes_of_the_network(weight_map):
    model = unet(depth=2)  # 40 smaller, and sides divisible by 4: the output of 20 comes from 60
    recipe = SMALL.replaced(tile=17, weight_map=weight_map)
    for image, label, weight in take(3, Cells(2, 32), recipe, model):
        assert image.shape == (1, 1, 60, 60) and image.dtype == np.float32
        assert label.shape == (1, 20, 20) and label.dtype == np.int64
        assert (weight.shape, weight.dtype) == ((1, 20, 20), np.float32) if weight_map else weight is None


def test_without_augmentation_a_tile_is_a_part_of_the_standardised_picture():
    data, model = Cells(1, (20, 20)), unet(depth=0, padding="same")
    (image, label, weight), = take(1, WithWeightMap(data), SMALL.replaced(augment=False), model)  # as large as the tile
    np.testing.assert_array_equal(image[0], standardise(data[0].image))
    np.testing.assert_array_equal(label[0], data[0].label)
    np.testing.assert_array_equal(weight[0], WithWeightMap(data)[0].weight)
    (image, label, _), = take(1, data, SMALL.replaced(augment=False, tile=6), model)
    whole = standardise(data[0].image)[0]
    places = [(y, x) for y in range(15) for x in range(15) if np.array_equal(whole[y:y + 6, x:x + 6], image[0, 0])]
    assert len(places) == 1
    (y, x), = places
    np.testing.assert_array_equal(label[0], data[0].label[y:y + 6, x:x + 6])


def test_training_and_prediction_see_the_same_grey_values(monkeypatch):
    """The network learns on standardised pictures; predict must standardise too."""
    data, model = Cells(1, (20, 20)), unet(depth=0, padding="same")
    (image, _, _), = take(1, data, SMALL.replaced(augment=False), model)
    seen, forward = [], type(model).forward
    monkeypatch.setattr(type(model), "forward", lambda self, x: seen.append(x.data) or forward(self, x))
    model.predict([data[0].image])
    np.testing.assert_array_equal(seen[0], image)


def test_augmentation_depends_on_seed_and_step_alone():
    model, data = unet(), Cells(3, 32)
    first = take(6, data, SMALL, model)
    minicv.seed(9)
    np.random.seed(9)
    for one, two in zip(first, take(6, data, SMALL, model), strict=True):
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
    plain = take(6, data, SMALL.replaced(augment=False), model)
    assert all((one[0] != two[0]).any() for one, two in zip(first, plain, strict=True))


@pytest.mark.parametrize("augment", [False, True])
def test_a_picture_is_cut_and_bent_anew_each_time(augment):
    tiles = take(8, Cells(1, 32), SMALL.replaced(augment=augment, tile=4), unet())
    assert len({image.tobytes() for image, _, _ in tiles}) == 8  # 4 x 4 of 32 x 32: 841 places


def test_elastic_is_the_recipes():
    data = Cells(1, 32)
    soft, strong = (take(1, data, SMALL.replaced(elastic=sigma), unet())[0][0] for sigma in (0.0, 8.0))
    assert (soft != strong).any()


def test_an_empty_data_set():
    with pytest.raises(ValueError, match="train: the data set has no pictures"):
        train(unet(), Cells(0, 32), SMALL, quiet=True)


def test_a_tile_larger_than_the_picture():
    with pytest.raises(ValueError, match=r"random_tile: tile_out 40 is larger than the label map \(32, 32\)"):
        train(unet(), Cells(1, 32), SMALL.replaced(tile=40), quiet=True)


# ------------------------------------------------------------------------------------------------------------- the loop

def test_equals_a_loop_in_plain_pytorch(torch):
    """The same tiles, weights and recipe: losses and weights after eight steps."""
    recipe = Recipe(steps=8, lr=0.05, momentum=0.9, weight_decay=0.01, warmup=4, tile=16, elastic=2.0, weight_map=True)
    data, model = Cells(3, 32), unet(depth=2)
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in model.state_dict().items()}
    losses = train(model, data, recipe, quiet=True)["losses"]

    optimizer = torch.optim.SGD(weights.values(), lr=1.0, momentum=0.9, weight_decay=0.01)
    expected = []
    for step, (image, label, weight) in enumerate(take(8, data, recipe, unet(depth=2))):
        for group in optimizer.param_groups:
            # warm-up 1/4, 2/4, 3/4, 1, 1, ... times poly (1 - step/8)^0.9
            group["lr"] = 0.05 * min(1, (step + 1) / 4) * (1 - step / 8) ** 0.9
        scores = torch_unet(torch, torch.from_numpy(image), weights, 2, 0)
        each = torch.nn.functional.cross_entropy(scores, torch.from_numpy(label), reduction="none")
        w = torch.from_numpy(weight)
        loss = (w * each).sum() / w.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())
    # float32; eight steps make little of its 1e-7
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for name, value in model.state_dict().items():
        theirs = weights[name].detach().numpy()
        np.testing.assert_allclose(value, theirs, rtol=0, atol=1e-4 * abs(theirs).max(), err_msg=name)
    assert abs(losses[-1] - losses[0]) > 0.01


def test_adam_by_option():
    """Adam's first step moves every weight that has a gradient by the learning rate, whatever the gradient's size."""
    model = unet()
    before = model.state_dict()
    train(model, Cells(2, 32), SMALL.replaced(steps=1, optimizer="adam", lr=0.01), quiet=True)
    moved = np.concatenate([abs(p - before[name]).ravel() for name, p in model.state_dict().items()])
    np.testing.assert_allclose(moved[moved > 1e-4], 0.01, rtol=0.01)
    assert np.mean(moved > 1e-4) > 0.5


def test_train_reports_every_loss_and_shows_a_bar(capsys):
    model, steps = unet(), []
    for loss in train_steps(unet(), Cells(2, 32), SMALL):
        steps.append(loss)
    history = train(model.eval(), Cells(2, 32), SMALL)
    assert history["losses"] == steps and len(steps) == 3 and history["seconds"] > 0
    assert all(type(loss) is float for loss in steps)
    assert model.training
    bar = capsys.readouterr().err
    assert "3/3" in bar and "loss=" in bar and "image" in bar
    train(unet(), Cells(2, 32), SMALL, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_loss_that_is_not_finite_ends_the_training_with_one_error():
    """And without a warning from each operation that overflows: here every warning is an error."""
    message = r"train: the loss became (nan|inf) at step [12]; a smaller learning rate than 1e\+30 may help"
    with pytest.raises(RuntimeError, match=message):
        train(unet(), Cells(2, 32), SMALL.replaced(lr=1e30), quiet=True)
    model = unet()
    model.head.bias.data[0] = np.inf
    with pytest.raises(RuntimeError, match="the loss became nan at step 0"):
        train(model, Cells(2, 32), SMALL, quiet=True)


def test_on_the_strict_device():
    """Nothing in the loop needs NumPy arrays where the network has others."""
    recipe = SMALL.replaced(weight_map=True)
    here, there = unet(dropout=0.5), unet(dropout=0.5).to("strict")
    losses = []
    for model in (here, there):
        minicv.seed(1)
        losses.append(train(model, Cells(2, 32), recipe, quiet=True)["losses"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)  # float32, other block sizes
    assert {p.device for p in there.parameters()} == {"strict"}
    image = Cells(1, 20)[0].image
    np.testing.assert_allclose(there.predict([image], 20)[0].probabilities, here.predict([image])[0].probabilities,
                               rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_overfits_two_pictures(seed):
    """Guessing gives log 2 = 0.69; the two pictures by heart, next to nothing."""
    data, model = Cells(2, 36, seed), unet(seed, width=8)
    recipe = Recipe(steps=120, lr=0.05, momentum=0.9, schedule="constant", warmup=10, tile=36, augment=False, seed=seed)
    losses = train(model, data, recipe, quiet=True)["losses"]
    assert np.mean(losses[-10:]) < 0.25 < 0.6 < losses[0]
    for i in range(2):
        right = model.predict([data[i].image])[0].labels == data[i].label
        assert right.mean() > 0.9


# ------------------------------------------------------------------------------------------------------- reproducible

# Large enough that the convolutions are cut into several blocks for the threads.
RUN = """
import hashlib, json, sys
import numpy as np
import minicv
from minicv import backend, models
from minicv.data import Cells
from minicv.training import Recipe, train
seed = int(sys.argv[1])
minicv.seed(seed)
model = models.build("unet", "compact")
recipe = Recipe(steps=3, lr=0.02, tile=68, weight_map=True, elastic=4.0, warmup=2, seed=seed)
losses = train(model, Cells(2, 80, seed=0), recipe, quiet=True)["losses"]
digest = hashlib.sha256(b"".join(value.tobytes() for value in model.state_dict().values())).hexdigest()
print(json.dumps({"losses": losses, "weights": digest, "threads": backend.threads()}))
"""


def test_reproducible_bit_for_bit_in_new_processes_and_with_any_number_of_threads():
    runs = [(0, "1"), (0, "2"), (0, "2"), (1, "3")]
    processes = [subprocess.Popen([sys.executable, "-c", RUN, str(seed)], stdout=subprocess.PIPE, text=True,
                                  env={**ENVIRONMENT, "MINICV_THREADS": threads}) for seed, threads in runs]
    one, two, again, other = (json.loads(process.communicate()[0]) for process in processes)
    if one["threads"] == two["threads"]:
        pytest.skip("this BLAS is not OpenBLAS: minicv leaves the threads to it")
    assert [run["threads"] for run in (one, two, again, other)] == [1, 2, 2, 3]
    for run in (two, again):
        assert run["losses"] == one["losses"] and run["weights"] == one["weights"]
    assert other["weights"] != one["weights"] and other["losses"][0] != one["losses"][0]


def test_in_one_process_the_seed_of_minicv_decides_about_dropout():
    def weights(before):
        model = unet(dropout=0.5)
        minicv.seed(before)
        train(model, Cells(2, 32), SMALL, quiet=True)
        return hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest()

    assert weights(1) == weights(1) != weights(2)


# --------------------------------------------------------------------------------------------------------------- killed

@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("old", [False, True])
def test_a_run_killed_in_the_middle_leaves_no_broken_file(tmp_path, old):
    out = tmp_path / "run"
    out.mkdir()
    path = out / "model.safetensors"
    if old:
        save_checkpoint(path, unet(), run="earlier")
    before = {entry.name: entry.read_bytes() for entry in out.iterdir()}
    command = [sys.executable, "-m", "minicv.cli", "train", "unet", "--data", "cells", "--out", str(out), "--width",
               "2", "--tile", "20", "--steps", "100000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        seen = b""
        while b"loss=" not in seen:  # the bar shows the first steps
            piece = process.stderr.read1()
            assert piece, f"ended by itself: {seen.decode()}"
            seen += piece
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
    assert {entry.name: entry.read_bytes() for entry in out.iterdir()} == before
    if old:
        assert load_checkpoint(path)[1] == {"run": "earlier"}


def test_recipe_is_what_a_checkpoint_can_hold(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", unet(), recipe=dataclasses.asdict(SMALL))
    assert Recipe(**load_checkpoint(tmp_path / "a.safetensors")[1]["recipe"]) == SMALL


def test_models_that_are_no_unet_can_be_trained_too():
    """The loop asks a network for input_size, output_size and scores, nothing else."""
    class Pixelwise(nn.Module):
        def __init__(self):
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return self.conv(x)

        def input_size(self, output):
            return output

        output_size = input_size

    model = Pixelwise()
    before = model.state_dict()
    train(model, Cells(2, 32), SMALL, quiet=True)
    assert all((value != before[name]).any() for name, value in model.state_dict().items())
