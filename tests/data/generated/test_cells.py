import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from minicv.data import Cells, draw_cells
from minicv.data.generated.cells import _separate

EIGHT = np.ones((3, 3))  # neighbors across corners count


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    seed=st.integers(0, 10**6),
    ridge=st.sampled_from([1, 2]),
)
def test_any_size(size, seed, ridge):
    image, instances = draw_cells(size, np.random.default_rng(seed), ridge=ridge)
    assert image.shape == instances.shape == size
    assert image.dtype == np.float32 and instances.dtype == np.int32
    assert image.min() >= 0 and image.max() <= 1
    # Instances are numbered without gaps, and are exactly the connected components, by sides and by corners.
    np.testing.assert_array_equal(np.unique(instances[instances > 0]), np.arange(1, instances.max() + 1))
    for structure in (None, EIGHT):
        components, count = ndimage.label(instances > 0, structure)
        assert count == instances.max()
        pairs = np.unique(np.stack([components.ravel(), instances.ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(instances))


@pytest.mark.parametrize("ridge", [1, 2])
def test_touching_cells_are_parted_by_a_ridge_as_thin_as_asked(ridge):
    _, instances = draw_cells((256, 256), np.random.default_rng(3), ridge=ridge)
    # Widths of the background between two different cells, along rows, where narrow enough for a ridge.
    widths = []
    for row in instances:
        at = np.flatnonzero(row)
        width = np.diff(at) - 1
        widths += width[(width > 0) & (width < 5) & (row[at[:-1]] != row[at[1:]])].tolist()
    assert len(widths) > 300
    assert np.bincount(widths).argmax() == ridge  # wider where the ridge runs at a slant to the row


@pytest.mark.parametrize(("ridge", "expected"), [(1, [1, 1, 0, 2, 2, 2]), (2, [1, 1, 0, 0, 2, 2])])
def test_the_ridge_lies_on_the_seam_by_hand(ridge, expected):
    owner = np.array([[4, 4, 4, 7, 7, 7]] * 3, np.int32)
    np.testing.assert_array_equal(_separate(owner, ridge), [expected] * 3)


def test_only_the_largest_piece_of_a_cell_is_kept_by_hand():
    owner = np.array([[5, 0, 0, 5, 5]], np.int32)
    np.testing.assert_array_equal(_separate(owner, 1), [[0, 0, 0, 1, 1]])


def test_cells_that_meet_at_a_corner_are_parted_by_hand():
    owner = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]], np.int32)
    expected = [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 2, 2], [0, 0, 2, 2]]  # the lower number gives way
    np.testing.assert_array_equal(_separate(owner, 2), expected)


def test_a_threshold_sees_merged_cells():
    """The set is worth learning: thresholding the image, even at the best level, joins most touching cells.

    Measured on these seeds: 91 to 93% of the pixels right, 6 to 8 pieces where there are 81 or 82 cells.
    """
    for seed in range(3):
        image, instances = draw_cells((256, 256), np.random.default_rng(seed))
        smooth = ndimage.gaussian_filter(image, 1)
        right = {level: ((smooth > level) == (instances > 0)).mean() for level in np.linspace(0.3, 0.6, 13)}
        best = max(right, key=right.get)
        assert right[best] > 0.8  # most pixels are right, and yet:
        pieces, _ = ndimage.label(smooth > best)
        sizes = np.bincount(pieces.ravel())[1:]
        assert (sizes > 20).sum() < 0.5 * instances.max()


def test_cells_fill_the_image_as_told():
    def share(coverage):
        images = [draw_cells((200, 200), np.random.default_rng(s), coverage=coverage)[1] for s in range(4)]
        return (np.array(images) > 0).mean()

    assert 0.1 < share(0.2) < 0.25
    assert 0.4 < share(0.6) < 0.65


def test_the_same_generator_state_draws_the_same_image():
    first, second = (draw_cells((64, 48), np.random.default_rng(5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("options", [{"radius": (9, 5)}, {"radius": (0, 5)}, {"ridge": 3}, {"size": (0, 5)}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=r"draw_cells: needs a size of at least \(1, 1\).*got size \("):
        draw_cells(options.pop("size", (32, 32)), np.random.default_rng(0), **options)


def test_data_set():
    cells = Cells(3, (40, 56), seed=7)
    assert len(cells) == 3 and cells.num_classes == 2 and cells.class_names == ("background", "cell")
    sample = cells[1]
    assert sample.image.shape == (1, 40, 56) and sample.image.dtype == np.float32
    assert sample.label.shape == (40, 56) and sample.label.dtype == np.int64
    assert sample.instances.dtype == np.int32 and sample.weight is None
    assert sample.name == "cells-7-1"
    np.testing.assert_array_equal(sample.label, sample.instances > 0)
    image, instances = draw_cells((40, 56), np.random.default_rng([7, 1]))
    np.testing.assert_array_equal(sample.image[0], image)
    np.testing.assert_array_equal(sample.instances, instances)


def test_items_do_not_depend_on_the_order_of_access():
    forward = [sample.image for sample in Cells(3, 32, seed=1)]  # iteration ends by IndexError
    cells = Cells(3, 32, seed=1)
    backward = [cells[i].image for i in (-1, -2, -3)][::-1]
    assert len(forward) == 3
    np.testing.assert_array_equal(forward, backward)
    assert not np.array_equal(forward[0], forward[1])
    assert not np.array_equal(forward[0], Cells(3, 32, seed=2)[0].image)


def test_bad_data_set_arguments():
    with pytest.raises(IndexError, match="Cells: index 3 is out of range for 3 images"):
        Cells(3, 32)[3]
    with pytest.raises(ValueError, match="Cells: count and seed must not be negative, got 2 and -1"):
        Cells(2, 32, seed=-1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'; there are: radius, coverage, "):
        Cells(2, 32, color="red")
