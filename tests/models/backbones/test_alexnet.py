import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor, models
from minicv.nn import init
from tests.oracle import require


def paper(**options):
    with init.blank():
        return models.build("alexnet", "paper", **options)


def test_parameters():
    # convolutions 64 * 363 + 64, 192 * 1600 + 192, 384 * 1728 + 384, 256 * 3456 + 256, 256 * 2304 + 256: 2,469,696;
    # fully connected 9216 * 4096 + 4096, 4096^2 + 4096, 4096 * 1000 + 1000: 58,631,144
    assert paper().num_parameters() == 2_469_696 + 58_631_144 == 61_100_840


def test_names_are_torchvisions():
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    assert agreement.names_and_shapes(paper()) == agreement.torch_names_and_shapes(plain_torch.AlexNet)


@pytest.mark.parametrize("train", [False, True])
def test_agrees_with_pytorch(tmp_path, train):
    require("torch")
    from tests.models.backbones import agreement, plain_torch
    agreement.check_agreement(paper(num_classes=10, hidden=64), plain_torch.AlexNet(10, 64), (2, 3, 95, 63), train,
                              tmp_path / "w.pth")


def test_sizes_of_the_figure():
    model = models.build("alexnet", "paper", width=8, hidden=8).eval()
    maps = model.stages(Tensor(np.zeros((1, 3, 224, 224), "f4")))
    assert {name: y.shape[2:] for name, y in maps.items() if name in ("conv1", "pool1", "pool2", "conv5", "pool5")} == {
        "conv1": (55, 55), "pool1": (27, 27), "pool2": (13, 13), "conv5": (13, 13), "pool5": (6, 6)}
    assert list(maps)[-1] == "pool5"


def test_local_response_norm_where_the_paper_has_it():
    model = models.build("alexnet", lrn=True).eval()
    maps = model.stages(Tensor(np.random.default_rng(0).standard_normal((2, 3, 70, 80)).astype("f4")))
    for layer in ("1", "2"):  # sec. 3.3: k = 2, n = 5, alpha = 1e-4 without division by n, beta = 0.75
        a = np.maximum(maps[f"conv{layer}"].data, 0).astype(np.float64)
        C = a.shape[1]
        sums = np.stack([(a[:, max(0, c - 2):min(C, c + 3)] ** 2).sum(1) for c in range(C)], 1)
        np.testing.assert_allclose(maps[f"relu{layer}"].data, a / (2 + 1e-4 * sums) ** 0.75, rtol=1e-5)
    assert (maps["relu3"].data == F.relu(maps["conv3"]).data).all()
