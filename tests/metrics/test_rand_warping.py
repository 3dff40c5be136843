import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minicv.metrics import (
    best_threshold,
    connected_components,
    pixel_error,
    rand_error,
    rand_f_score,
    rand_f_score_at,
    rand_score,
    warp,
    warping_error,
)
from minicv.metrics.rand_warping import SIMPLE
from tests.oracle import require


def draw(image):
    """A mask from text: o is a cell, . is membrane."""
    return np.array([[c == "o" for c in row] for row in image.split()])


# ---------------------------------------------------------------------------------------- M4

# Two cells of 15 pixels, a membrane of 5 between them: 35 pixels, 30 of them foreground.
TRUTH = draw("ooo.ooo ooo.ooo ooo.ooo ooo.ooo ooo.ooo")
GAP = draw("ooo.ooo ooo.ooo ooooooo ooo.ooo ooo.ooo")  # one pixel of the membrane is missing
SPECKS = draw("ooo.ooo o.o.ooo ooo.ooo o.o.ooo ooo.ooo")  # two pixels inside a cell are called membrane
SHIFT = draw("oo.oooo oo.oooo oo.oooo oo.oooo oo.oooo")  # the membrane lies one pixel to the left


def all_three(prediction):
    rand = rand_error(connected_components(prediction), connected_components(TRUTH))
    return pixel_error(prediction, TRUTH), rand, warping_error(prediction, TRUTH)


def test_claim_M4_each_of_the_three_measures_prefers_another_answer():
    # Pixels: wrong are 1, 2 and 5 + 5 of 35.
    # Rand, over the 30 pixels of the two cells; n pixels make n (n - 1) pairs. Truth: 2 * 15 * 14 = 420.
    #   GAP     prediction: one segment of 30: 30 * 29 = 870. Both: 420.
    #           F = 2 * 420 / (420 + 870) = 28 / 43, error 15/43 = 0.35
    #   SPECKS  13, specks 2, 15: 13 * 12 + 2 * 1 + 15 * 14 = 368. Each lies in one cell, so both: 368.
    #           F = 2 * 368 / (420 + 368) = 184 / 197, error 13/197 = 0.07
    #   SHIFT   10, membrane 5, 15: 10 * 9 + 5 * 4 + 15 * 14 = 320. Each lies in one cell, so both: 320.
    #           F = 2 * 320 / (420 + 320) = 32 / 37, error 5/37 = 0.14
    # Warping: opening the gap merges two cells, a speck is a hole in a cell, SHIFT's membrane moves over.
    assert all_three(GAP) == pytest.approx((1 / 35, 15 / 43, 1 / 35))
    assert all_three(SPECKS) == pytest.approx((2 / 35, 13 / 197, 2 / 35))
    assert all_three(SHIFT) == pytest.approx((10 / 35, 5 / 37, 0))

    pixel, rand, warping = zip(all_three(GAP), all_three(SPECKS), all_three(SHIFT), strict=True)
    assert (np.argmin(pixel), np.argmin(rand), np.argmin(warping)) == (0, 1, 2)  # GAP, SPECKS, SHIFT


# ------------------------------------------------------------------------------- pixel error

def test_pixel_error_by_hand():
    probability = np.array([[0.9, 0.4], [0.5, 0.1]])  # above 0.5: only the first; 0.5 itself is not above
    truth = np.array([[255, 255], [255, 0]], np.uint8)  # as the files of ISBI 2012
    assert pixel_error(probability, truth) == 2 / 4
    assert pixel_error(probability, truth, threshold=0.3) == 0
    assert pixel_error(truth > 0, truth) == 0
    assert pixel_error(truth == 0, truth) == 1


def test_pixel_error_refuses_what_it_cannot_score():
    mask = np.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"pixel_error: probability and truth .* \(2, 3\) and \(2, 2\)"):
        pixel_error(np.ones((2, 3)), mask)
    with pytest.raises(ValueError, match=r"pixel_error: probability must lie in \[0, 1\], .* 0 to 255"):
        pixel_error(np.array([[0, 255], [255, 0]]), mask)
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got values from -0.5 to 0.5"):
        pixel_error(mask - 0.5 * np.array([[1, 3], [1, 1]]), mask)
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\], got values from nan to nan"):
        pixel_error(np.array([[0.5, np.nan], [0.5, 0.5]]), mask)
    with pytest.raises(TypeError, match="pixel_error: probability must hold probabilities, got complex128"):
        pixel_error(mask * 1j, mask)
    with pytest.raises(TypeError, match="pixel_error: truth must be a boolean or integer mask, got float64"):
        pixel_error(mask, mask * 0.3)


# -------------------------------------------------------------------------------------- Rand

def test_rand_precision_falls_for_mergers_and_recall_for_splits():
    # One cell of 4 pixels in two halves: 2 * 2 of 4 * 3 pairs are found, and no wrong one.
    whole, halves = np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2])
    split = rand_score(halves, whole)
    assert (split.precision, split.recall) == (1, pytest.approx(1 / 3))
    assert split.f_score == pytest.approx(1 / 2)  # 2 * 4 / (4 + 12)
    # The other way round: all 4 pairs are found, among 12.
    merge = rand_score(whole, halves)
    assert (merge.precision, merge.recall) == (pytest.approx(1 / 3), 1)


def test_rand_leaves_out_the_membranes_of_the_truth_and_ignores_what_labels_are_called():
    truth = np.array([[7, 7, 0, -2, -2]])
    assert rand_score(np.array([[2**40, 2**40, 3, 0, 0]]), truth) == (1, 1, 1)
    assert rand_error(np.array([[5, 5, 5, 9, 9]]), truth) == 0
    # Membrane in the prediction is one segment: both cells called membrane counts as merged.
    assert rand_f_score(np.array([[0, 0, 1, 0, 0]]), truth) == pytest.approx(1 / 2)  # 2 * 4 / (4 + 12)


def test_rand_without_pairs_is_no_mistake():
    # Cells of one pixel have no pair: nothing to find in the truth, nothing to get wrong in the prediction.
    assert rand_score(np.array([1, 2, 3]), np.array([4, 5, 6])) == (1, 1, 1)
    assert rand_score(np.array([1, 1]), np.array([1, 2])) == (0, 0, 1)  # the only pair found is wrong
    assert rand_score(np.array([1, 2]), np.array([1, 1])) == (0, 1, 0)  # the only pair is not found


def test_rand_refuses_what_it_cannot_score():
    labels = np.ones((2, 2), int)
    with pytest.raises(ValueError, match=r"prediction_labels and truth_labels .* \(2, 2\) and \(4,\)"):
        rand_error(labels, np.ones(4, int))
    assert np.isnan(rand_f_score(labels, np.zeros((2, 2), int)))  # there is no cell to score
    with pytest.raises(TypeError, match="prediction_labels must hold integer labels, got float64"):
        rand_score(labels / 2, labels)
    with pytest.raises(ValueError, match=r"rand_score: prediction_labels is empty \(shape \(0,\)\)"):
        rand_score(np.zeros(0, int), np.zeros(0, int))


LABELS = hnp.arrays(np.int64, (5, 4), elements=st.integers(0, 4))


@given(LABELS, LABELS)
def test_rand_equals_scikit_image(prediction, truth):
    metrics = require("skimage.metrics")
    cells = truth[truth != 0]
    # Where a side has no pair at all, scikit-image divides 0 by 0; the test above covers those.
    assume(np.bincount(cells, minlength=1).max() > 1 and np.bincount(prediction[truth != 0]).max() > 1)
    error, *ratios = metrics.adapted_rand_error(truth, prediction)
    assert rand_error(prediction, truth) == pytest.approx(error, abs=1e-12)
    ours = rand_score(prediction, truth)  # scikit-image's code has the two the other way round than it documents
    assert [ours.recall, ours.precision] == pytest.approx(ratios, abs=1e-12)


def test_scikit_image_swaps_precision_and_recall():
    """One cell cut into two: all pairs that are joined are right, and a third of the truth's is joined."""
    metrics = require("skimage.metrics")
    split, whole = np.array([1, 1, 2, 2]), np.array([1, 1, 1, 1])
    _, precision, recall = metrics.adapted_rand_error(whole, split)
    ours = rand_score(split, whole)
    assert (ours.precision, ours.recall) == (1, pytest.approx(1 / 3))
    assert (precision, recall) == (pytest.approx(1 / 3), 1)


@given(LABELS, LABELS)
def test_rand_equals_its_definition_over_all_pairs(prediction, truth):
    assume((truth != 0).any())
    p, t = prediction[truth != 0], truth[truth != 0]
    two = ~np.eye(len(p), dtype=bool)  # all pairs of two different pixels
    in_prediction, in_truth = (p[:, None] == p) & two, (t[:, None] == t) & two
    both = np.sum(in_prediction & in_truth)
    score = rand_score(prediction, truth)
    assert score.precision == (both / in_prediction.sum() if in_prediction.any() else 1)
    assert score.recall == (both / in_truth.sum() if in_truth.any() else 1)
    if both:
        assert score.f_score == pytest.approx(2 / (1 / score.precision + 1 / score.recall))


# --------------------------------------------------------------- from a probability to cells

def test_cells_that_touch_at_a_corner_are_two():
    labels = connected_components(draw("oo. oo. ..o"))
    assert labels.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 2]]
    # So a diagonal membrane one pixel wide separates: 3 + 3 pixels of a 3 x 3 image.
    assert connected_components(~np.eye(3, dtype=bool)).max() == 2


def test_rand_f_score_at_labels_both_sides():
    probability = np.where(TRUTH, 0.8, 0.2)
    probability[2, 3] = 0.6  # a hole in the membrane, unless the threshold is above 0.6
    assert rand_f_score_at(probability, TRUTH, 0.5) == pytest.approx(28 / 43)  # GAP of claim M4
    assert rand_f_score_at(probability, TRUTH, 0.7) == 1


def test_best_threshold_is_the_best_of_the_mean_and_the_lowest_of_equals():
    # The first image is right from 0.6 to below 0.8 and merged (28/43) below. In the second the cells hold
    # only 0.65: right from 0.2 to below 0.65, above that all is membrane, which merges them too.
    first = np.where(TRUTH, 0.8, 0.2)
    first[2, 3] = 0.6
    second = np.where(TRUTH, 0.65, 0.2)
    assert best_threshold([first], [TRUTH], smooth=0) == 0.6
    assert best_threshold([second], [TRUTH], smooth=0) == 0.2
    assert best_threshold([first, second], [TRUTH, TRUTH], smooth=0) == 0.6
    assert best_threshold([first, second], [TRUTH, TRUTH], thresholds=(0.7, 0.5), smooth=0) == 0.5  # equal means


def test_best_threshold_is_not_taken_in_by_a_lonely_peak(monkeypatch):
    """The scores by hand: 0.9 stands alone; around 0.5 all are good."""
    scores = {0.1: 0.2, 0.2: 0.9, 0.3: 0.2, 0.4: 0.7, 0.5: 0.8, 0.6: 0.7, 0.7: 0.1}
    monkeypatch.setattr("minicv.metrics.rand_warping.rand_f_score_at", lambda p, t, threshold: scores[threshold])
    assert best_threshold([None], [None], scores, smooth=0) == 0.2
    assert best_threshold([None], [None], scores, smooth=1) == 0.5  # 2.2 / 3 against 1.3 / 3
    assert best_threshold([None], [None], (0.2, 0.5), smooth=5) == 0.2  # all averaged: equal, so the lowest


def test_errors_of_the_threshold_functions():
    probability = np.where(TRUTH, 0.8, 0.2)
    with pytest.raises(ValueError, match="best_threshold: probabilities and truths must .* got 1 and 2"):
        best_threshold([probability], [TRUTH, TRUTH])
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        best_threshold([], [])
    with pytest.raises(ValueError, match="best_threshold: thresholds is empty"):
        best_threshold([probability], [TRUTH], thresholds=())
    with pytest.raises(ValueError, match=r"_at: probability and truth_mask .* \(5, 7\) and \(7, 5\)"):
        rand_f_score_at(probability, TRUTH.T, 0.5)
    with pytest.raises(ValueError, match=r"_at: probability must be one image .* \(1, 5, 7\); call it"):
        rand_f_score_at(probability[None], TRUTH[None], 0.5)
    with pytest.raises(ValueError, match=r"connected_components: mask must be one image of shape \(H, W\)"):
        connected_components(np.ones(3, bool))
    assert np.isnan(rand_f_score_at(probability, TRUTH & False, 0.5))


# ----------------------------------------------------------------------------------- warping

AROUND = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]  # the order of SIMPLE's bits
SIDES = AROUND[::2]


def flood_fill(pixels, adjacency):
    """Connected components of a set of (y, x), as a list of sets."""
    pixels, components = set(pixels), []
    while pixels:
        component, frontier = set(), [pixels.pop()]
        while frontier:
            y, x = frontier.pop()
            component.add((y, x))
            reached = {(y + dy, x + dx) for dy, dx in adjacency} & pixels
            pixels -= reached
            frontier += reached
        components.append(component)
    return components


def test_simple_point_table_by_flood_fill_of_all_256_neighborhoods():
    # Without the table's formula: a point is simple if, among its neighbors, exactly one component of cells
    # (4-connected) and exactly one of membrane (8-connected) touch it. Flipping then joins or parts nothing.
    for neighborhood in range(256):
        cells = [p for k, p in enumerate(AROUND) if neighborhood >> k & 1]
        membrane = [p for p in AROUND if p not in cells]
        touching_cells = [c for c in flood_fill(cells, SIDES) if c & set(SIDES)]
        simple = len(touching_cells) == 1 and len(flood_fill(membrane, AROUND)) == 1
        assert SIMPLE[neighborhood] == simple, (neighborhood, cells)

        # And by counting cells and membranes with the point as membrane and as cell.
        without = np.zeros((3, 3), bool)
        for y, x in cells:
            without[1 + y, 1 + x] = True
        with_it = without.copy()
        with_it[1, 1] = True
        assert SIMPLE[neighborhood] == (topology(without) == topology(with_it)), (neighborhood, cells)


def topology(mask):
    """Number of 4-connected cells, number of 8-connected membranes; outside the image is membrane."""
    return ndimage.label(mask)[1], ndimage.label(np.pad(~mask, 1, constant_values=True), np.ones((3, 3)))[1]


def test_warping_error_by_hand():
    # A cell of 3 x 3 predicted as 5 x 5: boundaries move. As 5 x 5 with a hole in its center: a hole cannot
    # appear (1 of 25). As nothing: the cell shrinks to one pixel, which cannot vanish (1 of 25).
    small = draw("..... .ooo. .ooo. .ooo. .....")
    large = np.ones((5, 5), bool)
    hole = large.copy()
    hole[2, 2] = False
    assert pixel_error(large, small) == 16 / 25
    assert warping_error(large, small) == 0
    assert warping_error(hole, small) == 1 / 25
    assert warping_error(hole & False, small) == 1 / 25
    assert warp(small, hole & False).sum() == 1


def test_warping_error_of_a_membrane_that_is_too_thick_missing_or_one_too_many():
    thick = draw("oo...oo oo...oo oo...oo oo...oo oo...oo")
    assert pixel_error(thick, TRUTH) == 10 / 35
    assert warping_error(thick, TRUTH) == 0
    # Missing: its 5 pixels are the thinnest membrane there can be, none may flip.
    assert warping_error(np.ones_like(TRUTH), TRUTH) == 5 / 35
    # One too many would cut a cell in two: it grows in from the border, but stops one pixel short.
    two = draw("o.o.ooo o.o.ooo o.o.ooo o.o.ooo o.o.ooo")
    assert warping_error(two, TRUTH) == 1 / 35


def test_warping_is_from_the_truth_to_the_prediction():
    # From GAP to TRUTH: closing the gap would split the one cell, so it stays, as the other way round.
    assert warping_error(TRUTH, GAP) == 1 / 35
    # A cell too much cannot appear, whatever its size: 9 pixels. A cell too few shrinks to one pixel.
    empty, cell = np.zeros((5, 5), bool), draw("..... .ooo. .ooo. .ooo. .....")
    assert warping_error(cell, empty) == 9 / 25
    assert warping_error(empty, cell) == 1 / 25


def test_all_cell_and_all_membrane():
    full, empty = np.ones((4, 6), bool), np.zeros((4, 6), bool)
    assert warping_error(full, full) == warping_error(empty, empty) == 0
    assert warping_error(full, empty) == 1  # no boundary to start from
    assert warping_error(empty, full) == 1 / 24


MASKS = hnp.arrays(bool, (6, 7))


@given(MASKS, MASKS)
def test_warping_keeps_the_topology_and_stops_only_when_no_simple_point_is_wrong(truth, prediction):
    before = truth.copy()
    warped = warp(truth, prediction)
    assert (truth == before).all()
    assert topology(warped) == topology(truth)
    assert (warped == truth)[truth == prediction].all()  # what was right stays
    padded = np.pad(warped, 1)
    for y, x in np.argwhere(warped != prediction):
        neighborhood = sum(int(padded[y + 1 + dy, x + 1 + dx]) << k for k, (dy, dx) in enumerate(AROUND))
        assert not SIMPLE[neighborhood]
    assert warping_error(prediction, truth) <= pixel_error(prediction, truth)


def test_warping_takes_masks_in_any_memory_order_and_as_integers():
    prediction = np.asfortranarray(SHIFT.astype(np.uint8) * 255)
    assert warping_error(prediction, np.asfortranarray(TRUTH)) == 0
    assert warping_error(prediction[::-1, ::-1], TRUTH[::-1, ::-1]) == 0


def test_warping_refuses_what_it_cannot_score():
    with pytest.raises(TypeError, match="warping_error: prediction must be .* float64; .* prediction > 0.5"):
        warping_error(TRUTH * 0.9, TRUTH)
    with pytest.raises(ValueError, match=r"warping_error: prediction and truth .* got \(7, 5\) and \(5, 7\)"):
        warping_error(TRUTH.T, TRUTH)
    with pytest.raises(ValueError, match=r"warp: truth must be one image of shape \(H, W\), got \(1, 5, 7\)"):
        warping_error(TRUTH[None], TRUTH[None])
    with pytest.raises(ValueError, match=r"warping_error: prediction is empty \(shape \(0, 3\)\)"):
        warping_error(np.zeros((0, 3), bool), np.zeros((0, 3), bool))
