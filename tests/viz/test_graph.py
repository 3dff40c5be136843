import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from minicv.autograd import Function, Tensor
from minicv.viz.graph import arrange, draw_graph


class Join(Function):
    """The sum of all arguments."""

    def forward(ctx, *xs):
        ctx.count = len(xs)
        return sum(xs[1:], xs[0])

    def backward(ctx, gy):
        return (gy,) * ctx.count


def leaf(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


def parts(ax):
    """Boxes as {text: (left, right, bottom, top)}, and the points along each arrow."""
    boxes = {t.get_text(): (b.get_x(), b.get_x() + b.get_width(), b.get_y(), b.get_y() + b.get_height())
             for t, b in zip(ax.texts, (p for p in ax.patches if isinstance(p, FancyBboxPatch)), strict=True)}
    arrows = [np.concatenate([curve(np.linspace(0, 1, 30)) for curve, _ in p._path_original.iter_bezier()])
              for p in ax.patches if isinstance(p, FancyArrowPatch)]
    plt.close(ax.figure)
    return boxes, arrows


def test_columns_by_hand():
    # a -> Join(a) -> \
    # b ------------> Join(., b) -> Join(., a): b stands left of its user, a left of its first one
    a, b = leaf(2), leaf(2)
    first = Join.apply(a)
    second = Join.apply(first, b)
    third = Join.apply(second, a)
    place, arrows = arrange(third)
    assert {k: place[k][0] for k in (a, b, first.node, second.node, third.node)} == {
        a: -3, b: -2, first.node: -2, second.node: -1, third.node: 0}
    assert [path for path, _ in arrows if path[0] is a and path[-1] is third.node] == [
        [a, (a, -2), (a, -1), third.node]]  # it passes two columns


def test_the_first_argument_arrives_highest():
    a, b, c = leaf(), leaf(), leaf()
    place, arrows = arrange(Join.apply(a, b, c))
    assert place[a][1] > place[b][1] > place[c][1]
    assert [(path[0], pytest.approx(port)) for path, port in arrows] == [(a, 0.2), (b, 0.0), (c, -0.2)]


def test_labels_and_shapes():
    w, x, number = leaf(3), leaf(3), leaf()
    y = Join.apply(Join.apply(w, x), Tensor(np.ones(3)))
    boxes, arrows = parts(draw_graph(y, {"w": w, "y": y}))
    assert set(boxes) == {"w\n(3,)", "leaf\n(3,)", "Join\n(3,)", "Join\ny\n(3,)"}  # what needs no gradient is not there
    assert len(arrows) == 3
    boxes, arrows = parts(draw_graph(number, {"n": number}))
    assert set(boxes) == {"n"} and arrows == []


def test_twice_the_same_argument_is_two_arrows():
    a = leaf(2)
    _, arrows = parts(draw_graph(Join.apply(a, a)))
    assert len(arrows) == 2
    assert arrows[0][-1][1] > arrows[1][-1][1] and arrows[0][0] == pytest.approx(arrows[1][0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=3), min_size=1, max_size=20))
def test_nothing_overlaps(calls):
    tensors, names = [leaf(2), leaf(2), leaf(2)], {}
    for arguments in calls:
        tensors.append(Join.apply(*(tensors[-1 - i % len(tensors)] for i in arguments)))
    for i, t in enumerate(tensors):
        names[f"t{i}"] = t
    boxes, arrows = parts(draw_graph(tensors[-1], names))
    rectangles = np.array(list(boxes.values()))
    for i, (left, right, low, high) in enumerate(rectangles):
        others = np.delete(rectangles, i, axis=0)
        apart = (others[:, 0] > right) | (others[:, 1] < left) | (others[:, 2] > high) | (others[:, 3] < low)
        assert apart.all()
        for x, y in (a.T for a in arrows):
            edge = 1e-9  # arrows start and end on the sides
            assert not ((x > left + edge) & (x < right - edge) & (y > low) & (y < high)).any()
    for x, _ in (a.T for a in arrows):
        assert (np.diff(x) >= -1e-9).all()  # left to right


@pytest.mark.parametrize("size", [(2, 1), (4, 4), (12, 5)])
def test_text_stays_in_its_box_on_axes_of_any_size(size):
    figure, ax = plt.subplots(figsize=size)
    a, b = leaf(128, 64), leaf(128, 64)
    y = Join.apply(Join.apply(a, b), a)
    assert draw_graph(y, {"a rather long name of a leaf": a, "W": b, "loss = 0.123": y}, ax) is ax
    figure.canvas.draw()
    boxes = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    for text, box in zip(ax.texts, boxes, strict=True):
        inner, outer = text.get_window_extent(), box.get_window_extent()
        assert outer.x0 < inner.x0 and inner.x1 < outer.x1 and outer.y0 < inner.y0 and inner.y1 < outer.y1
    plt.close(figure)


def test_a_walked_graph_is_an_error():
    a = leaf()
    middle = Join.apply(a)
    Join.apply(middle).backward()
    with pytest.raises(RuntimeError, match="draw_graph: backward has taken the graph through Join apart; draw it "
                                           "before"):
        draw_graph(Join.apply(middle))


def test_a_graph_that_no_image_can_hold_is_refused():
    y = leaf(2)
    for _ in range(3000):
        y = Join.apply(y)
    with pytest.raises(ValueError, match="draw_graph: the graph has 3,000 calls, and a drawing has room for 400"):
        draw_graph(y)


def test_a_long_graph_is_arranged_fast():
    y = leaf(2)
    for _ in range(400):
        y = Join.apply(y, leaf(2))
    place, arrows = arrange(y)
    assert len(place) == 801 and len(arrows) == 800
