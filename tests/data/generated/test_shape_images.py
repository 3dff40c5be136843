import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data import ShapeImages, draw_shape_image, open_dataset
from minicv.data.generated.shapes import SHAPES


@settings(max_examples=40, deadline=None)
@given(shape=st.sampled_from(list(SHAPES)), size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
       seed=st.integers(0, 10**6))
def test_any_size(shape, size, seed):
    image, mask = draw_shape_image(shape, size, np.random.default_rng(seed))
    assert image.shape == (3, *size) and image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
    assert mask.shape == size and mask.dtype == bool


def test_classes_take_turns():
    dataset = ShapeImages(23, 24)
    assert len(dataset) == 23 and dataset.num_classes == len(dataset.class_names) == 10
    assert [p.label for p in dataset] == [*range(10), *range(10), 0, 1, 2]
    images, labels = dataset.arrays()
    assert images.shape == (23, 3, 24, 24) and images.dtype == np.float32 and labels.dtype == np.int64
    np.testing.assert_array_equal(labels, [p.label for p in dataset])
    np.testing.assert_array_equal(images[17], dataset[17].image)


def test_an_image_depends_on_split_seed_and_number_only():
    few, many = ShapeImages(3, 16, seed=5), ShapeImages(30, 16, seed=5)
    np.testing.assert_array_equal(few[2].image, many[2].image)
    np.testing.assert_array_equal(few[-1].mask, few[2].mask)
    others = ShapeImages(3, 16, seed=6)[2], ShapeImages(3, 16, seed=5, split="test")[2]
    assert len({p.name for p in (few[2], *others)}) == 3
    assert all((p.image != few[2].image).any() for p in others)


def test_the_registry_knows_them():
    train, test = (open_dataset("shapes", split, count=4, size=(12, 16), seed=1) for split in ("train", "test"))
    assert len(train) == 4 and train[0].image.shape == (3, 12, 16)
    assert (train.split, test.split) == ("train", "test")


def test_the_mask_is_where_the_shape_is():
    for lighter in (1.0, 0.0):
        inside, outside = [], []
        for p in ShapeImages(40, 48, hidden=0, noise=0, lighter=lighter):
            inside.append(p.image[:, p.mask].mean())
            outside.append(p.image[:, ~p.mask].mean())
        assert ((np.array(inside) > outside) == bool(lighter)).all()


def test_a_band_hides_some_of_the_shape():
    # The band is drawn after all else: the same seed without one gives the same shape.
    whole, banded = (ShapeImages(60, 48, hidden=h, noise=0) for h in (0, 1))
    left = [b.mask.sum() / w.mask.sum() for w, b in zip(whole, banded, strict=True)]
    assert all((b.mask <= w.mask).all() for w, b in zip(whole, banded, strict=True))
    assert 0.25 < min(left) < 0.7 < np.mean(left) < 0.95  # some lose much, but none all of it
    # 1/2 of the images with the defaults: 200 +- 10 of 400
    assert 160 < sum((a.mask != b.mask).any() for a, b in zip(ShapeImages(400, 32), ShapeImages(400, 32, hidden=0),
                                                               strict=True)) < 240


def test_no_color_tells_the_class():
    """The mean colors of shapes and backgrounds, class by class, differ no more than chance has it."""
    dataset = ShapeImages(600, 32)
    labels = np.array([p.label for p in dataset])
    for hidden in (False, True):  # of the shape, of the rest
        colors = np.array([p.image[:, p.mask ^ hidden].mean(axis=1) for p in dataset])  # (600, 3)
        means = np.array([colors[labels == k].mean(axis=0) for k in range(10)])  # 60 images each
        away = (means - colors.mean(axis=0)) / (colors.std(axis=0) / np.sqrt(60))  # in standard errors
        assert np.abs(away).max() < 4, away


def test_errors():
    for options in ({"count": -1}, {"seed": -1}):
        with pytest.raises(ValueError, match="^ShapeImages: count and seed must not be negative, got "):
            ShapeImages(**{"count": 3, **options})
    with pytest.raises(ValueError, match="^ShapeImages: split must be one of train, test, val, got 'dev'"):
        ShapeImages(3, split="dev")
    with pytest.raises(TypeError, match="color"):
        ShapeImages(3, color="red")
    with pytest.raises(IndexError, match=r"^ShapeImages: index 3 is out of range for 3 images"):
        ShapeImages(3)[3]
    for size, radius in (((0, 4), (0.2, 0.4)), ((4, 4), (0, 0.4)), ((4, 4), (0.4, 0.2))):
        with pytest.raises(ValueError, match=r"^draw_shape_image: needs a size of at least \(1, 1\) and 0 < radius"):
            draw_shape_image("disc", size, np.random.default_rng(0), radius=radius)
