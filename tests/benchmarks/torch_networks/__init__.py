"""The benchmarked networks in plain PyTorch, with its modules alone: nothing of minicv, nothing compiled by others.

Parameters have the names of minicv's, so both take the same weights. ``BUILDERS`` has the sizes.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from .classifiers import VGG, AlexNet, GoogLeNet, ResNet
from .dilated import DeepLabV3Plus, PSPNet
from .faster_rcnn import FasterRCNN
from .fcn import FCN8s
from .unet import UNet
from .yolo import COMPACT_LAYERS, PAPER_LAYERS, YOLO

HALF_RESNET = {"width": 24, "layers": (2, 2, 3, 2)}
BUILDERS: dict[tuple[str, str], Callable[[], nn.Module]] = {
    ("alexnet", "compact"): partial(AlexNet, 10, width=16, hidden=128, pooled=1),
    ("alexnet", "paper"): AlexNet,
    ("vgg16", "compact"): partial(VGG, 10, width=8, hidden=128, pooled=2, batch_norm=True),
    ("vgg16", "paper"): VGG,
    ("googlenet", "compact"): partial(GoogLeNet, 10, width=16, dropout=0.2),
    ("googlenet", "paper"): GoogLeNet,
    ("resnet18", "compact"): partial(ResNet, (1, 1, 1, 1), False, 10, width=16),
    ("resnet18", "paper"): partial(ResNet, (2, 2, 2, 2), False),
    ("resnet50", "compact"): partial(ResNet, (2, 2, 3, 2), True, 10, width=16),
    ("resnet50", "paper"): partial(ResNet, (3, 4, 6, 3), True),
    ("unet", "compact"): partial(UNet, width=16, depth=3),
    ("unet", "paper"): UNet,
    ("fcn8s", "compact"): partial(FCN8s, width=8, hidden=128, side=2, batch_norm=True, padding=17,
                                  offsets=(0, -1, 20)),
    ("fcn8s", "paper"): FCN8s,
    ("pspnet", "compact"): partial(PSPNet, 11, channels=96, pool_norm=False, **HALF_RESNET),
    ("pspnet", "paper"): PSPNet,
    ("deeplabv3plus", "compact"): partial(DeepLabV3Plus, 11, resnet=HALF_RESNET, rates=(6, 12, 18), channels=64,
                                          low_channels=16, decoder_channels=64, pool_norm=False, momentum=0.1),
    ("deeplabv3plus", "paper"): DeepLabV3Plus,
    ("faster_rcnn", "compact"): partial(FasterRCNN, convs=(1, 1, 2, 2), width=16, batch_norm=True, hidden=128,
                                        dropout=0.0),
    ("faster_rcnn", "paper"): FasterRCNN,
    ("yolo", "compact"): partial(YOLO, COMPACT_LAYERS, image_size=112, hidden=256, dropout=0.0, batch_norm=True),
    ("yolo", "paper"): partial(YOLO, PAPER_LAYERS),
}


def build(model: str, preset: str) -> nn.Module:
    return BUILDERS[model, preset]()
