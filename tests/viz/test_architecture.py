"""Figures of networks and operations: the blocks are those of the network, the words say what is drawn."""
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv import Tensor, models, nn, ops
from minicv import ops as F
from minicv.viz.architecture import blocks, describe, draw_architecture
from minicv.viz.operation import draw_arrays, draw_operation, plane


class Small(nn.Module):
    """Two convolutions, a pooling, upsampling, and a skip that is concatenated."""

    def __init__(self):
        self.a, self.b, self.c = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(12, 2, 1)

    def forward(self, x):
        a = F.relu(self.a(x))
        b = F.relu(self.b(F.max_pool2d(a, 2)))
        return self.c(F.concatenate([a, F.interpolate(b, scale_factor=2)], 1))


def test_blocks_and_skips_are_those_of_the_network():
    found = blocks(Small(), (1, 8, 8))
    assert [(b.kinds, b.channels, b.size, b.sources) for b in found] == [
        (["input"], 1, (8, 8), set()), (["conv"], 4, (8, 8), {0}), (["pool", "conv"], 8, (4, 4), {1}),
        (["up"], 8, (8, 8), {2}), (["join", "conv"], 2, (8, 8), {1, 3})]
    assert describe(found) == ("5 blocks. 0: 1 input, 1 x 8 x 8; 1: 1 conv, 4 x 8 x 8; 2: 1 pool, 1 conv, 8 x 4 x 4; "
                               "3: 1 up, 8 x 8 x 8; 4: 1 join, 1 conv, 2 x 8 x 8. Skips: 1 to 4.")


def test_the_mode_of_the_network_is_kept():
    model = Small()
    blocks(model, (1, 8, 8))
    assert model.training


def test_unet_has_its_skips():
    found = blocks(models.build("unet", width=4), (1, 284, 284))
    skips = [(s, i) for i, b in enumerate(found) for s in b.sources if s < i - 1]
    # two convs and a pool for each of 3 levels: the second convs are blocks 2, 5, 8; the last one meets the first again
    assert [s for s, _ in skips] == [8, 5, 2]
    assert sum(kind == "conv" for b in found for kind in b.kinds) + sum(
        kind == "up" for b in found for kind in b.kinds) == 18  # 2 * 3 + 2 + 3 * (1 + 2) + 1


class Branches(nn.Module):
    """A pyramid computed level by level, as PSPNet does, and two convolutions beside each other, as Inception has."""

    def __init__(self):
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = F.relu(self.a(x))
        x = x + self.b(x)
        beside = F.concatenate([self.one(x), self.two(x)], 1)
        pooled = [F.adaptive_avg_pool2d(x, n) for n in (1, 2)]
        small = [conv(p) for conv, p in zip((self.one, self.two), pooled, strict=True)]
        large = [F.interpolate(y, size=x.shape[2:]) for y in small]
        return F.concatenate([beside, *large], 1)


def test_each_branch_is_drawn_in_one_piece():
    found = blocks(Branches(), (1, 8, 8))
    # the backbone has four convolutions: a, b, and the two whose 2 + 3 channels are concatenated; then both levels
    assert [(b.words(), b.channels, b.size, b.sources) for b in found] == [
        ("1 input", 1, (8, 8), set()), ("4 conv, 2 branches, 1 residual", 5, (8, 8), {0}),
        ("1 pool, 1 conv", 2, (1, 1), {1}), ("1 up", 2, (8, 8), {2}),
        ("1 pool, 1 conv", 3, (2, 2), {1}), ("1 up", 3, (8, 8), {4}), ("1 join", 10, (8, 8), {1, 3, 5})]
    assert [b.kind for b in found] == ["input", "conv", "conv", "up", "conv", "up", "join"]


def test_residual_connections_are_counted():
    found = blocks(models.build("resnet18"), (3, 64, 64))
    assert [b.residual for b in found] == [0, 0, 1, 1, 1, 1, 0]  # compact: one block in each of four stages


@pytest.mark.parametrize("name", models.names())
def test_every_network_can_be_drawn(name):
    model = models.build(name)
    several = blocks(model, model.INPUT["compact"])
    figure = draw_architecture(several, name)
    ax = figure.axes[0]
    skips = sum(s < i - 1 for i, b in enumerate(several) for s in b.sources) + sum(b.residual > 0 for b in several)
    assert ax.get_title() == name and len(ax.lines) == skips
    assert sum(type(patch) is plt.Rectangle for patch in ax.patches) == len(several) > 1
    plt.close(figure)


def test_an_operation_is_drawn_with_its_footprint():
    case = next(c for c in ops.cases(["max_pool2d"]) if isinstance(c.inputs[0], tuple) and len(c.inputs[0]) == 4)
    figure, words = draw_operation(case)
    assert words.startswith(f"max_pool2d, {case.label}: ") and words.endswith("depends on 1 of the input's.")
    assert len(figure.axes) == 3
    plt.close(figure)


def first_cases():
    """The first case of each operation, which is the one that is drawn."""
    return list({case.name: case for case in reversed(ops.cases())}.values())


@pytest.mark.parametrize("case", first_cases(), ids=lambda case: case.name)
def test_every_operation_can_be_drawn(case):
    figure, words = draw_operation(case)
    *inputs, result, gradient = [ax.get_title().split(", ")[0] for ax in figure.axes]
    assert 1 <= len(inputs) <= 3 and (result, gradient) == ("result", "gradient")
    assert words.startswith(f"{case.name}, {case.label}: an input of ")
    assert " depends on 0 of " not in words  # a gradient that shows nothing
    plt.close(figure)


def test_small_planes_show_their_numbers():
    (case,) = [c for c in ops.cases(["roi_pool"]) if c.label == "the published example"]
    figure, _ = draw_operation(case)
    shown = [text.get_text() for text in figure.axes[1].texts]
    plt.close(figure)
    assert len(shown) == 4
    assert shown == [f"{v:g}" for v in case.run(*map(Tensor, case.arrays())).numpy().round(2).ravel()]


def test_arrays_are_drawn_beside_each_other():
    matrix = ops.conv_matrix(np.ones((1, 1, 3, 3)), (4, 4)).toarray()
    figure, words = draw_arrays("a convolution", {"weight": np.ones((1, 1, 3, 3)), "matrix": matrix})
    assert [ax.get_title() for ax in figure.axes] == ["weight, 3 x 3", "matrix, 4 x 16"]
    assert words == "a convolution: weight 3 x 3, 9 not zero, matrix 4 x 16, 36 not zero."  # 4 places, 9 taps each
    plt.close(figure)


def test_a_plane_of_any_array():
    assert plane(np.zeros((2, 3, 4, 5))).shape == (4, 5) and plane(np.zeros(3)).shape == (1, 3)
    assert plane(np.float64(1)).shape == (1, 1)


def test_an_empty_case_is_refused():
    empty = ops.Case(ops.relu, "empty", np.zeros((0, 3)), loop=None)
    with pytest.raises(ValueError, match="draw_operation: relu-empty has no input with numbers"):
        draw_operation(empty)
    assert ops.relu(Tensor(np.zeros((0, 3)))).shape == (0, 3)
