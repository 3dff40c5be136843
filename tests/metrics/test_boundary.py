import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from minicv.metrics import BoundaryFScore, near_boundary
from minicv.metrics.boundary import boundary, fill_void_strips

ROW = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])  # the boundary of 0 is pixel 3, that of 1 is pixel 4


def score(prediction, target, num_classes=2, **options):
    measured = BoundaryFScore(num_classes, **options)
    measured.update(np.array(prediction), np.array(target))
    return measured


@pytest.mark.parametrize(("shift", "tolerance", "expected"), [
    (0, 0, 1), (1, 0, 0), (1, 1, 1), (2, 1, 0), (2, 2, 1), (-2, 2, 1), (3, 2, 0)])
def test_a_shifted_boundary_by_hand(shift, tolerance, expected):
    measured = score([[0] * (4 + shift) + [1] * (4 - shift)], ROW, tolerance=tolerance)
    assert measured.per_class.tolist() == [expected, expected] and measured.mean == expected


def test_precision_and_recall_by_hand():
    # Truth: 0 | 1 | 0 with boundaries of 0 at pixels 1 and 4, of 1 at 2 and 3. The prediction finds the left one only,
    # and one more: 0 0 1 1 1 1 2 2: 0 at 1, 1 at 2 and 5, 2 at 6.
    # Tolerance 0. Class 0: P = 1/1, R = 1/2, F = 2/3. Class 1: B_p = {2, 5}, B_t = {2, 3}: P = R = 1/2, F = 1/2.
    # Class 2: predicted only, 0. Mean: (2/3 + 1/2 + 0) / 3 = 7/18. Class 3 is nowhere: left out.
    measured = score([[0, 0, 1, 1, 1, 1, 2, 2]], [[0, 0, 1, 1, 0, 0, 0, 0]], 4, tolerance=0)
    np.testing.assert_allclose(measured.per_class, [2 / 3, 1 / 2, 0, np.nan])
    assert measured.mean == pytest.approx(7 / 18)
    # Tolerance 1. Class 1: 5 has no 1 of the truth within 1, but 3 has 2: P = 1/2, R = 1, F = 2/3.
    measured = score([[0, 0, 1, 1, 1, 1, 2, 2]], [[0, 0, 1, 1, 0, 0, 0, 0]], 4, tolerance=1)
    np.testing.assert_allclose(measured.per_class, [2 / 3, 2 / 3, 0, np.nan])


def test_the_tolerance_is_a_distance():
    # One pixel of class 1, moved by (1, 1): sqrt(2) away.
    target, prediction = np.zeros((2, 5, 5), int)
    target[2, 2] = prediction[3, 3] = 1
    assert score(prediction, target, tolerance=1).per_class[1] == 0
    assert score(prediction, target, tolerance=1.42).per_class[1] == 1


def test_the_papers_tolerance():
    # 0.75% of the diagonal of 240 x 320 is 3 pixels; of 30 x 40 it would be 0.375, so 1 is taken.
    for shape, tolerance in (((240, 320), 3), ((30, 40), 1)):
        target = np.zeros(shape, int)
        target[:, 20:] = 1
        for shift in (tolerance, tolerance + 1):
            prediction = np.zeros(shape, int)
            prediction[:, 20 + shift:] = 1
            assert score(prediction, target).mean == (shift == tolerance)


def test_the_mean_over_images_is_of_those_where_the_class_shows():
    # Image 1: perfect, classes 0 and 1. Image 2: only 0 and 2, perfect for 0 by half.
    measured = BoundaryFScore(3, tolerance=0)
    measured.update(ROW, ROW)
    measured.update(np.array([[0, 0, 2, 2, 2, 2]]), np.array([[0, 0, 2, 2, 0, 0]]))
    # Class 0: B_p {1}, B_t {1, 4}: F = 2/3; over the images (1 + 2/3) / 2. Class 2: B_p {2}, B_t {2, 3}: F = 2/3.
    np.testing.assert_allclose(measured.per_class, [5 / 6, 1, 2 / 3])
    assert measured.images.tolist() == [2, 1, 1]


def test_void_strips_and_deep_void_by_hand():
    # A strip of 2: each pixel takes the class beside it, and the boundary runs between them, at 3 | 4.
    strip = np.array([[0, 0, 0, 255, 255, 1, 1, 1]])
    np.testing.assert_array_equal(fill_void_strips(strip), [[0, 0, 0, 0, 1, 1, 1, 1]])
    assert score([[0, 0, 0, 0, 1, 1, 1, 1]], strip, tolerance=0).mean == 1
    assert score([[0, 0, 0, 1, 1, 1, 1, 1]], strip, tolerance=0).mean == 0
    # Deep void, 8 wide: with strip = 1, six of them belong to nothing. What is predicted in there does not count, and
    # there is no boundary at its edge.
    deep = np.array([[0, 1, 1] + [255] * 8 + [0]])
    np.testing.assert_array_equal(fill_void_strips(deep, strip=1), [[0, 1, 1, 1] + [-1] * 6 + [0, 0]])
    prediction = np.array([[0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0]])
    assert score(prediction, deep, tolerance=0, strip=1).mean == 1
    assert np.isnan(score(ROW, np.full_like(ROW, 255)).mean)
    np.testing.assert_array_equal(fill_void_strips(ROW, None), ROW)


def test_a_prediction_of_void_where_the_truth_is_void_is_allowed():
    target = np.array([[0, 0, 1, 255] + [255] * 8])
    assert score(np.where(target == 255, 255, target).astype(np.uint8), target.astype(np.uint8)).mean == 1


MAPS = hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 2))


@settings(deadline=None)
@given(MAPS, MAPS, st.sampled_from([0, 1, 1.5, 2, 3.7]))
def test_against_distances(prediction, target, tolerance):
    """The definition, by the distance to the nearest boundary pixel of the class."""
    expected = np.full(3, np.nan)
    for c in range(3):
        B_p, B_t = boundary(prediction.astype(int)) & (prediction == c), boundary(target.astype(int)) & (target == c)
        if B_p.any() or B_t.any():
            expected[c] = 0
        if B_p.any() and B_t.any():
            P = (ndimage.distance_transform_edt(~B_t)[B_p] <= tolerance).mean()
            R = (ndimage.distance_transform_edt(~B_p)[B_t] <= tolerance).mean()
            expected[c] = 2 * P * R / (P + R) if P + R else 0
    if np.isfinite(expected).any():
        np.testing.assert_allclose(score(prediction, target, 3, tolerance=tolerance).per_class, expected)


def test_batches():
    maps = np.random.default_rng(0).integers(0, 3, (2, 4, 9, 9))
    batch, single = score(*maps, 3), BoundaryFScore(3)
    for prediction, target in zip(*maps, strict=True):
        single.update(prediction, target)
    np.testing.assert_array_equal(batch.sums, single.sums)
    np.testing.assert_array_equal(batch.images, single.images)


def test_errors_and_nothing_is_counted():
    with pytest.raises(ValueError, match="BoundaryFScore: needs at least one class, and a tolerance and strip of at "
                                         "least 0, got 2, -1 and 3"):
        BoundaryFScore(2, -1)
    measured = BoundaryFScore(2)
    for prediction, target, message in [
            (ROW + 1, ROW, "prediction holds labels from 1 to 2, outside the classes 0 to 1"),
            (ROW - 1, ROW, "prediction holds labels from -1 to 0"), (ROW, ROW + 3, "target holds labels from 3 to 4"),
            (ROW, ROW[:, 1:], r"same shape, got \(1, 8\) and \(1, 7\)"),
            (ROW[0], ROW[0], r"must be \(H, W\) or \(N, H, W\), got \(8,\)"),
            (np.stack([ROW, ROW]), np.stack([ROW, ROW + 3]), "target holds labels from 3 to 4")]:
        with pytest.raises(ValueError, match=message):
            measured.update(prediction, target)
    assert not measured.images.any()
    assert np.isnan(measured.per_class).all()


def test_near_boundary_by_hand():
    assert near_boundary(ROW, 1).astype(int).tolist() == [[0, 0, 0, 1, 1, 0, 0, 0]]
    assert near_boundary(ROW, 2.5).astype(int).tolist() == [[0, 1, 1, 1, 1, 1, 1, 0]]
    assert not near_boundary(np.zeros((3, 3), int), 9).any()
    strip = np.array([[0, 0, 0, 255, 255, 1, 1, 1]])  # the band lies around the middle of the strip
    assert near_boundary(strip, 2).astype(int).tolist() == [[0, 0, 1, 1, 1, 1, 0, 0]]
    with pytest.raises(ValueError, match=r"near_boundary: needs .* got \(8,\), 1"):
        near_boundary(ROW[0], 1)
