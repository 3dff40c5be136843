"""torchvision's models as oracles, on any build of PyTorch; skips where torch or torchvision is absent.

The wheels of PyPI are built for PyTorch with CUDA. Beside PyTorch for CPUs their compiled operators do not load, and
the import fails at the first that it registers. The models here need none of them, so their names suffice.
"""
from __future__ import annotations

import sys

from tests.oracle import require

torch = require("torch")

try:
    require("torchvision")
except RuntimeError:  # operator torchvision::nms does not exist
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    LIBRARY = torch.library.Library("torchvision", "DEF")  # removes its operators when it is collected
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    require("torchvision")

from torchvision import models  # noqa: E402

SEGMENTATION = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")


def random_network(name: str, num_classes: int = 10):
    """Return a network of torchvision's in evaluation mode, with random weights and batch norm statistics.

    He et al.'s deviation keeps the maps in range; drawn uniformly, which is fast.
    """
    options = {"googlenet": {"aux_logits": False, "init_weights": False}}.get(name, {})
    if name in SEGMENTATION:
        options = {"weights_backbone": None, "aux_loss": True}
    with torch.device("meta"):  # without drawing the weights twice
        network = getattr(models.segmentation if name in SEGMENTATION else models, name)(
            weights=None, num_classes=num_classes, **options)
    network = network.to_empty(device="cpu")
    torch.manual_seed(0)
    for each, t in network.state_dict().items():
        if each.endswith("num_batches_tracked"):
            t.fill_(3)
        elif t.ndim > 1:
            bound = (6 / t[0].numel()) ** 0.5
            t.uniform_(-bound, bound)
        elif each.endswith(("running_var", "weight")):  # of batch norm
            t.uniform_(0.5, 1.5)
        else:
            t.uniform_(-0.2, 0.2)
    return network.eval()
