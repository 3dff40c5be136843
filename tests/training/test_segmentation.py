import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv import models, nn
from minicv.data import IGNORE, Cells, DataWarning, Sample, WithWeightMap, class_weights, standardize
from minicv.models.segmentation.base import SegmentationNetwork
from minicv.training import SegmentationConfig, SegmentationTask, Training, train_segmentation
from tests import strict_device  # noqa: F401 - makes the device "strict" known
from tests.models.torch_unet import torch_unet, torch_with_one_thread  # noqa: F401 - the fixture torch

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(minicv.__file__).parents[1])}


def unet(seed=0, **options):
    minicv.seed(seed)
    return models.build("unet", **{"width": 4, "depth": 1, "dropout": 0.0, **options})


SMALL = SegmentationConfig(steps=3, tile=20, warmup=0, elastic=2.0)


# -------------------------------------------------------------------------------------------------------------- samples

class Numbered:
    """Images that are recognized by their label, and a list of those asked for."""

    num_classes, class_names = 5, tuple("abcde")

    def __init__(self, size=(24, 28)):
        rng = np.random.default_rng(0)
        self.images = [Sample(rng.random((1, *size), np.float32), np.full(size, i), np.ones(size, np.int32), f"{i}")
                         for i in range(5)]
        self.asked = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.asked.append(index)
        return self.images[index]


def take(count, dataset, config, model):
    """The first examples, each as a batch of one."""
    task = SegmentationTask(model, dataset, config)
    return [tuple(None if a is None else a[None] for a in task.example(i)) for i in range(count)]


def train(model, dataset, config):
    return list(train_segmentation(model, dataset, config))


def test_every_epoch_goes_through_all_images_in_a_new_order():
    data = Numbered()
    seen = [int(label[0, 0, 0]) for _, label, _ in take(15, data, SMALL, unet())]
    assert data.asked == seen
    epochs = [seen[i:i + 5] for i in (0, 5, 10)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert seen != [int(label[0, 0, 0]) for _, label, _ in take(15, data, SMALL.replace(seed=1), unet())]


@pytest.mark.parametrize("weight_map", [False, True])
def test_tiles_are_batches_of_one_in_the_sizes_of_the_network(weight_map):
    model = unet(depth=2)  # 40 smaller, and sides divisible by 4: the output of 20 comes from 60
    config = SMALL.replace(tile=17, weight_map=weight_map)
    for image, label, weight in take(3, Cells(2, 32), config, model):
        assert image.shape == (1, 1, 60, 60) and image.dtype == np.float32
        assert label.shape == (1, 20, 20) and label.dtype == np.int64
        assert (weight.shape, weight.dtype) == ((1, 20, 20), np.float32) if weight_map else weight is None


def test_class_weights_weigh_the_pixels_of_a_tile():
    data, model = Cells(2, 32), unet(depth=2)
    w = class_weights(data)
    for (image, label, weight), (same, _, mapped), (_, _, both) in zip(*(
            take(3, data, SMALL.replace(tile=17, **options), model) for options in
            ({"class_weights": True}, {"weight_map": True}, {"weight_map": True, "class_weights": True})), strict=True):
        np.testing.assert_array_equal(weight, w[label])
        np.testing.assert_array_equal(image, same)
        np.testing.assert_allclose(both, w[label] * mapped, rtol=1e-6)


def test_class_weights_of_pixels_without_a_label():
    data, model = Numbered(), unet(depth=2)
    for sample in data.images:
        sample.label[::2] = IGNORE
    for _, label, weight in take(3, data, SMALL.replace(class_weights=True), model):
        assert (weight[label == IGNORE] == 0).all() and (weight[label != IGNORE] > 1).all()


def test_without_augmentation_a_tile_is_a_part_of_the_standardized_image():
    data, model = Cells(1, (20, 20)), unet(depth=0, padding="same")
    (image, label, weight), = take(1, WithWeightMap(data), SMALL.replace(augment=False), model)  # as large as the tile
    np.testing.assert_array_equal(image[0], standardize(data[0].image))
    np.testing.assert_array_equal(label[0], data[0].label)
    np.testing.assert_array_equal(weight[0], WithWeightMap(data)[0].weight)
    (image, label, _), = take(1, data, SMALL.replace(augment=False, tile=6), model)
    whole = standardize(data[0].image)[0]
    places = [(y, x) for y in range(15) for x in range(15) if np.array_equal(whole[y:y + 6, x:x + 6], image[0, 0])]
    assert len(places) == 1
    (y, x), = places
    np.testing.assert_array_equal(label[0], data[0].label[y:y + 6, x:x + 6])


def test_training_and_prediction_see_the_same_gray_values(monkeypatch):
    """The network learns on standardized images; predict must standardize too."""
    data, model = Cells(1, (20, 20)), unet(depth=0, padding="same")
    (image, _, _), = take(1, data, SMALL.replace(augment=False), model)
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
    plain = take(6, data, SMALL.replace(augment=False), model)
    assert all((one[0] != two[0]).any() for one, two in zip(first, plain, strict=True))


@pytest.mark.parametrize("augment", [False, True])
def test_an_image_is_cut_and_bent_anew_each_time(augment):
    tiles = take(8, Cells(1, 32), SMALL.replace(augment=augment, tile=4), unet())
    assert len({image.tobytes() for image, _, _ in tiles}) == 8  # 4 x 4 of 32 x 32: 841 places


def test_elastic_is_the_configs():
    data = Cells(1, 32)
    soft, strong = (take(1, data, SMALL.replace(elastic=sigma), unet())[0][0] for sigma in (0.0, 8.0))
    assert (soft != strong).any()


def test_upright_images_are_scaled_and_flipped_but_never_turned():
    """Each row of the image has a gray value of its own, so rows stay rows in their order."""
    class Streets(Numbered):
        upright = True

        def __getitem__(self, index):
            rows = np.linspace(0, 1, 32, dtype=np.float32)[:, None] * np.ones((32, 40), np.float32)
            return Sample(rows[None], (rows > 0.5).astype(np.int64), None, "street")

    model = unet(depth=1, padding="same")
    sizes = set()
    for image, label, weight in take(12, Streets(), SMALL.replace(tile=24, batch=1), model):
        assert image.shape == (1, 1, 24, 24) and label.shape == (1, 24, 24) and weight is None
        inside = label[0] != 255
        rows, columns = inside.any(axis=1), inside.any(axis=0)
        gray = image[0, 0][rows][:, columns]
        np.testing.assert_allclose(gray, gray[:, :1] * np.ones_like(gray), atol=1e-4)
        assert (np.diff(gray[:, 0]) >= -1e-5).all()
        sizes.add(round(float(np.diff(gray[:, 0]).max()), 3))
    assert len(sizes) > 6  # scaled anew each time


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_without_a_tile_a_step_looks_at_the_whole_image(padding):
    """In the nearest size that the network takes: what lies beyond is void."""
    class Street(Numbered):
        upright = True

    model = unet(depth=2, padding=padding)
    (image, label, _), = take(1, Street((45, 60)), SegmentationConfig(scale=1.0, steps=1), model)
    assert label.shape[1:] == (model.output_size(image.shape[2]), model.output_size(image.shape[3]))
    assert label.shape[1] in range(45, 49) and label.shape[2] in range(60, 64)
    assert (label != 255).sum() == 45 * 60  # every pixel counts, once


def test_all_places_of_an_upright_image_count_alike():
    """Also those at its border, which a network of valid convolutions sees with mirrored context."""
    class Street(Numbered):
        upright = True

        def __getitem__(self, index):
            return dataclasses.replace(self.images[0], label=np.arange(24 * 28).reshape(24, 28) % 251)

    model, seen = unet(depth=1, padding="valid"), np.zeros(251, int)
    for _, label, _ in take(300, Street(), SegmentationConfig(scale=1.0, tile=12, steps=1), model):
        assert label.shape == (1, 12, 12) and (label != 255).all()
        seen += np.bincount(label.ravel(), minlength=251)
    assert seen.min() > 0


def test_a_part_without_labels_is_drawn_again():
    class Street(Numbered):
        upright = True

        def __getitem__(self, index):
            label = np.full((24, 28), 255)
            label[:, :8] = index
            return dataclasses.replace(self.images[0], label=label, name="street")

    config = SegmentationConfig(scale=1.0, tile=8, steps=1)
    for _, label, _ in take(40, Street(), config, unet(depth=1, padding="same")):
        assert (label != 255).any()
    void = Street()
    void.images = [dataclasses.replace(void.images[0], label=np.full((24, 28), 255), name="fog")]
    Street.__getitem__ = lambda self, index: self.images[0]
    with pytest.raises(ValueError, match="none of the 5 images gives an example; fog: no pixel of it has a label"):
        take(1, void, config, unet(depth=1, padding="same"))


class Fog(Numbered):
    """Of five images two whose label is void, and one that is too small for a tile of 24."""

    def __init__(self):
        super().__init__()
        void = np.full((24, 28), 255)
        self.images[1:3] = [dataclasses.replace(p, label=void) for p in self.images[1:3]]
        small = self.images[4]
        self.images[4] = dataclasses.replace(small, image=small.image[:, :20, :20], label=small.label[:20, :20])


@pytest.mark.parametrize("workers", [1, 3])
def test_images_that_give_no_example_are_passed_over_with_one_warning_each(workers):
    model = unet(depth=0, padding="same", num_classes=5)
    task = SegmentationTask(model, Fog(), SMALL.replace(tile=24, steps=20, batch=1))
    with pytest.warns(DataWarning) as warned:
        steps = list(Training(task, workers=workers))
    assert len(steps) == 20 and all(np.isfinite(each["total"]) for each in steps)
    assert sorted(str(w.message) for w in warned) == [
        "train: 1 is skipped: no pixel of it has a label", "train: 2 is skipped: no pixel of it has a label",
        "train: 4 is skipped: its 20 x 20 pixels are fewer than the 24 x 24 of a tile; use a smaller tile"]
    taken = set(task.dataset.asked[-100:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of it a second time
        labels = {int(np.unique(task.example(i)[1])[0]) for i in range(10)}
    assert labels == {0, 3} and len(taken) == 5  # the classes of the two that are left


def test_what_takes_the_place_of_a_void_image_depends_on_the_seed_alone():
    def examples(numbers):
        task = SegmentationTask(unet(depth=0, padding="same"), Fog(), SMALL.replace(tile=24))
        with pytest.warns(DataWarning):
            return {i: task.example(i)[0] for i in numbers}
    forward, backward = examples(range(12)), examples(range(11, -1, -1))
    for i, image in forward.items():
        np.testing.assert_array_equal(image, backward[i])


def test_images_of_a_batch_must_be_of_one_size():
    class Mixed(Numbered):
        upright = True

        def __getitem__(self, index):
            return dataclasses.replace(self.images[index], image=np.zeros((1, 20 + index, 20), np.float32),
                                       label=np.zeros((20 + index, 20), np.int64), instances=None)

    config = SegmentationConfig(steps=1, batch=2)
    with pytest.raises(ValueError, match=r"train: images of a batch differ in size, \(1, 2\d, 20\) and others"):
        train(unet(depth=0, padding="same"), Mixed(), config)


def test_an_empty_data_set():
    with pytest.raises(ValueError, match="train: the data set has no images"):
        train(unet(), Cells(0, 32), SMALL)


def test_a_tile_larger_than_the_image():
    message = "none of the 1 images gives an example; cells-0-0: its 32 x 32 pixels are fewer than the 40 x 40 of"
    with pytest.raises(ValueError, match=message):
        train(unet(), Cells(1, 32), SMALL.replace(tile=40))


# ------------------------------------------------------------------------------------------------------------- the loop

def test_equals_a_loop_in_plain_pytorch(torch):
    """The same tiles, weights and config: losses and weights after eight steps."""
    config = SegmentationConfig(steps=8, lr=0.05, momentum=0.9, weight_decay=0.01, warmup=4, tile=16, elastic=2.0,
                                weight_map=True)
    data, model = Cells(3, 32), unet(depth=2)
    weights = {name: torch.tensor(value, requires_grad=True) for name, value in model.state_dict().items()}
    losses = train(model, data, config)

    optimizer = torch.optim.SGD(weights.values(), lr=1.0, momentum=0.9, weight_decay=0.01)
    expected = []
    for step, (image, label, weight) in enumerate(take(8, data, config, unet(depth=2))):
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
    train(model, Cells(2, 32), SMALL.replace(steps=1, optimizer="adam", lr=0.01))
    moved = np.concatenate([abs(p - before[name]).ravel() for name, p in model.state_dict().items()])
    assert moved.max() == pytest.approx(0.01, rel=1e-4)
    assert np.mean(moved > 0.0099) > 0.5  # the rest: dead ReLUs, and gradients not far above Adam's eps


def test_on_the_strict_device():
    """Nothing in the loop needs NumPy arrays where the network has others."""
    config = SMALL.replace(weight_map=True)
    here, there = unet(dropout=0.5), unet(dropout=0.5).to("strict")
    losses = []
    for model in (here, there):
        minicv.seed(1)
        losses.append(train(model, Cells(2, 32), config))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)  # float32, other block sizes
    assert {p.device for p in there.parameters()} == {"strict"}
    image = Cells(1, 20)[0].image
    np.testing.assert_allclose(there.predict([image], 20)[0].probabilities, here.predict([image])[0].probabilities,
                               rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", [0, 1])
def test_overfits_two_images(seed):
    """Guessing gives log 2 = 0.69; the two images by heart, next to nothing."""
    data, model = Cells(2, 36, seed), unet(seed, width=8)
    config = SegmentationConfig(steps=120, lr=0.05, momentum=0.9, schedule="constant", warmup=10, tile=36,
                                augment=False, seed=seed)
    losses = train(model, data, config)
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
from minicv.training import SegmentationConfig, train_segmentation
seed = int(sys.argv[1])
minicv.seed(seed)
model = models.build("unet", "compact")
config = SegmentationConfig(steps=3, lr=0.02, tile=68, weight_map=True, elastic=4.0, warmup=2, seed=seed)
losses = list(train_segmentation(model, Cells(2, 80, seed=0), config))
digest = hashlib.sha256(b"".join(value.tobytes() for value in model.state_dict().values())).hexdigest()
print(json.dumps({"losses": losses, "weights": digest, "threads": backend.num_threads()}))
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


def test_the_seed_of_the_config_decides_about_dropout_and_no_other():
    def weights(seed, before):
        model = unet(dropout=0.5)
        minicv.seed(before)
        train(model, Cells(2, 32), SMALL.replace(seed=seed, augment=False, tile=32))
        after = minicv.backend.rng().random()
        return hashlib.sha256(b"".join(v.tobytes() for v in model.state_dict().values())).hexdigest(), after

    (one, next_one), (same, next_two), (other, _) = weights(1, 1), weights(1, 2), weights(2, 1)
    assert one == same != other
    minicv.seed(1)
    assert next_one == minicv.backend.rng().random() != next_two  # minicv's own numbers are left alone


def test_a_batch_is_so_many_examples():
    model, config = unet(), SMALL.replace(batch=3, weight_map=True)
    task = SegmentationTask(model, Cells(4, 32), config)
    examples = [task.example(i) for i in range(3)]
    image, label, weight = task.collate(examples)
    assert image.shape[0] == label.shape[0] == weight.shape[0] == 3
    np.testing.assert_array_equal(image.data[2], examples[2][0])
    losses = model.losses(image, label, weight)
    assert list(train(unet(), Cells(4, 32), config))[0] == pytest.approx(losses["loss"].item(), rel=1e-6)


def test_void_pixels_do_not_count():
    """Their scores may be anything."""
    model = unet(depth=0, padding="same")
    x, label = np.random.default_rng(0).random((1, 1, 6, 6), np.float32), np.ones((1, 6, 6), np.int64)
    label[0, :, 3:] = 255
    by_hand = model.losses(minicv.Tensor(x), minicv.Tensor(label))["loss"].item()
    scores = model(minicv.Tensor(x)).data[0, :, :, :3]
    p = np.exp(scores - scores.max(axis=0))
    assert by_hand == pytest.approx(-np.log(p[1] / p.sum(axis=0)).mean(), rel=1e-5)


def test_networks_that_are_no_unet_can_be_trained_too():
    class Pixelwise(SegmentationNetwork):
        def __init__(self):
            self.conv = nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return self.conv(x)

    model = Pixelwise()
    before = model.state_dict()
    train(model, Cells(2, 32), SMALL)
    assert all((value != before[name]).any() for name, value in model.state_dict().items())
