"""Checkpoints: one safetensors file that says which model it is for. Written whole or not at all, never unpickled."""
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .. import models
from ..files import atomic_write
from ..nn import Module, init

if TYPE_CHECKING:
    from .loop import Training

FORMAT = "minicv 1"
OPTIMIZER = "optimizer."  # what the names of its arrays begin with


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the reason."""


def checksum(description: str, state: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that a checkpoint holds: safetensors notices a damaged structure, not a damaged number."""
    digest = hashlib.sha256(description.encode())
    for name, array in sorted(state.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike, model: Module, more: dict[str, np.ndarray] | None = None,
                    **info: Any) -> None:
    """Write the model's weights, how it was built, and ``info`` (anything JSON can hold) to ``path``.

    ``more`` are further arrays. The model must come from ``minicv.models.build``. The file appears under its name only
    when complete.
    """
    if not hasattr(model, "recipe"):
        raise ValueError(f"save_checkpoint: {type(model).__name__} was not made by minicv.models.build, so the "
                         "checkpoint could not say how to build it again")
    state = {**model.state_dict(), **(more or {})}
    recipe, info = json.dumps(model.recipe), json.dumps(info)
    metadata = {"format": FORMAT, "recipe": recipe, "info": info, "checksum": checksum(recipe + info, state)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(state, metadata))  # its save_file makes files that only their owner may read


def read_checkpoint(path: str | os.PathLike) -> tuple[dict, dict, dict[str, np.ndarray]]:
    """What a checkpoint holds: how its model was built, ``info``, and all arrays by name. ``CheckpointError``."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # TypeError: numbers that NumPy has not
        raise CheckpointError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: its format is {metadata.get('format')!r}, this version reads {FORMAT!r}")
    if metadata.get("checksum") != checksum(metadata.get("recipe", "") + metadata.get("info", ""), state):
        raise CheckpointError(f"{path}: damaged: its contents do not match its checksum")
    try:
        recipe, info = json.loads(metadata["recipe"]), json.loads(metadata["info"])
        return {key: recipe[key] for key in ("model", "preset", "options")}, info, state
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description of the model is damaged ({error!r})") from error


def load_checkpoint(path: str | os.PathLike, expect: str | None = None) -> tuple[Module, dict]:
    """The model of a checkpoint, built anew with its weights, and the ``info`` that was saved with it.

    Raises ``CheckpointError`` for a file that is missing, damaged, not minicv's, of a newer format, of another model
    than ``expect``, or whose weights do not fit.
    """
    recipe, info, state = read_checkpoint(path)
    if expect is not None and recipe["model"] != expect:
        raise CheckpointError(f"{path}: holds the model {recipe['model']!r}, not {expect!r}")
    try:
        with init.blank():  # the weights come from the file
            model = models.build(recipe["model"], recipe["preset"], **recipe["options"])
        model.load_state_dict({name: array for name, array in state.items() if not name.startswith(OPTIMIZER)})
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model, info


def save_training(path: str | os.PathLike, training: Training, **info: Any) -> None:
    """A checkpoint of a model in training, from which ``load_training`` goes on bit for bit."""
    state = {OPTIMIZER + name: np.asarray(value) for name, value in training.optimizer.state_dict().items()}
    save_checkpoint(path, training.model, state, **info, step=training.step)


def load_training(path: str | os.PathLike, training: Training, same: dict[str, Any]) -> dict:
    """Take over weights, optimiser and step; the ``info``, in which everything in ``same`` must be as it is there.

    Raises ``CheckpointError``, with nothing taken over, for what ``load_checkpoint`` refuses, for another model, and
    for other data or another recipe.
    """
    recipe, info, state = read_checkpoint(path)
    if recipe != json.loads(json.dumps(training.model.recipe)):
        raise CheckpointError(f"{path}: holds the model {recipe}, not {training.model.recipe}")
    for name, value in json.loads(json.dumps(same)).items():
        there = info.get(name)
        if there != value:
            if isinstance(there, dict) and isinstance(value, dict):  # of a recipe, only what differs
                apart = [key for key in {**there, **value} if there.get(key) != value.get(key)]
                there, value = ({key: each.get(key) for key in apart} for each in (there, value))
            raise CheckpointError(f"{path}: is of a run with {name} {there}, not {value}; go on with that one, or "
                                  "start anew in another folder")
    optimizer = {name.removeprefix(OPTIMIZER): array if array.ndim else array.item()
                 for name, array in state.items() if name.startswith(OPTIMIZER)}
    if not isinstance(info.get("step"), int):
        raise CheckpointError(f"{path}: holds a model, but not the state of its training")
    try:
        training.optimizer.load_state_dict(optimizer)
        training.model.load_state_dict({n: array for n, array in state.items() if not n.startswith(OPTIMIZER)})
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    training.step = training.schedule.count = info["step"]
    training.schedule.apply()
    return info
