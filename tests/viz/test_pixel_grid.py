"""Maps drawn pixel by pixel: numbers, frames and rings stand where the pixels are."""
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv.viz.pixel_grid import draw_bins, draw_pixels, draw_row_shift

VALUES = np.array([[1.0, 5.0, 0.0], [4.0, 2.0, 3.0]])


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_numbers_stand_in_the_middle_of_their_pixels(ax):
    draw_pixels(ax, VALUES, "title", numbers=True)
    assert {t.get_position(): t.get_text() for t in ax.texts} == {
        (0.5, 0.5): "1", (1.5, 0.5): "5", (2.5, 0.5): "0", (0.5, 1.5): "4", (1.5, 1.5): "2", (2.5, 1.5): "3"}
    assert ax.images[0].get_extent() == [0, 3, 2, 0]
    assert ax.get_title() == "title"


def test_a_map_without_numbers_and_with_other_colors(ax):
    draw_pixels(ax, VALUES, cmap="viridis", vmin=-1)
    assert not ax.texts
    assert ax.images[0].get_cmap().name == "viridis"
    assert ax.images[0].get_clim() == (-1, 5)


def test_bins_overlap_and_ring_their_maxima(ax):
    draw_bins(ax, [(0, 2)], [(0, 2), (1, 3)], VALUES, inset=0.1, nested=0.05)
    first, second = (p.get_bbox().extents for p in ax.patches)
    np.testing.assert_allclose(first, [0.1, 0.1, 1.9, 1.9])
    np.testing.assert_allclose(second, [1.15, 0.15, 2.85, 1.85])  # 0.1 + 0.05 inside
    rings = [tuple(np.asarray(c.get_offsets())[0]) for c in ax.collections]
    assert rings == [(1.5, 0.5), (1.5, 0.5)]  # the 5 is the maximum of both


def test_a_tap_meets_pixels_a_shift_away_and_crosses_mark_windows_that_wrap(ax):
    draw_row_shift(ax, width=4, height=3, kernel=2, tap=(1, 1))  # 3 outputs in a row of 4; a shift of 5
    texts = {t.get_position(): t.get_text() for t in ax.texts}
    assert [texts[x + 0.25, 0.5] for x in range(4)] == ["0", "1", "2", "x"]
    assert [texts[x + 0.75, 1.5] for x in range(1, 4)] == ["0", "1", "2"] and texts[0.75, 2.5] == "x"
    assert "pixel r + 5" in ax.get_title()
