import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from minicv.data import IGNORE, open_dataset
from minicv.data.generated.street_scenes import (
    BOAT,
    CAR,
    CLASSES,
    GROUND,
    POLE,
    ROAD,
    THINGS,
    TREE,
    WATER,
    StreetScenes,
    draw_street_scene,
)


@settings(max_examples=30, deadline=None)
@given(size=st.tuples(st.integers(1, 70), st.integers(1, 70)), seed=st.integers(0, 10**6), void=st.integers(0, 3),
       apron=st.sampled_from([0, 4.5]))
def test_any_size(size, seed, void, apron):
    image, label, instances = draw_street_scene(size, np.random.default_rng(seed), void=void, apron=apron)
    assert image.shape == (3, *size) and label.shape == instances.shape == size
    assert (image.dtype, label.dtype, instances.dtype) == (np.float32, np.int64, np.int32)
    assert image.min() >= 0 and image.max() <= 1
    assert set(np.unique(label)) <= {*range(len(CLASSES)), IGNORE}
    np.testing.assert_array_equal(instances > 0, np.isin(label, THINGS))
    pairs = np.unique(np.stack([instances, label])[:, instances > 0], axis=1)
    assert pairs.shape[1] == len(np.unique(instances[instances > 0]))  # an object has one class


def test_void_is_a_strip_behind_the_objects():
    for seed in range(5):
        _, bare, objects = draw_street_scene((60, 80), np.random.default_rng(seed), void=0)
        _, label, instances = draw_street_scene((60, 80), np.random.default_rng(seed), void=1)
        assert (bare != IGNORE).all()
        # A pixel is void if one that shares a side belongs to an object in front of its own.
        cross = ndimage.generate_binary_structure(2, 1)
        void = ndimage.maximum_filter(objects, footprint=cross) > objects
        np.testing.assert_array_equal(label, np.where(void, IGNORE, bare))
        np.testing.assert_array_equal(instances, np.where(void, 0, objects))


def features(apron):
    """Of every car and boat that is all in view: what its pixels look like, what lies around, and is it a car?"""
    inside, around, is_car = [], [], []
    for sample in StreetScenes(120, 64, seed=5, apron=apron, density=0.7, void=0):
        for number, box in enumerate(ndimage.find_objects(sample.instances), start=1):
            if box is None or sample.label[sample.instances == number][0] not in (CAR, BOAT):
                continue
            mask = sample.instances == number
            ring = ndimage.binary_dilation(mask, iterations=int(apron) + 6) & np.isin(sample.label, (WATER, ROAD))
            if mask.sum() > 8 and ring.sum() > 8:
                pixels = sample.image[:, mask]
                inside.append([*pixels.mean(axis=1), *pixels.std(axis=1), mask.sum()])
                around.append((sample.label[ring] == ROAD).mean())
                is_car.append(sample.label[mask][0] == CAR)
    return np.array(inside), np.array(around), np.array(is_car)


@pytest.mark.parametrize("apron", [0, 5])
def test_only_what_lies_around_tells_a_car_from_a_boat(apron):
    inside, around, is_car = features(apron)
    assert len(is_car) > 150 and 0.25 < is_car.mean() < 0.75
    assert ((around > 0.5) == is_car).mean() > 0.95
    # The best linear rule on the first half of the objects is no better than the more frequent class on the second.
    x = np.c_[(inside - inside.mean(axis=0)) / inside.std(axis=0), np.ones(len(inside))]
    half = len(x) // 2
    rule = np.linalg.lstsq(x[:half], 2.0 * is_car[:half] - 1, rcond=None)[0]
    right = ((x[half:] @ rule > 0) == is_car[half:]).mean()
    assert right < max(is_car.mean(), 1 - is_car.mean()) + 0.1


def test_an_apron_is_ground():
    for sample in StreetScenes(10, 64, apron=5, void=0):
        vehicles = np.isin(sample.label, (CAR, BOAT))
        near = ndimage.binary_dilation(vehicles, iterations=3) & ~vehicles
        assert np.isin(sample.label[near], (GROUND, *THINGS)).all()


def test_sizes_thin_parts_and_imbalance():
    samples = list(StreetScenes(40, seed=1))
    areas = {k: [] for k in range(len(CLASSES))}
    for sample in samples:
        assert sample.image.shape == (3, 96, 128)
        size = np.bincount(sample.instances.ravel())
        for number in np.unique(sample.instances[sample.instances > 0]):
            areas[sample.label[sample.instances == number][0]].append(size[number])
    low, high = np.percentile(areas[TREE], [10, 90])
    assert low < 50 and high > 12 * low  # pixels; 8^2 for the smallest and largest radius
    labels = np.stack([sample.label for sample in samples])
    share = np.bincount(labels.ravel(), minlength=256) / labels.size
    assert share[[GROUND, WATER, ROAD]].min() > 0.1 and 0.003 < share[POLE] < 0.03
    assert 0 < share[CLASSES.index("sign")] < 0.006 and 0.02 < share[IGNORE] < 0.1
    # A pole is nearly upright: rows of it are one or two pixels wide.
    poles = np.pad(labels == POLE, ((0, 0), (0, 0), (1, 1)))
    starts, ends = (np.argwhere(np.diff(poles.astype(int), axis=2) == step)[:, 2] for step in (1, -1))
    assert np.mean(ends - starts <= 2) > 0.95


def test_patterns_say_more_than_colors():
    """Over all images, the classes of the ground have about the same colors."""
    means = {k: [] for k in (GROUND, WATER, ROAD)}
    for sample in StreetScenes(40, 48, seed=2):
        for k, found in means.items():
            if (sample.label == k).sum() > 50:
                found.append(sample.image[:, sample.label == k].mean(axis=1))
    within = np.mean([np.std(found, axis=0) for found in means.values()], axis=0)
    between = np.std([np.mean(found, axis=0) for found in means.values()], axis=0)
    assert (between < 1.5 * within).all()


def test_items_do_not_depend_on_the_order_of_access_and_can_be_kept():
    forward = [sample.image for sample in StreetScenes(3, 24, seed=1)]  # iteration ends by IndexError
    kept = StreetScenes(3, 24, seed=1, keep=True)
    for scenes in (StreetScenes(3, 24, seed=1), kept, kept):
        np.testing.assert_array_equal(forward, [scenes[i].image for i in (-1, -2, -3)][::-1])
    assert kept[1] is kept[-2] and kept[1].name == "scenes-1-1"
    with pytest.raises(ValueError, match="read-only"):
        kept[0].label[:] = 0
    assert not np.array_equal(forward[0], StreetScenes(3, 24, seed=2)[0].image)


def test_open_dataset():
    train, test = (open_dataset("street-scenes", split, count=2, size=(24, 32), seed=3) for split in ("train", "test"))
    assert len(train) == 2 and train.num_classes == 9 and train.class_names[5] == "car"
    assert {s.name for s in train}.isdisjoint(s.name for s in test) and test[0].image.shape == (3, 24, 32)
    with pytest.raises(ValueError, match="StreetScenes: split must be one of train, test, val, got 'dev'"):
        open_dataset("street-scenes", "dev")


def test_errors():
    for options in ({"size": (0, 4)}, {"density": -1}, {"apron": -1}, {"void": -1}, {"noise": -0.1}):
        with pytest.raises(ValueError, match=r"draw_street_scene: needs a size of at least \(1, 1\)"):
            draw_street_scene(options.pop("size", (8, 8)), np.random.default_rng(0), **options)
    with pytest.raises(IndexError, match="StreetScenes: index 3 is out of range for 3 images"):
        StreetScenes(3, 8)[3]
    with pytest.raises(ValueError, match="StreetScenes: count and seed must not be negative, got -1 and 0"):
        StreetScenes(-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'; there are: density, apron, void"):
        StreetScenes(2, 32, color="red")
