"""Pictures of networks and operations: the blocks are those of the network, the words say what is drawn."""
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minicv import Tensor, models, nn, ops
from minicv import ops as F
from minicv.viz.architecture import blocks, describe, draw_architecture
from minicv.viz.operation import draw_operation, plane


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


@pytest.mark.parametrize("name", ["resnet18", "mask_rcnn", "deeplabv3plus"])
def test_networks_can_be_drawn(name):
    model = models.build(name)
    figure = draw_architecture(blocks(model, model.INPUT["compact"]), name)
    assert figure.axes[0].get_title() == name and len(figure.axes[0].patches) >= 5
    plt.close(figure)


def test_an_operation_is_drawn_with_its_footprint():
    case = next(c for c in ops.cases(["max_pool2d"]) if isinstance(c.inputs[0], tuple) and len(c.inputs[0]) == 4)
    figure, words = draw_operation(case)
    assert words.startswith(f"max_pool2d, {case.label}: ") and words.endswith("depends on 1 of the input's.")
    assert len(figure.axes) == 3
    plt.close(figure)


def test_a_plane_of_any_array():
    assert plane(np.zeros((2, 3, 4, 5))).shape == (4, 5) and plane(np.zeros(3)).shape == (1, 3)
    assert plane(np.float64(1)).shape == (1, 1)


def test_an_empty_case_is_refused():
    empty = ops.Case(ops.relu, "empty", np.zeros((0, 3)), loop=None)
    with pytest.raises(ValueError, match="draw_operation: relu-empty has no input with numbers"):
        draw_operation(empty)
    assert ops.relu(Tensor(np.zeros((0, 3)))).shape == (0, 3)
