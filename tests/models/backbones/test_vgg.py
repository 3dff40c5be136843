import numpy as np
import pytest

from minicv import Tensor, models
from minicv.nn import init
from tests.oracle import require


def paper(**options):
    with init.blank():
        return models.build("vgg16", "paper", **options)


# Table 2 of the paper, in millions: A 133, B 133, D 138, E 144; to the last one from table 1:
# A has convolutions of 9,220,480 parameters, and all have 25088 * 4096 + 4096 + 4096^2 + 4096 + 4096 * 1000 + 1000
# = 123,642,856 behind them.
@pytest.mark.parametrize(("depth", "parameters"), [
    (11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)])
def test_parameters(depth, parameters):
    model = paper(depth=depth)
    assert model.num_parameters() == parameters
    layers = [p for p in model.parameters() if p.ndim > 1]  # weights of convolutions and fully connected layers
    assert len(layers) == depth
    if depth == 11:
        assert parameters == 9_220_480 + 123_642_856


@pytest.mark.parametrize(("depth", "batch_norm"), [(11, False), (16, False), (16, True), (19, True)])
def test_names_are_torchvisions(depth, batch_norm):
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    theirs = agreement.torch_names_and_shapes(lambda: plain_torch.VGG(depth=depth, batch_norm=batch_norm))
    assert agreement.names_and_shapes(paper(depth=depth, batch_norm=batch_norm)) == theirs


@pytest.mark.parametrize(("depth", "batch_norm", "train"), [(16, False, True), (11, True, True), (11, True, False)])
def test_agrees_with_pytorch(tmp_path, depth, batch_norm, train):
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    ours = paper(num_classes=10, hidden=32, depth=depth, batch_norm=batch_norm)
    theirs = plain_torch.VGG(10, 32, depth, batch_norm)
    size = (64, 32) if batch_norm else (32, 32)  # two values a channel at least
    agreement.check_agreement(ours, theirs, (2, 3, *size), train, tmp_path / "w.pth")


def test_sizes_of_table_1():
    model = models.build("vgg16", "paper", width=1, hidden=8).eval()
    maps = model.stages(Tensor(np.zeros((1, 3, 224, 224), "f4")))
    assert [maps[f"pool{i}"].shape[1:] for i in range(1, 6)] == [
        (1, 112, 112), (2, 56, 56), (4, 28, 28), (8, 14, 14), (8, 7, 7)]
    assert maps["relu5_3"].shape == (1, 8, 14, 14)
    assert list(maps)[-1] == "pool5"


def test_other_depths_are_refused():
    with pytest.raises(ValueError, match=r"VGG\(depth=12\): the depths are 11, 13, 16, 19"):
        paper(depth=12)
