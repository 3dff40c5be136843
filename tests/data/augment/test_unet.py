import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data import (
    Cells,
    Sample,
    UNetAugment,
    Window,
    WithWeightMap,
    center_crop,
    elastic_displacement,
    mirror_pad,
    random_gray,
    random_rotation,
    random_shift,
    random_window,
    standardize,
    warp,
)


class Fixed:
    """A generator whose uniform() returns the upper end (or the lower one): makes random geometry certain."""

    def __init__(self, end="high"):
        self.end = end

    def uniform(self, low, high, size=None):
        value = high if self.end == "high" else low
        return value if size is None else np.full(size, value)


@pytest.fixture
def sample():
    return WithWeightMap(Cells(1, (40, 48), seed=2))[0]


class TestElastic:
    def test_a_grid_of_vectors_at_the_nodes(self):
        field = elastic_displacement((5, 9), np.random.default_rng(4), sigma=10)
        vectors = np.random.default_rng(4).normal(0, 10, (2, 3, 3))
        assert field.shape == (2, 5, 9) and field.dtype == np.float32
        np.testing.assert_allclose(field[:, ::2, ::4], vectors, rtol=1e-5, atol=1e-5)

    def test_the_vectors_have_the_standard_deviation_asked_for(self):
        rng = np.random.default_rng(0)
        corners = np.array([elastic_displacement((4, 4), rng, sigma=10)[:, 0, 0] for _ in range(2000)])
        # 4000 draws: the standard error of the estimate is 10 / sqrt(2 * 4000) = 0.11; 0.5 is more than four
        assert corners.std() == pytest.approx(10, abs=0.5)
        assert corners.mean() == pytest.approx(0, abs=0.7)  # standard error 10 / sqrt(4000) = 0.16

    def test_it_is_smooth(self):
        field = elastic_displacement((512, 512), np.random.default_rng(0))
        assert np.abs(np.diff(field, axis=1)).max() < 0.5  # over 255 pixels a node's vector changes by tens
        assert np.abs(np.diff(field, axis=2)).max() < 0.5

    def test_sigma_zero_is_the_identity(self, sample):
        field = elastic_displacement((40, 48), np.random.default_rng(0), sigma=0)
        assert not field.any()
        image, label = warp(sample.image, field, sample.label)
        np.testing.assert_allclose(image, sample.image, atol=1e-6)
        np.testing.assert_array_equal(label, sample.label)

    def test_errors(self):
        for options in ({"sigma": -1}, {"grid": 1}):
            with pytest.raises(ValueError, match="elastic_displacement: needs sigma >= 0 and grid >= 2, got"):
                elastic_displacement((4, 4), np.random.default_rng(0), **options)


class TestWarp:
    ROW = np.array([[[0.0, 0.1, 0.2, 0.3, 0.4]]], np.float32)

    def test_a_whole_pixel_shift_by_hand(self):
        field = np.zeros((2, 1, 5), np.float32)
        field[1] = 2  # every pixel shows what lies two to the right; beyond the border 3, 2 come back
        image, label = warp(self.ROW, field, np.arange(5)[None], order=1)
        np.testing.assert_array_equal(label, [[2, 3, 4, 3, 2]])
        np.testing.assert_allclose(image, [[[0.2, 0.3, 0.4, 0.3, 0.2]]], atol=1e-6)

    def test_half_a_pixel_interpolates_the_image_but_not_the_labels(self):
        field = np.zeros((2, 1, 5), np.float32)
        field[1] = 0.4
        image, label = warp(self.ROW, field, np.array([[0, 200, 0, 200, 0]]), order=1)
        np.testing.assert_allclose(image[0, 0, :4], [0.04, 0.14, 0.24, 0.34], atol=1e-6)
        np.testing.assert_array_equal(label, [[0, 200, 0, 200, 0]])

    def test_rows_come_before_columns(self):
        field = np.zeros((2, 3, 3), np.float32)
        field[0] = 1
        _, label = warp(np.zeros((1, 3, 3), np.float32), field, np.arange(9).reshape(3, 3))
        np.testing.assert_array_equal(label, [[3, 4, 5], [6, 7, 8], [3, 4, 5]])

    def test_cubic_stays_in_range(self):
        edge = np.repeat(np.array([[[0.0, 0, 0, 1, 1, 1]]], np.float32), 6, axis=1)
        field = np.full((2, 6, 6), 0.3, np.float32)
        image = warp(edge, field, order=3)[0]
        assert image.min() == 0 and image.max() == 1  # the spline itself overshoots to about -0.09 and 1.09

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10**6), order=st.sampled_from([1, 3]), height=st.integers(1, 20))
    def test_no_new_values(self, seed, order, height):
        rng = np.random.default_rng(seed)
        image = rng.random((2, height, 9), np.float32)
        labels = rng.choice([0, 3, 255, 70000], (height, 9))
        weight = rng.random((height, 9), np.float32)
        before = image.copy(), labels.copy(), weight.copy()
        out = warp(image, rng.normal(0, 8, (2, height, 9)).astype(np.float32), labels, weight, order=order)
        assert [each.shape for each in out] == [(2, height, 9), (height, 9), (height, 9)]
        assert [each.dtype for each in out] == [np.float32, labels.dtype, np.float32]
        assert np.isin(out[1], labels).all() and np.isin(out[2], weight).all()
        assert out[0].min() >= image.min() - 1e-6 and out[0].max() <= image.max() + 1e-6
        for now, then in zip((image, labels, weight), before, strict=True):
            np.testing.assert_array_equal(now, then)

    def test_maps_stay_aligned(self):
        rng = np.random.default_rng(0)
        numbers = np.arange(400).reshape(20, 20)
        _, one, other = warp(np.zeros((1, 20, 20)), rng.normal(0, 5, (2, 20, 20)), numbers, 7 * numbers)
        np.testing.assert_array_equal(other, 7 * one)

    @pytest.mark.parametrize(
        "shapes",
        [
            ((4, 4), (2, 4, 4), (4, 4)),
            ((1, 4, 4), (2, 4, 5), (4, 4)),
            ((1, 4, 4), (2, 4, 4), (5, 4)),
        ],
    )
    def test_errors(self, shapes):
        image, field, label = (np.zeros(shape, np.float32) for shape in shapes)
        with pytest.raises(ValueError, match=r"warp: needs image \(C, H, W\), .*, got image \("):
            warp(image, field, label)


class TestFields:
    def test_shift(self):
        np.testing.assert_array_equal(random_shift((2, 3), Fixed(), 5), np.full((2, 2, 3), 5))
        drawn = np.array([random_shift((1, 1), np.random.default_rng(s), 5)[:, 0, 0] for s in range(200)])
        assert drawn.min() < -4.5 and drawn.max() > 4.5 and np.abs(drawn).max() <= 5
        assert not np.array_equal(drawn[:, 0], drawn[:, 1])  # the two directions are drawn apart

    def test_a_quarter_turn_is_clockwise(self):
        numbers = np.arange(9).reshape(3, 3)
        _, turned = warp(np.zeros((1, 3, 3), np.float32), random_rotation((3, 3), Fixed(), 90), numbers)
        np.testing.assert_array_equal(turned, [[6, 3, 0], [7, 4, 1], [8, 5, 2]])
        np.testing.assert_array_equal(turned, np.rot90(numbers, -1))
        _, back = warp(np.zeros((1, 3, 3), np.float32), random_rotation((3, 3), Fixed("low"), 90), numbers)
        np.testing.assert_array_equal(back, np.rot90(numbers))

    def test_rotation_keeps_the_center(self):
        field = random_rotation((5, 7), np.random.default_rng(0), 180)
        np.testing.assert_allclose(field[:, 2, 3], 0, atol=1e-6)

    def test_fields_add_up(self):
        """A half turn and a shift in one field are the turn of what the shift shows beyond it, by hand."""
        field = random_rotation((1, 5), Fixed(), 180) + random_shift((1, 5), Fixed(), 1) * [[[0]], [[1]]]
        _, label = warp(np.zeros((1, 1, 5), np.float32), field, np.array([[10, 11, 12, 13, 14]]))
        # Turned: 14 13 12 11 10; each pixel then looks one further right in the source: 5 -> mirrored to 3
        np.testing.assert_array_equal(label, [[13, 14, 13, 12, 11]])


def test_gray_by_hand():
    image = np.array([[[0.2, 0.4, 0.6]]], np.float32)  # mean 0.4, contrast 1.1, brightness + 0.1
    np.testing.assert_allclose(random_gray(image, Fixed(), 0.1), [[[0.28, 0.5, 0.72]]], rtol=1e-6)
    # contrast 0.5, brightness - 0.5: 0.3 - 0.5, 0.4 - 0.5, 0.5 - 0.5, all clipped to 0
    assert not random_gray(image, Fixed("low"), 0.5).any()
    assert random_gray(image, np.random.default_rng(0), 0.1).dtype == np.float32


class TestUNetAugment:
    def test_a_set_without_instances(self):
        with_them = Cells(1, (24, 40))[0]
        without = UNetAugment()(dataclasses.replace(with_them, instances=None), np.random.default_rng(1))
        assert without.instances is None
        np.testing.assert_array_equal(without.label, UNetAugment()(with_them, np.random.default_rng(1)).label)

    def test_everything_off_changes_nothing(self, sample):
        augment = UNetAugment(shift=0, rotation=0, elastic=0, gray=0, flip=False)
        out = augment(sample, np.random.default_rng(0))
        for field in dataclasses.fields(sample):
            np.testing.assert_array_equal(getattr(out, field.name), getattr(sample, field.name))

    def test_a_fixed_seed_fixes_the_result(self, sample):
        one, same, other = (UNetAugment()(sample, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(one.image, same.image)
        np.testing.assert_array_equal(one.label, same.label)
        assert not np.array_equal(one.image, other.image)

    @pytest.mark.parametrize("order", [1, 3])
    def test_what_comes_out(self, sample, order):
        before = dataclasses.replace(sample, image=sample.image.copy(), label=sample.label.copy())
        for seed in range(5):
            out = UNetAugment(order=order)(sample, np.random.default_rng(seed))
            for name in ("image", "label", "instances", "weight"):
                old, new = getattr(sample, name), getattr(out, name)
                assert new.shape == old.shape and new.dtype == old.dtype
                if name != "image":
                    assert np.isin(new, old).all()
            assert out.image.min() >= 0 and out.image.max() <= 1
            np.testing.assert_array_equal(out.label, out.instances > 0)  # moved alike
            assert out.name == sample.name
        np.testing.assert_array_equal(sample.image, before.image)
        np.testing.assert_array_equal(sample.label, before.label)

    def test_image_and_label_move_alike(self, sample):
        """An image that is its own label, up to interpolation."""
        twin = dataclasses.replace(sample, image=sample.label[None].astype(np.float32))
        out = UNetAugment(gray=0, order=1)(twin, np.random.default_rng(3))
        away_from_edges = np.abs(out.image[0] - 0.5) > 0.5 - 1e-4  # interpolated from one class only
        assert away_from_edges.mean() > 0.5
        np.testing.assert_array_equal((out.image[0] > 0.5)[away_from_edges], out.label[away_from_edges] == 1)

    @pytest.mark.parametrize("flip", [False, True])
    @pytest.mark.parametrize("corner", [(3, 5), (0, 0), (-9, 20), (-70, 60)])
    def test_a_window_is_that_part_of_the_whole(self, sample, flip, corner):
        """Also beyond the border, where the whole goes on as the image does: mirrored after bending."""
        augment = UNetAugment(flip=flip, rotation=30, elastic=2)
        h, w = sample.label.shape
        reach = Window(-90, -90, h + 180, w + 180)
        whole, part = (augment(sample, np.random.default_rng(5), window) for window in (reach, Window(*corner, 20, 16)))
        y, x = corner[0] + 90, corner[1] + 90
        for name in ("label", "instances", "weight"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[y : y + 20, x : x + 16])
        # only the spline's filter sees where the part it needs was cut off
        np.testing.assert_allclose(part.image, whole.image[:, y : y + 20, x : x + 16], rtol=0, atol=1e-5)
        inside = augment(sample, np.random.default_rng(5))
        np.testing.assert_allclose(whole.image[:, 90 : 90 + h, 90 : 90 + w], inside.image, rtol=0, atol=1e-5)

    def test_all_flips_occur(self):
        numbers = np.arange(6).reshape(2, 3)
        sample = Sample(numbers[None].astype(np.float32), numbers, None, "numbers")
        only = UNetAugment(shift=0, rotation=0, elastic=0, gray=0)
        outs = [only(sample, np.random.default_rng(seed)) for seed in range(40)]
        assert all(np.array_equal(out.image[0], out.label) for out in outs)
        by_hand = {(0, 1, 2, 3, 4, 5), (2, 1, 0, 5, 4, 3), (3, 4, 5, 0, 1, 2), (5, 4, 3, 2, 1, 0)}
        assert {tuple(out.label.ravel().tolist()) for out in outs} == by_hand

    def test_gray_is_still_there_after_standardizing(self, sample):
        """Standardized like the image it comes from, not like itself: that would undo it."""
        out = UNetAugment(shift=0, rotation=0, elastic=0, flip=False)(sample, np.random.default_rng(1))
        assert abs(standardize(out.image, like=sample.image).mean()) > 0.05

    def test_a_sample_without_weight(self):
        out = UNetAugment()(Cells(1, 32)[0], np.random.default_rng(0))
        assert out.weight is None

    @pytest.mark.parametrize("part", ["shift", "rotation", "elastic", "gray", "flip"])
    def test_every_part_does_something(self, sample, part):
        off = {"shift": 0, "rotation": 0, "elastic": 0, "gray": 0, "flip": False}
        augment = UNetAugment(**{**off, part: {"gray": 0.1, "flip": True}.get(part, 10)})
        outs = [augment(sample, np.random.default_rng(seed)) for seed in range(4)]
        assert not all(np.allclose(out.image, sample.image, atol=1e-3) for out in outs)
        assert all(np.array_equal(out.label, sample.label) for out in outs) == (part == "gray")


class TestMirrorPad:
    def test_by_hand(self):
        np.testing.assert_array_equal(mirror_pad(np.array([[1, 2, 3]]), 0, 0, 2, 1), [[3, 2, 1, 2, 3, 2]])

    def test_wider_than_the_image_by_hand(self):
        np.testing.assert_array_equal(mirror_pad(np.array([[1, 2]]), 0, 0, 3, 2), [[2, 1, 2, 1, 2, 1, 2]])
        np.testing.assert_array_equal(mirror_pad(np.array([[5]]), 1, 0, 0, 2), [[5, 5, 5], [5, 5, 5]])

    @given(
        shape=st.tuples(st.integers(2, 5), st.integers(2, 5)),
        padding=st.tuples(*[st.integers(0, 17)] * 4),
        channels=st.booleans(),
    )
    def test_against_numpy(self, shape, padding, channels):
        image = np.random.default_rng(0).random((3, *shape) if channels else shape)
        top, bottom, left, right = padding
        expected = np.pad(image, [(0, 0)] * channels + [(top, bottom), (left, right)], "reflect")
        np.testing.assert_array_equal(mirror_pad(image, *padding), expected)

    def test_the_result_is_a_copy(self):
        image = np.zeros((2, 2))
        mirror_pad(image, 0, 0, 0, 0)[:] = 1
        assert not image.any()

    def test_negative(self):
        with pytest.raises(ValueError, match=r"mirror_pad: padding .* not be negative, got \(0, -1, 0, 0\)"):
            mirror_pad(np.zeros((2, 2)), 0, -1, 0, 0)


class TestRandomWindow:
    @settings(max_examples=40)
    @given(
        seed=st.integers(0, 10**6),
        size=st.tuples(st.integers(4, 12), st.integers(4, 12)),
        tile=st.integers(1, 4),
        margin=st.integers(0, 15),
    )
    def test_the_output_is_the_center_of_the_input(self, seed, size, tile, margin):
        numbers = np.arange(size[0] * size[1]).reshape(size)
        sample = Sample(np.stack([numbers, -numbers]), numbers, None, "numbers", 2 * numbers)
        side = tile + 2 * margin
        part = random_window(size, side, tile, np.random.default_rng(seed)).cut(sample)
        assert part.image.shape == (2, side, side)
        assert part.label.shape == part.weight.shape == (side, side) and part.instances is None
        label = center_crop(part.label, (tile, tile))
        np.testing.assert_array_equal(part.weight, 2 * part.label)
        y, x = np.argwhere(numbers == label[0, 0])[0]  # the output tile lies inside the image ...
        np.testing.assert_array_equal(label, numbers[y : y + tile, x : x + tile])
        whole = mirror_pad(np.stack([numbers, -numbers]), margin, margin, margin, margin)
        np.testing.assert_array_equal(part.image, whole[:, y : y + side, x : x + side])

    def test_every_position_occurs(self):
        rng = np.random.default_rng(0)
        corners = {(w.top, w.left) for w in (random_window((3, 4), 4, 2, rng) for _ in range(100))}
        assert corners == {(y - 1, x - 1) for y in (0, 1) for x in (0, 1, 2)}  # 2 x 2 tiles in 3 x 4 pixels

    def test_rectangular_tiles(self):
        window = random_window((9, 9), (8, 12), (4, 6), np.random.default_rng(0))
        assert (window.height, window.width) == (8, 12)

    @pytest.mark.parametrize(
        ("tiles", "message"),
        [
            ((7, 4), r"tile_in - tile_out must be even and .* negative, got 7 and 4"),
            ((2, 4), r"tile_in - tile_out must be even and .* negative, got 2 and 4"),
            ((12, 10), r"tile_out 10 is larger than the image, \(9, 9\)"),
        ],
    )
    def test_errors(self, tiles, message):
        with pytest.raises(ValueError, match=f"random_window: {message}"):
            random_window((9, 9), *tiles, np.random.default_rng(0))


def test_center_by_hand():
    numbers = np.arange(20).reshape(4, 5)
    np.testing.assert_array_equal(center_crop(numbers, (2, 3)), [[6, 7, 8], [11, 12, 13]])
    np.testing.assert_array_equal(center_crop(numbers, (4, 5)), numbers)
    np.testing.assert_array_equal(center_crop(numbers, (1, 2)), [[6, 7]])  # an odd rest: one more below and right


def test_standardise_a_part_like_the_whole():
    whole = np.array([[[1.0, 3.0, 1.0, 3.0]]], np.float32)  # mean 2, standard deviation 1
    np.testing.assert_allclose(standardize(whole), [[[-1, 1, -1, 1]]])
    np.testing.assert_allclose(standardize(whole[..., :1] + 4, like=whole), [[[3]]])
