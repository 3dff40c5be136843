import matplotlib.pyplot as plt
import pytest

from minicv.viz import grouped_bars, plot_lines, plot_losses, plot_means, plot_runs


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_losses_are_running_means(ax):
    losses = [{"a": 1.0 + 2 * step, "b": 8.0 - 4 * step} for step in range(10)]
    plot_losses(ax, losses, {"a": "L_a", "b": "L_b"}, window=2)
    assert ax.lines[0].get_ydata().tolist() == [2 + 2 * n for n in range(9)]
    assert ax.lines[1].get_ydata().tolist() == [6 - 4 * n for n in range(9)]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["L_a", "L_b"]
    assert ax.get_ylabel() == "loss (mean of 2 steps)"


def test_a_window_is_at_most_a_fifth_of_the_training(ax):
    plot_losses(ax, [{"a": float(step)} for step in range(10)], {"a": "L_a"})
    assert ax.lines[0].get_ydata().tolist() == [n + 0.5 for n in range(9)]
    plot_losses(ax, [{"a": 1.0}, {"a": 3.0}], {"a": "L_a"})
    assert ax.lines[1].get_ydata().tolist() == [1, 3] and ax.get_ylabel() == "loss"


def test_bars_stand_in_groups(ax):
    grouped_bars(ax, ["x", "y"], {"a": [1.0, 2.0], "b": [3.0, 4.0]}, numbers="{:.0f}")
    middles = [bar.get_x() + bar.get_width() / 2 for bar in ax.patches]
    assert middles == pytest.approx([-0.2, 0.8, 0.2, 1.2])
    assert [bar.get_height() for bar in ax.patches] == [1, 2, 3, 4]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["x", "y"]
    assert [text.get_text() for text in ax.texts] == ["1", "2", "3", "4"]


def test_lines_differ_in_color_and_style(ax):
    plot_lines(ax, {"a": [1, 2, 3], "b": ([5, 6], [7, 8])}, linewidth=3)
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[0, 1], [1, 2], [2, 3]], [[5, 7], [6, 8]]]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert len({line.get_color().tobytes() for line in ax.lines}) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_means_have_the_deviation_of_the_runs_as_error_bars(ax):
    plot_means(ax, [10, 20], {"a": [[1, 3], [5, 5]]})
    line, _, (bars,) = ax.containers[0]
    assert line.get_xydata().tolist() == [[10, 2], [20, 5]]
    assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [[1, 3], [5, 5]]
    plot_means(ax, [10, 20], {"a": [[1], [5]], "b": [[1], [5]]}, shift=1)
    assert [list(container[0].get_xdata()) for container in ax.containers[1:]] == [[9.5, 19.5], [10.5, 20.5]]


def test_runs_are_dots_on_the_bar_of_their_mean(ax):
    plot_runs(ax, {"a": [1, 3], "b": [4]})
    assert [bar.get_width() for bar in ax.patches] == [2, 4]
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 0], [3, 0]], [[4, 1]]]
    assert ax.get_ylim() == (1.5, -0.5)  # the first on top
