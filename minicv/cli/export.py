"""``minicv export``: the weights of a checkpoint alone, as PyTorch and other programs read them."""
from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import check_folder, count_of

NORMALIZED = {"image": "their own mean and deviation", "imagenet": "ImageNet's means and deviations"}
ENDINGS = {"torch": ".pth", "safetensors": "_weights.safetensors"}


def add_parsers(commands: Any) -> None:
    """Add the command to the subparsers of ``minicv``."""
    add = commands.add_parser(
        "export", help="write the weights of a checkpoint for PyTorch",
        description="Writes the weights of a network alone, without the optimizer: for torch.load or as safetensors. "
        "Networks that torchvision has, too, get torchvision's names. train --start reads the file, too.")
    add.add_argument("checkpoint", metavar="CHECKPOINT", help="the trained network")
    add.add_argument("--to", required=True, choices=list(ENDINGS), help="torch: a state_dict for torch.load, also with "
                     "weights_only=True; safetensors: for safetensors.torch.load_file")
    add.add_argument("--out", type=Path, metavar="FILE", help="where to write (default: beside the checkpoint, "
                     "NAME.pth or NAME_weights.safetensors)")
    add.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """minicv export"""
    from .. import training
    model: Any = training.load_checkpoint(args.checkpoint)[0]
    path = Path(args.checkpoint)
    out = args.out or path.with_name(path.stem + ENDINGS[args.to])
    if out.resolve() == path.resolve():
        raise UserError(f"--out {out}: would overwrite the checkpoint")
    check_folder(out.parent, "--out")
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder; name the file")
    out.parent.mkdir(parents=True, exist_ok=True)
    named = "torchvision" if training.export_weights(out, model, args.to) else "minicv"
    sizes = [array.size for array in model.state_dict().values()]
    print(f"{out}\n{count_of(len(sizes), 'array')}, {sum(sizes):,} numbers, named as in {named}; images in 0..1 are "
          f"normalized by {NORMALIZED[getattr(model, 'normalization', 'imagenet')]}")
    return 0
