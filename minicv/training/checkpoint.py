"""Checkpoints: one safetensors file that says which model it is for. Written whole or not at all, never unpickled."""
from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .. import models
from ..files import atomic_write
from ..nn import Module

FORMAT = "minicv 1"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message names the file and the reason."""


def checksum(description: str, state: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that a checkpoint holds: safetensors notices a damaged structure, not a damaged number."""
    digest = hashlib.sha256(description.encode())
    for name, array in sorted(state.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike, model: Module, **info: Any) -> None:
    """Write the model's weights, how it was built, and ``info`` (anything JSON can hold) to ``path``.

    The model must come from ``minicv.models.build``. The file appears under its name only when complete.
    """
    if not hasattr(model, "recipe"):
        raise ValueError(f"save_checkpoint: {type(model).__name__} was not made by minicv.models.build, so the "
                         "checkpoint could not say how to build it again")
    state, recipe, info = model.state_dict(), json.dumps(model.recipe), json.dumps(info)
    metadata = {"format": FORMAT, "recipe": recipe, "info": info, "checksum": checksum(recipe + info, state)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(state, metadata))  # its save_file makes files that only their owner may read


def load_checkpoint(path: str | os.PathLike, expect: str | None = None) -> tuple[Module, dict]:
    """The model of a checkpoint, built anew with its weights, and the ``info`` that was saved with it.

    Raises ``CheckpointError`` for a file that is missing, damaged, not minicv's, of a newer format, of another model
    than ``expect``, or whose weights do not fit.
    """
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
        name, preset, options = recipe["model"], recipe["preset"], recipe["options"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its description of the model is damaged ({error!r})") from error
    if expect is not None and name != expect:
        raise CheckpointError(f"{path}: holds the model {name!r}, not {expect!r}")
    try:
        model = models.build(name, preset, **options)
        model.load_state_dict(state)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    return model, info
