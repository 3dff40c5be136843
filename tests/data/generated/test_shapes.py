from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv.data.generated.shapes import SHAPES, TEXTURES, paint, random_color, shape_mask, texture


def test_disc_and_square_by_hand():
    # Middles lie at 0.5, 1.5, 2.5; from (1.5, 1.5) to a neighbor's it is 1, to a corner's 1.41.
    np.testing.assert_array_equal(shape_mask("disc", (3, 3), (1.5, 1.5), 1.1), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    # Half the side is 1.1 * 0.707 = 0.78: only the middle pixel; turned by 45 degrees its corners reach 1.1.
    np.testing.assert_array_equal(shape_mask("square", (3, 3), (1.5, 1.5), 1.1), [[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(shape_mask("square", (3, 3), (1.5, 1.5), 1.1, np.pi / 4),
                                  [[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def test_the_triangle_points_up_and_the_corner_is_an_l():
    # Radius 2 around (2, 2). At heights v = -0.75, -0.25, 0.25 the triangle is (1 + v) / 1.73 = 0.14, 0.43 and 0.72
    # wide to each side; middles lie at u = 0.25 and 0.75 to each side. It ends at v = 0.5.
    np.testing.assert_array_equal(shape_mask("triangle", (4, 4), (2, 2), 2),
                                  [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(shape_mask("corner", (4, 4), (2, 2), 2.9),  # the square's sides are at 2 +- 2.05
                                  [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]])


def lens(d, a, b):
    """Area that two circles of radii a and b, d apart, have in common."""
    turn = a**2 * np.arccos((d**2 + a**2 - b**2) / (2 * d * a)) + b**2 * np.arccos((d**2 + b**2 - a**2) / (2 * d * b))
    return turn - 0.5 * np.sqrt((a + b - d) * (d + a - b) * (d - a + b) * (d + a + b))


AREAS = {  # in units of radius^2
    "disc": np.pi, "ellipse": np.pi / 2, "ring": np.pi * (1 - 0.55**2), "crescent": np.pi - lens(0.45, 1, 0.8),
    "triangle": 3 * np.sqrt(3) / 4, "square": 2, "hourglass": 1,
    # Ten triangles between the middle, a tip at 1 and a notch at cos 72 / cos 36 = 0.382, each with an angle of 36.
    "star": 10 * 0.5 * np.cos(np.radians(72)) / np.cos(np.radians(36)) * np.sin(np.radians(36)),
    "cross": 2 * 0.6 * 2 * np.sqrt(1 - 0.3**2) - 0.6**2,  # two bars, less the square where they cross
    "corner": 2 - (np.sqrt(0.5) + 0.15) ** 2}  # a square without a smaller one


def test_areas():
    assert AREAS.keys() == SHAPES.keys()
    for name, area in AREAS.items():
        assert shape_mask(name, (400, 400), (200, 200), 190, 0.2).sum() / 190**2 == pytest.approx(area, rel=0.01), name


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(list(SHAPES)), y=st.integers(-8, 40), x=st.integers(-8, 40), radius=st.floats(0.3, 25),
       angle=st.floats(-4, 4))
def test_a_shape_stays_in_its_circle_and_moves_by_whole_pixels(name, y, x, radius, angle):
    mask = shape_mask(name, (32, 48), (y, x), radius, angle)
    assert mask.shape == (32, 48) and mask.dtype == bool
    i, j = np.nonzero(mask)
    assert (np.hypot(i + 0.5 - y, j + 0.5 - x) <= radius * (1 + 1e-9)).all()
    # On a frame that is 16 pixels larger, the shape 16 pixels on is the same one. Whole numbers, so that no
    # rounding moves a border.
    larger = shape_mask(name, (48, 64), (y + 16, x + 16), radius, angle)
    np.testing.assert_array_equal(larger[16:, 16:], mask)


@pytest.mark.parametrize("name", SHAPES)
def test_a_quarter_turn_is_clockwise(name):
    upright, turned = (shape_mask(name, (33, 33), (16.5, 16.5), 14.3, angle) for angle in (0.01, 0.01 + np.pi / 2))
    np.testing.assert_array_equal(turned, np.rot90(upright, -1))


@pytest.mark.parametrize("name", SHAPES)
def test_several_at_once(name):
    centers = np.array([[5, 9], [12.5, 3], [8, 8]])
    radii, angles = np.array([3.0, 7.5, 20.0]), np.array([0.0, 1.0, 2.5])
    together = shape_mask(name, (16, 20), centers, radii, angles)
    assert together.shape == (3, 16, 20)
    for mask, c, r, a in zip(together, centers, radii, angles, strict=True):
        np.testing.assert_array_equal(mask, shape_mask(name, (16, 20), c, r, a))
    np.testing.assert_array_equal(shape_mask(name, (16, 20), centers, 6.0)[1],
                                  shape_mask(name, (16, 20), centers[1], 6.0))


def test_shapes_errors():
    with pytest.raises(ValueError, match=r"^shape_mask: unknown shape 'blob'; available: disc, ellipse, ring, "):
        shape_mask("blob", (4, 4), (2, 2), 1)
    with pytest.raises(ValueError, match=r"^shape_mask: the radius must be positive, got -1"):
        shape_mask("disc", (4, 4), np.zeros((2, 2)), np.array([1, -1]))


# ---------------------------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(TEXTURES), height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_a_texture_is_in_0_to_1(name, height, width, seed):
    pattern = texture(name, (height, width), np.random.default_rng(seed))
    assert pattern.shape == (height, width) and pattern.dtype == np.float32
    assert pattern.min() >= 0 and pattern.max() <= 1
    np.testing.assert_array_equal(pattern, texture(name, (height, width), np.random.default_rng(seed)))


def drawn(period, angle, *phases):
    """A generator that draws this period, this angle and these phases."""
    return Mock(uniform=Mock(side_effect=[period, angle]), random=Mock(side_effect=phases))


def test_textures_by_hand():
    row = [1, 1, 0, 0, 1, 1]  # the first half of every four pixels
    np.testing.assert_array_equal(texture("stripes", (2, 6), drawn(4, 0, 0, 0)), [row, row])
    np.testing.assert_array_equal(texture("stripes", (1, 6), drawn(4, 0, 0.25, 0)), [[1, 0, 0, 1, 1, 0]])
    # As along, so down: row 0 and 1 are in a first half, where checks are 0 for both, row 2 is not.
    np.testing.assert_array_equal(texture("checks", (3, 6), drawn(4, 0, 0, 0)),
                                  [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1]])
    # A dot around the middle of each 4 x 4, of radius 0.3 * 4 = 1.2, with phases 0 at pixel (2, 2).
    np.testing.assert_array_equal(texture("dots", (4, 4), drawn(4, 0, 0, 0)),
                                  [[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0]])
    np.testing.assert_array_equal(texture("gradient", (1, 5), drawn(4, 0)), [[0, 0.25, 0.5, 0.75, 1]])
    np.testing.assert_array_equal(texture("plain", (1, 2), drawn(4, 0)), [[0, 0]])


def test_texture_errors():
    for name, period in (("tartan", (5, 12)), ("stripes", (0, 1)), ("stripes", (3, 2))):
        with pytest.raises(ValueError, match=rf"^texture: needs one of plain, .*got '{name}' and \({period[0]}, "):
            texture(name, (4, 4), np.random.default_rng(0), period)


def test_paint_by_hand():
    painted = paint(np.array([[0, 0.5, 1]], np.float32), (0, 1, 0.2), (1, 0, 0.2))
    assert painted.dtype == np.float32
    np.testing.assert_allclose(painted, [[[0, 0.5, 1]], [[1, 0.5, 0]], [[0.2, 0.2, 0.2]]])


@given(st.integers(0, 999))
def test_colors_differ_as_much_as_asked(seed):
    rng = np.random.default_rng(seed)
    others = rng.random((2, 3))
    color = random_color(rng, *others, contrast=0.45)
    assert color.shape == (3,) and ((color >= 0) & (color < 1)).all()
    assert np.abs(others - color).max(axis=1).min() >= 0.45


def test_a_contrast_that_no_color_has():
    with pytest.raises(ValueError, match=r"^random_color: no color is 0.6 away from all of .*ask for less contrast"):
        random_color(np.random.default_rng(0), np.full(3, 0.5), contrast=0.6)
