"""Which commands belong to a network: those for labeling pixels, or those for finding objects."""
from __future__ import annotations

from typing import Any

from .. import models, training
from ..errors import UserError
from .commands import NetworkCommands
from .detection import DetectionCommands
from .segmentation import SegmentationCommands

COMMANDS: dict[str, NetworkCommands] = {"segmentation": SegmentationCommands(), "detection": DetectionCommands()}


def commands_for(model_name: str) -> NetworkCommands:
    """Return the commands of a network; ``UserError`` for a classifier, which has none."""
    commands = COMMANDS.get(models.MODELS[model_name].partition(".")[0])
    if commands is None:
        raise UserError(f"the model {model_name!r} neither labels pixels nor finds objects")
    return commands


def load_network(path: str) -> tuple[Any, dict, NetworkCommands]:
    """Return the model of a checkpoint, its metadata and its commands."""
    model: Any
    model, info = training.load_checkpoint(path)
    try:
        return model, info, commands_for(model.build_args["model"])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
