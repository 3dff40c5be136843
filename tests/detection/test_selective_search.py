import numpy as np
import pytest

from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.detection import inside_image
from minicv.detection.selective_search import (
    MODES,
    color_histograms,
    group_regions,
    neighbor_pairs,
    rank_boxes,
    region_boxes,
    selective_search,
    sliding_windows,
    texture_histograms,
)
from minicv.metrics import ProposalRecall

regions = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 3]])


def test_regions_by_hand():
    assert neighbor_pairs(regions).tolist() == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3]]  # 0 and 3 are apart
    assert neighbor_pairs(np.array([[0, 1], [2, 0]])).tolist() == [[0, 1], [0, 2], [1, 2]]  # a corner is enough
    assert region_boxes(regions).tolist() == [[0, 0, 2, 2], [2, 0, 4, 2], [0, 2, 3, 3], [3, 2, 4, 3]]


def test_histograms_by_hand():
    image = np.where(regions == 0, 0.0, 1.0)[None].astype(np.float32)
    image[0, 0, 0] = 0.05  # in the second of 25 bins, from 0.04 to 0.08
    color = color_histograms(image, regions)
    assert color.shape == (4, 25)
    np.testing.assert_allclose(color[0, :3], [3 / 4, 1 / 4, 0])
    np.testing.assert_allclose(color[1:, 24], 1)  # 1.0 belongs to the last bin
    texture = texture_histograms(np.random.default_rng(0).random((3, 3, 4)).astype(np.float32), regions)
    assert texture.shape == (4, 3 * 8 * 10)
    np.testing.assert_allclose(texture.sum(axis=1), 1, rtol=1e-6)
    plain = texture_histograms(np.ones((1, 3, 4), np.float32), regions)
    np.testing.assert_allclose(plain.reshape(4, 8, 10)[:, :, 0], 1 / 8, rtol=1e-6)  # no rise in any direction


def test_a_rise_to_the_right_is_in_one_direction():
    ramp = np.tile(np.arange(40, dtype=np.float32) / 40, (1, 8, 1))
    texture = texture_histograms(ramp, np.zeros((8, 40), int)).reshape(8, 10)  # directions 0, 180, 45, 225, ...
    assert texture[0, 9] > 0.85 / 8 and texture[1, 0] > 0.85 / 8  # right: the largest but at both ends; left: none
    assert texture[4, 0] > 0.85 / 8 and texture[5, 0] > 0.85 / 8  # down and up: none


def test_grouping_by_hand():
    color = np.array([[1, 0], [0.75, 0.25], [0, 1], [0, 1]])
    hierarchy = group_regions(regions, color, color, "C")
    # intersections: 0-1: 0.75, 0-2: 0, 1-2: 0.25, 1-3: 0.25, 2-3: 1 -> 2, 3 become 4; then 0, 1 (0.75) become 5,
    # with (4 [1, 0] + 4 [.75, .25]) / 8 = [.875, .125]; its intersection with 4, [0, 1]: 0.125
    assert hierarchy.merges.tolist() == [[2, 3], [0, 1], [4, 5]]
    np.testing.assert_allclose(hierarchy.similarity, [1, 0.75, 0.125])
    assert hierarchy.sizes.tolist() == [4, 4, 3, 1, 4, 8, 12]
    assert hierarchy.boxes[4:].tolist() == [[0, 2, 4, 3], [0, 0, 4, 2], [0, 0, 4, 3]]


def test_size_and_fill_by_hand():
    same = np.ones((4, 1))
    # of 12 pixels. Size: 0-1: 1 - 8/12; 0-2, 1-2: 1 - 7/12; 1-3: 1 - 5/12; 2-3: 1 - 4/12, the highest
    size = group_regions(regions, same, same, "S")
    assert size.merges[0].tolist() == [2, 3] and size.similarity[0] == pytest.approx(8 / 12)
    # fill: 0-1: 1 - (8 - 8)/12 = 1; 0-2: 1 - (9 - 7)/12; 1-2: 1 - (12 - 7)/12; 1-3: 1 - (6 - 5)/12; 2-3: 1
    fill = group_regions(regions, same, same, "F")
    assert fill.merges[0].tolist() == [0, 1] and fill.similarity[0] == 1
    every = group_regions(regions, same, same, "CTSF")
    assert every.merges[0].tolist() == [2, 3] and every.similarity[0] == pytest.approx(1 + 1 + 8 / 12 + 1)


def grouping_loop(regions, color, texture):
    """The paper's algorithm 1 in plain words: look at all pairs, join the best, forget its neighbors' values."""
    n, im = len(color), regions.size
    pixels = {i: {tuple(p) for p in np.argwhere(regions == i)} for i in range(n)}
    looks = {i: (color[i], texture[i]) for i in range(n)}

    def touch(i, j):
        return any((y + a, x + b) in pixels[j] for y, x in pixels[i] for a in (-1, 0, 1) for b in (-1, 0, 1))

    def value(i, j):
        y, x = np.array(sorted(pixels[i] | pixels[j])).T
        BB = (np.ptp(y) + 1) * (np.ptp(x) + 1)
        joint = len(pixels[i]) + len(pixels[j])
        alike = sum(np.minimum(a, b).sum() for a, b in zip(looks[i], looks[j], strict=True))
        return alike + 1 - joint / im + 1 - (BB - joint) / im
    steps = []
    for new in range(n, 2 * n - 1):
        pairs = [(i, j) for i in pixels for j in pixels if i < j and touch(i, j)]
        i, j = max(pairs, key=lambda p: value(*p))
        steps.append([i, j])
        w = len(pixels[i]), len(pixels[j])
        looks[new] = tuple((w[0] * a + w[1] * b) / sum(w) for a, b in zip(looks[i], looks[j], strict=True))
        pixels[new] = pixels.pop(i) | pixels.pop(j)
    return steps


@pytest.mark.parametrize("seed", range(4))
def test_grouping_is_the_loop(seed):
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 9, (5, 6))
    numbers = np.unique(blocks, return_inverse=True)[1].reshape(5, 6)  # regions may be of several pieces here
    n = numbers.max() + 1
    color, texture = (v / v.sum(axis=1, keepdims=True) for v in rng.random((2, n, 7)))
    assert group_regions(numbers, color, texture).merges.tolist() == grouping_loop(numbers, color, texture)


def test_rank_by_hand():
    class Numbers:  # instead of random ones
        def random(self, n):
            return np.array([0.9, 0.1, 0.5, 0.2, 0.9])[:n]
    a, b, c = np.eye(3, 4, dtype=np.float32)
    # of three boxes made in this order i = 3, 2, 1, of two 2, 1. Times the numbers: 2.7, 0.2, 0.5, 0.4, 0.9
    ranked = rank_boxes([np.array([a, b, c]), np.array([a, c])], Numbers())
    assert ranked.tolist() == [b.tolist(), a.tolist(), c.tolist()]  # b 0.2, a 0.4 (of the second), c 0.5; once each


def test_search_of_a_scene():
    sample = ShapeBoxes(1, 64, seed=1, objects=(3, 3))[0]
    boxes = selective_search(sample.image, "single", min_size=20)
    assert boxes.dtype == np.float32 and boxes.shape[1] == 4 and inside_image(boxes, (64, 64)).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    np.testing.assert_array_equal(selective_search(sample.image, "single", min_size=20, max_boxes=5), boxes[:5])
    larger = selective_search(sample.image, "single", min_size=20, min_side=10)
    assert 0 < len(larger) < len(boxes) and (larger[:, 2:] - larger[:, :2]).min() >= 10
    assert selective_search(np.full((3, 9, 8), 0.5, np.float32)).tolist() == [[0, 0, 8, 9]]  # nothing to be seen
    with pytest.raises(ValueError, match="selective_search: unknown mode 'slow'; choose one of single, fast, quality"):
        selective_search(sample.image, "slow")
    with pytest.raises(ValueError, match="group_regions: similarity is made of the letters C, T, S and F, got 'CX'"):
        group_regions(regions, np.ones((4, 1)), np.ones((4, 1)), "CX")


def test_modes_are_the_papers():
    assert [len(spaces) * len(similar) * len(k) for spaces, similar, k in MODES.values()] == [1, 8, 80]


def test_recall_on_generated_scenes():
    recall = ProposalRecall(counts=(2000,))
    for sample in ShapeBoxes(4, 96, seed=5):
        recall.update(selective_search(sample.image), sample)
    assert recall.recall()[0] >= 0.9


def test_sliding_windows_by_hand():
    # 10 high, 20 wide; sides 8 (ratio 1): rows every 4 up to 2: 0, 2; columns 0, 4, 8, 12
    boxes = sliding_windows((10, 20), step=0.5, min_side=8, ratios=(1.0,))
    assert boxes[:4].tolist() == [[0, 0, 8, 8], [4, 0, 12, 8], [8, 0, 16, 8], [12, 0, 20, 8]] and len(boxes) == 8
    many = sliding_windows((100, 120))
    assert inside_image(many, (100, 120), 1e-3).all() and len(many) > len(sliding_windows((100, 120), 0.5))
    np.testing.assert_allclose(((many[:, 2:] - many[:, :2]).prod(axis=1)).min(), 256, rtol=1e-5)
    with pytest.raises(ValueError, match="sliding_windows: step and min_side must be positive, got 0 and 16"):
        sliding_windows((9, 9), 0)
