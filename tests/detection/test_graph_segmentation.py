import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.detection.graph_segmentation import graph_segmentation, graph_segmentation_loop, sorted_edges
from tests.oracle import require


def same_parts(a, b):
    """Do two maps tell the same pixels apart, whatever the numbers?"""
    return len(np.unique(np.stack([a.ravel(), b.ravel()], 1), axis=0)) == a.max() + 1 == b.max() + 1


def random_image(seed, size=(12, 14), channels=3):
    """A few plain patches with noise."""
    rng = np.random.default_rng(seed)
    patches = rng.random((channels, 3, 3)).repeat(size[0] // 3, 1).repeat(size[1] // 3 + 1, 2)[:, :size[0], :size[1]]
    return (patches + rng.normal(0, 0.05, patches.shape)).clip(0, 1)


def test_edges_by_hand():
    image = np.array([[[0, 3], [4, 0]]]) / 255
    a, b, w = sorted_edges(image, sigma=0)
    # down-right 0-0: 0; the row above 0-3: 3, down-left 3-4: 1, the column 0-4: 4, and so on
    assert dict(zip(zip(a.tolist(), b.tolist(), strict=True), w.round(9).tolist(), strict=True)) == {
        (0, 1): 3, (2, 3): 4, (0, 2): 4, (1, 3): 3, (0, 3): 0, (1, 2): 1}
    assert (np.diff(w) >= 0).all()


def test_joining_by_hand():
    image = np.array([[[0, 4, 10, 30]]]) / 255  # edges 4, 6, 20
    # k = 5: 4 <= 0 + 5/1 joins the first two: Int 4, allowed 4 + 5/2 = 6.5. The edge 6 <= 6.5, but 6 > 5 of the third.
    assert graph_segmentation(image, 5, sigma=0, min_size=0).tolist() == [[0, 0, 1, 2]]
    # k = 6: 4 joins; 6 <= min(4 + 6/2, 6) joins the third: allowed 6 + 6/3 = 8 < 20
    assert graph_segmentation(image, 6, sigma=0, min_size=0).tolist() == [[0, 0, 0, 1]]
    # k = 5, but two pixels at least: the third joins the first two by its lighter edge; the fourth then joins, too
    assert graph_segmentation(image, 5, sigma=0, min_size=2).tolist() == [[0, 0, 0, 0]]
    assert graph_segmentation(image, 0, sigma=0, min_size=0).tolist() == [[0, 1, 2, 3]]


@given(st.integers(0, 10**6), st.sampled_from([0, 20, 100, 400]), st.sampled_from([None, 0, 6]))
@settings(max_examples=25, deadline=None)
def test_is_the_loop(seed, k, min_size):
    image = random_image(seed)
    np.testing.assert_array_equal(graph_segmentation(image, k, 0.5, min_size),
                                  graph_segmentation_loop(image, k, 0.5, min_size))


@pytest.mark.parametrize("k", [100, 300])
def test_noise_is_the_loops(k):
    """Many regions are joined while a chunk of edges is visited, and may join more then."""
    image = np.random.default_rng(k).random((3, 40, 50))
    ours = graph_segmentation(image, k, 0.8, 0)
    np.testing.assert_array_equal(ours, graph_segmentation_loop(image, k, 0.8, 0))
    assert ours.max() > 10


@pytest.mark.parametrize("size, k", [((30, 36), 80), ((96, 120), 50), ((96, 120), 200), ((240, 320), 100)])
def test_is_scikit_image(size, k):
    felzenszwalb = require("skimage.segmentation").felzenszwalb
    image = random_image(k, size)
    ours = graph_segmentation(image, k, 0.8, 10)
    theirs = felzenszwalb(image.transpose(1, 2, 0), scale=k, sigma=0.8, min_size=10)
    assert ours.max() > 3 and same_parts(ours, theirs)


def test_plain_images_and_errors():
    assert graph_segmentation(np.zeros((3, 5, 4), np.float32)).max() == 0
    assert graph_segmentation(np.zeros((1, 1, 1), np.float32)).tolist() == [[0]]
    with pytest.raises(ValueError, match=r"graph_segmentation: needs an image \(C, H, W\) and k >= 0, got \(5, 4\)"):
        graph_segmentation(np.zeros((5, 4)))
