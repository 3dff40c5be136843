import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 - after the choice of a backend that needs no screen

from minicv import models  # noqa: E402
from minicv.viz.unet import FeatureMap, draw_unet, feature_maps  # noqa: E402


def test_walk_gives_the_sizes_of_figure_1():
    maps = feature_maps(models.build("unet", "paper", width=1), 572)  # the sides do not depend on the width
    # U-Net, Fig. 1, from the input to the output, level by level
    assert [m.side for m in maps] == [572, 570, 568, 284, 282, 280, 140, 138, 136, 68, 66, 64, 32, 30, 28,
                                      56, 54, 52, 104, 102, 100, 200, 198, 196, 392, 390, 388, 388]
    assert [m.channels for m in maps] == [1, 1, 1, 1, 2, 2, 2, 4, 4, 4, 8, 8, 8, 16, 16,
                                          16, 8, 8, 8, 4, 4, 4, 2, 2, 2, 1, 1, 2]
    assert maps[0] == FeatureMap(0, 572, 1, "input") and maps[-1] == FeatureMap(0, 388, 2, "head")
    assert maps[15] == FeatureMap(3, 56, 16, "up", copied=8)


def test_feature_maps_of_a_padded_net_keeps_the_sides():
    maps = feature_maps(models.build("unet", in_channels=3, width=4, depth=1, padding="same"), 20)
    assert maps == [FeatureMap(*fields) for fields in (
        (0, 20, 3, "input"), (0, 20, 4, "conv"), (0, 20, 4, "conv"), (1, 10, 4, "pool"), (1, 10, 8, "conv"),
        (1, 10, 8, "conv"), (0, 20, 8, "up", 4), (0, 20, 4, "conv"), (0, 20, 4, "conv"), (0, 20, 2, "head"))]


def test_draw_unet_writes_channels_and_sides():
    maps = feature_maps(models.build("unet", width=4, depth=1), 20)
    ax = draw_unet(maps)
    numbers = [int(text.get_text()) for text in ax.texts if text.get_text()]
    assert numbers == [n for m in maps for n in (m.channels, m.side)]
    assert len(ax.patches) == len(maps) + 1  # a box each, and one for the copied half
    with pytest.raises(ValueError, match="draw_unet: unknown made_by \\['pooling'\\]; use 'input', 'conv'"):
        draw_unet([FeatureMap(0, 8, 1, "pooling")])
    plt.close("all")
