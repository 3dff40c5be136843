"""U-Net from its figure, in plain PyTorch: the oracle for the network and for its training."""

import pytest

from tests.oracle import require


@pytest.fixture(name="torch")
def torch_with_one_thread():
    """PyTorch with one thread: on maps as small as the tests' others only wait for each other."""
    module = require("torch")
    before = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(before)


def torch_unet(torch, x, weights, depth, padding):
    """Scores of images x; ``weights`` by minicv's names; ``padding`` of the 3x3 convs: 0 is "valid", 1 is "same"."""
    F = torch.nn.functional

    def layer(op, x, name, **options):
        return op(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def two_convs(x, name):
        x = F.relu(layer(F.conv2d, x, f"{name}.conv1", padding=padding))
        return F.relu(layer(F.conv2d, x, f"{name}.conv2", padding=padding))

    def level(x, i):
        """Everything at and below level i."""
        x = two_convs(x, f"contract.{i}")
        if i == depth:
            return x
        below = layer(F.conv_transpose2d, level(F.max_pool2d(x, 2), i + 1), f"up.{depth - 1 - i}", stride=2)
        cut_h, cut_w = ((x.shape[k] - below.shape[k]) // 2 for k in (2, 3))
        x = x[:, :, cut_h:x.shape[2] - cut_h, cut_w:x.shape[3] - cut_w]
        return two_convs(torch.cat([x, below], dim=1), f"expand.{depth - 1 - i}")

    return layer(F.conv2d, level(x, 0), "head")
