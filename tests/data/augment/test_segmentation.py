import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data import IGNORE, Sample
from minicv.data.augment.segmentation import SegmentationAugment, color_jitter, rotated, scaled_window
from tests.oracle import require

SIDE = st.integers(1, 12)


def random_sample(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return Sample(rng.random((channels, height, width), np.float32), rng.integers(0, 5, (height, width)),
                  rng.integers(0, 9, (height, width)).astype(np.int32), "made", rng.random((height, width), np.float32))


def test_a_window_of_the_image_itself_by_hand():
    sample = random_sample(4, 5)
    window = scaled_window(sample, (4, 5), (1, 2), (2, 3))
    for name in ("image", "label", "instances", "weight"):
        np.testing.assert_array_equal(getattr(window, name), getattr(sample, name)[..., 1:3, 2:5])
    mirrored = scaled_window(sample, (4, 5), (1, 2), (2, 3), mirrored=True)
    for name in ("image", "label", "instances", "weight"):
        np.testing.assert_array_equal(getattr(mirrored, name), getattr(window, name)[..., ::-1])


def test_twice_as_large_by_hand():
    # Positions in the row of two: (p + 0.5) / 2 - 0.5 = -0.25 (clamped to 0), 0.25, 0.75, 1.25 (clamped to 1).
    sample = Sample(np.array([[[0.0, 1.0]]], np.float32), np.array([[3, 4]]), None, "")
    window = scaled_window(sample, (2, 4), (0, 0), (2, 4))
    np.testing.assert_array_equal(window.image, [[[0, 0.25, 0.75, 1]] * 2])
    np.testing.assert_array_equal(window.label, [[3, 3, 4, 4]] * 2)
    assert window.instances is None and window.weight is None


def test_beyond_the_image_by_hand():
    # One row of two pixels in a window of 2 x 4 that starts one above and one to the left of it.
    sample = Sample(np.array([[[0.0, 1.0]]], np.float32), np.array([[3, 4]]), np.array([[7, 8]]), "",
                    np.array([[2.0, 2.0]]))
    window = scaled_window(sample, (1, 2), (-1, -1), (2, 4))
    np.testing.assert_array_equal(window.image, [[[0.5] * 4, [0.5, 0, 1, 0.5]]])  # the mean is 1/2
    np.testing.assert_array_equal(window.label, [[IGNORE] * 4, [IGNORE, 3, 4, IGNORE]])
    np.testing.assert_array_equal(window.instances, [[0] * 4, [0, 7, 8, 0]])
    np.testing.assert_array_equal(window.weight, [[0] * 4, [0, 2, 2, 0]])
    mirrored = scaled_window(sample, (1, 2), (-1, -2), (2, 4), mirrored=True)
    np.testing.assert_array_equal(mirrored.label, [[IGNORE] * 4, [4, 3, IGNORE, IGNORE]])


def test_context_around_a_window_is_mirrored_by_hand():
    # The row 0 1 2 mirrored: ... 2 1 | 0 1 2 | 1 0 ...; the window's labels are those of pixels -1, 0, 1
    sample = Sample(np.array([[[0.0, 0.1, 0.2]]], np.float32), np.array([[3, 4, 5]]), None, "")
    window = scaled_window(sample, (1, 3), (0, -1), (1, 3), margin=(1, 2))
    np.testing.assert_array_equal(window.label, [[IGNORE, 3, 4]])
    np.testing.assert_array_equal(window.image, np.float32([[[0.1, 0.2, 0.1, 0, 0.1, 0.2, 0.1]] * 3]))
    turned = scaled_window(sample, (1, 3), (0, -1), (1, 3), mirrored=True, margin=(1, 2))
    np.testing.assert_array_equal(turned.label, [[4, 3, IGNORE]])
    np.testing.assert_array_equal(turned.image, window.image[..., ::-1])



@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDE, SIDE), st.tuples(SIDE, SIDE), st.data())
def test_a_window_of_the_resized_image_is_pytorchs(shape, scaled, data):
    torch = require("torch")
    sample = random_sample(*shape)
    sample = dataclasses.replace(sample, image=sample.image.astype(np.float64))
    corner = [data.draw(st.integers(0, n - 1)) for n in scaled]
    size = [data.draw(st.integers(1, n - c)) for n, c in zip(scaled, corner, strict=True)]
    at = (..., slice(corner[0], corner[0] + size[0]), slice(corner[1], corner[1] + size[1]))
    window = scaled_window(sample, scaled, corner, size)
    image = torch.nn.functional.interpolate(torch.tensor(sample.image[None]), scaled, mode="bilinear")[0]
    np.testing.assert_allclose(window.image, image.numpy()[at], atol=1e-7)  # weights are float32
    label = torch.nn.functional.interpolate(torch.tensor(sample.label[None, None].astype(float)), scaled,
                                            mode="nearest-exact")[0, 0]
    np.testing.assert_array_equal(window.label, label.numpy()[at])


@settings(max_examples=60, deadline=None)
@given(st.tuples(SIDE, SIDE), st.one_of(st.none(), SIDE, st.tuples(SIDE, SIDE)), st.integers(0, 10**6))
def test_labels_are_never_mixed_and_stay_with_their_pixels(shape, crop, seed):
    # Each pixel's label is its number, and the two channels show its row and its column, which are linear, so that
    # interpolating them gives the place that was looked at.
    rows, columns = np.indices(shape)
    image = np.stack([rows, columns]).astype(np.float32)
    number = rows * shape[1] + columns
    sample = Sample(image, number + 1000, number.astype(np.int32), "", number.astype(np.float32))
    out = SegmentationAugment(crop=crop, jitter=0)(sample, np.random.default_rng(seed))
    size = shape if crop is None else tuple(np.broadcast_to(crop, 2))
    assert out.image.shape == (2, *size) and out.label.shape == size
    assert out.image.dtype == np.float32 and out.label.dtype == sample.label.dtype
    inside = out.label != IGNORE
    assert inside.any() and np.isin(out.label[inside], sample.label).all()
    np.testing.assert_array_equal(out.instances[inside], out.label[inside] - 1000)
    np.testing.assert_array_equal(out.weight[inside], out.label[inside] - 1000)
    label_row, label_column = np.divmod(out.label[inside] - 1000, shape[1])
    assert np.abs(out.image[0][inside] - label_row).max() <= 0.5001
    assert np.abs(out.image[1][inside] - label_column).max() <= 0.5001
    np.testing.assert_allclose(out.image[:, ~inside], np.broadcast_to(image.mean(axis=(1, 2))[:, None],
                                                                      (2, (~inside).sum())), rtol=1e-5)


def test_scales_crops_and_flips_are_drawn_evenly():
    # An image whose left half is class 0: after a flip it is the right one. At scale s, s^2 of the crop is covered.
    label = np.repeat([[0, 1]], 20, axis=1).repeat(40, axis=0)
    sample = Sample(np.zeros((1, 40, 40), np.float32), label, None, "")
    augment = SegmentationAugment(scale=(0.5, 1.0), jitter=0)
    out = [augment(sample, np.random.default_rng(seed)).label for seed in range(200)]
    covered = np.array([(label != IGNORE).sum() / 1600 for label in out]) ** 0.5
    assert 0.49 < covered.min() < 0.52 and 0.98 < covered.max() <= 1 and 0.72 < covered.mean() < 0.78
    flipped = [next(v for v in label[label != IGNORE]) == 1 for label in out]
    assert 70 < sum(flipped) < 130
    tops = {int(np.argwhere(label != IGNORE)[0][0]) for label in out}
    assert len(tops) > 10  # small images do not always lie in the corner
    large = SegmentationAugment(scale=(2.0, 2.0), crop=40, flip=False, jitter=0)
    shares = {(large(sample, np.random.default_rng(seed)).label == 0).mean() for seed in range(100)}
    assert min(shares) == 0 and max(shares) == 1 and len(shares) > 20


def test_the_same_generator_state_gives_the_same_sample_and_the_original_stays():
    sample = random_sample(9, 7)
    before = {f.name: np.copy(getattr(sample, f.name)) for f in dataclasses.fields(sample)}
    one, same, other = (SegmentationAugment(crop=6)(sample, np.random.default_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.image, same.image)
    np.testing.assert_array_equal(one.label, same.label)
    assert not np.array_equal(one.image, other.image)
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(sample, name), value)


class TestColorJitter:
    def test_by_hand(self):
        class Fixed:
            def uniform(self, low, high, count):
                assert (low, high, count) == (0.5, 1.5, 3)
                return np.array([0.5, 1.2, 1.1])

        # Brightness 0.5: 0.4 and 0.2 become 0.2 and 0.1. Their mean is 0.15; contrast 1.2 takes them to 0.21 and 0.09.
        gray = np.array([[[0.4, 0.2]]])
        np.testing.assert_allclose(color_jitter(gray, Fixed(), 0.5), [[[0.21, 0.09]]])
        # Of a gray image in three channels, saturation changes nothing.
        np.testing.assert_allclose(color_jitter(np.repeat(gray, 3, axis=0), Fixed(), 0.5), [[[0.21, 0.09]]] * 3)
        # Red (0.8, 0, 0), one pixel: 0.4 0 0, gray 0.299 * 0.4 = 0.1196. Contrast: 0.48 0 0 - 0.2 * 0.1196 = 0.45608,
        # -0.02392, -0.02392; its gray is 0.1196 still. Saturation: 1.1 times minus 0.1 * 0.1196 = 0.489728, < 0, < 0.
        red = np.array([[[0.8]], [[0.0]], [[0.0]]])
        np.testing.assert_allclose(color_jitter(red, Fixed(), 0.5).ravel(), [0.489728, 0, 0], atol=1e-7)

    def test_range_and_type(self):
        for channels in (1, 3):
            image = random_sample(8, 8, channels).image
            for seed in range(20):
                out = color_jitter(image, np.random.default_rng(seed), 0.5)
                assert out.dtype == np.float32 and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize(("options", "message"), [
    ({"scale": (0, 1)}, r"scale=\(0, 1\)\): needs 0 < smallest"), ({"scale": (2, 1)}, "needs 0 < smallest"),
    ({"crop": 0}, r"crop=0\): must be at least 1"), ({"crop": (4, 0)}, "must be at least 1"),
    ({"jitter": -0.1}, r"jitter=-0\.1\): must lie in 0..1")])
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        SegmentationAugment(**options)


# -------------------------------------------------------------------------------------------- PSPNet's turns and blur

def test_a_turn_by_a_right_angle_is_rot90():
    rng = np.random.default_rng(0)
    sample = Sample(rng.random((3, 6, 6), np.float32), rng.integers(0, 5, (6, 6)), None, "a",
                    rng.random((6, 6)).astype(np.float32))
    turned = rotated(sample, 90)
    np.testing.assert_allclose(turned.image, np.rot90(sample.image, -1, (1, 2)), atol=1e-6)  # clockwise
    np.testing.assert_array_equal(turned.label, np.rot90(sample.label, -1))
    np.testing.assert_allclose(turned.weight, np.rot90(sample.weight, -1), atol=1e-6)
    assert turned.label.dtype == sample.label.dtype


def test_what_a_turn_brings_in_is_void_and_of_the_mean_color():
    sample = Sample(np.full((3, 40, 60), 0.25, np.float32), np.ones((40, 60), int), np.ones((40, 60), np.int32), "a",
                    np.ones((40, 60), np.float32))
    turned = rotated(sample, 10)
    outside = turned.label == IGNORE
    assert 0.05 < outside.mean() < 0.2 and outside[0, 0] and not outside[20, 30]
    assert set(np.unique(turned.label)) == {1, IGNORE} and not turned.instances[outside].any()
    assert not turned.weight[outside].any() and turned.weight[~outside].all()
    np.testing.assert_allclose(turned.image, 0.25, atol=1e-6)


def test_every_second_image_is_turned_and_every_second_blurred():
    image = np.random.default_rng(0).random((1, 32, 32), np.float32)
    sample = Sample(image, np.zeros((32, 32), int), None, "a")
    plain = {"scale": (1.0, 1.0), "flip": False, "jitter": 0.0}
    turned = [SegmentationAugment(**plain, rotation=10)(sample, np.random.default_rng(n)) for n in range(60)]
    share = np.mean([(s.label == IGNORE).any() for s in turned])
    assert share == pytest.approx(0.5, abs=0.2)
    blurred = [SegmentationAugment(**plain, blur=True)(sample, np.random.default_rng(n)).image for n in range(60)]
    sharp = [np.array_equal(each, image) for each in blurred]
    assert np.mean(sharp) == pytest.approx(0.5, abs=0.2)
    other = blurred[sharp.index(False)]
    assert other.std() < 0.6 * image.std() and other.mean() == pytest.approx(image.mean(), rel=0.01)
    kernel = np.zeros((1, 9, 9), np.float32)
    kernel[0, 4, 4] = 1
    spot = Sample(kernel, np.zeros((9, 9), int), None, "a")
    seen = max((SegmentationAugment(**plain, blur=True)(spot, np.random.default_rng(n)).image for n in range(9)),
               key=lambda a: np.count_nonzero(a))
    assert np.count_nonzero(seen > 1e-8) == 25  # 5 x 5 pixels


def test_a_turn_that_cannot_be():
    with pytest.raises(ValueError, match=r"SegmentationAugment\(rotation=200\): must lie in 0..180 degrees"):
        SegmentationAugment(rotation=200)
