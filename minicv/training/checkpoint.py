"""Checkpoints: one safetensors file with the weights and how to build their model. Written atomically, never unpickled.
"""
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
from ..data.registry import DATASETS
from ..data.spec import parse_spec
from ..errors import UserError
from ..files import atomic_write, to_json
from ..nn import Module, init
from .old_names import OLD_FORMAT, rename, rename_all

if TYPE_CHECKING:
    from .loop import Training

FORMAT = "minicv 2"
OPTIMIZER = "optimizer."  # prefix of its arrays' names


class CheckpointError(UserError):
    """A checkpoint cannot be used; the message names the file and the reason."""


def checksum(description: str, state: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of a checkpoint's contents; safetensors itself detects no damaged numbers."""
    digest = hashlib.sha256(description.encode())
    for name, array in sorted(state.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_checkpoint(path: str | os.PathLike, model: Module, extra_arrays: dict[str, np.ndarray] | None = None,
                    **info: Any) -> None:
    """Write the model's weights, ``extra_arrays``, how the model was built, and ``info`` to ``path``.

    The model must come from ``minicv.models.build``. ``info`` is anything that JSON can hold; NaN becomes null. The
    file appears under its name only when it is complete.
    """
    if not hasattr(model, "build_args"):
        raise ValueError(f"save_checkpoint: {type(model).__name__} was not built by minicv.models.build, so a "
                         "checkpoint could not record how to rebuild it")
    _write(path, model.build_args, info, {**model.state_dict(), **(extra_arrays or {})})


def strip_optimizer(source: str | os.PathLike, target: str | os.PathLike) -> None:
    """Write a copy of a checkpoint without its optimizer: a third of the size, for evaluate and predict."""
    args, info, state = read_checkpoint(source)
    _write(target, args, info, {name: array for name, array in state.items() if not name.startswith(OPTIMIZER)})


def _write(path: str | os.PathLike, build_args: dict, info: dict, state: dict[str, np.ndarray]) -> None:
    args, notes = to_json(build_args), to_json(info)
    metadata = {"format": FORMAT, "build_args": args, "info": notes, "checksum": checksum(args + notes, state)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(state, metadata))  # its save_file makes files that only their owner may read


def read_checkpoint(path: str | os.PathLike) -> tuple[dict, dict, dict[str, np.ndarray]]:
    """Return what a checkpoint holds: ``model.build_args``, ``info``, and all arrays by name.

    Files of older versions are returned in today's names, see ``old_names.py``. Raises ``CheckpointError``.
    """
    if Path(path).is_dir():
        raise CheckpointError(f"{path}: is a folder; name the file, such as last.safetensors")
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such checkpoint; minicv train ... --out DIR writes DIR/last.safetensors")
    try:
        with safe_open(path, "numpy") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, TypeError) as error:  # TypeError: a dtype that NumPy lacks
        raise CheckpointError(f"{path}: not a safetensors file, or a damaged one ({error}); minicv train "
                              "writes such files; load_pretrained reads PyTorch's weights") from error
    if old := metadata.get("format") == OLD_FORMAT:
        metadata = rename("metadata", metadata)
    elif metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: its format is {metadata.get('format')!r}, this version reads {FORMAT!r}" + (
            "" if str(metadata.get("format")).startswith("minicv") else
            "; minicv.training.load_pretrained reads weights alone"))
    if metadata.get("checksum") != checksum(metadata.get("build_args", "") + metadata.get("info", ""), state):
        raise CheckpointError(f"{path}: damaged: its contents do not match its checksum")
    try:
        args, info = json.loads(metadata["build_args"]), json.loads(metadata["info"])
        args = {key: args[key] for key in ("model", "preset", "options")}
        if list(map(type, args.values())) != [str, str, dict] or not isinstance(info, dict):
            raise TypeError("model and preset must be text, options and info objects")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: its description of the model is damaged ({error!r})") from error
    return rename_all(args, info, state) if old else (args, info, state)


def load_checkpoint(path: str | os.PathLike, expect: str | None = None) -> tuple[Module, dict]:
    """Build the model of a checkpoint and load its weights; return it and the ``info`` that was saved with it.

    Raises ``CheckpointError`` if the file is missing, damaged, not minicv's, of a newer format, of another model than
    ``expect``, or has weights that do not fit.
    """
    args, info, state = read_checkpoint(path)
    if expect is not None and args["model"] != expect:
        raise CheckpointError(f"{path}: holds the model {args['model']!r}, not {expect!r}")
    try:
        with init.blank():  # the weights come from the file
            model = models.build(args["model"], args["preset"], **args["options"])
        model.load_state_dict({name: array for name, array in state.items() if not name.startswith(OPTIMIZER)})
    except (LookupError, ArithmeticError, AttributeError, TypeError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{path}: {error if str(error) else type(error).__name__}") from error
    return model, info


def model_arguments(args: dict) -> dict[str, Any]:
    """Return all arguments of a model, from its options, its preset or its class's defaults, as JSON stores them."""
    cls: Any = models.model_class(args["model"])
    defaults = {name: parameter.default for name, parameter in models.model_options(cls).items()}
    return json.loads(to_json({"name": args["model"], **defaults, **cls.PRESETS[args["preset"]],
                               **args["options"]}, default=str))


def resolve_spec(spec: str) -> str:
    """Return a data set's spec with the real path of its folder."""
    parts = parse_spec(spec)
    return str(parts._replace(path=os.path.realpath(parts.path))) if parts.path and parts.name in DATASETS else spec


def save_training(path: str | os.PathLike, training: Training, **info: Any) -> None:
    """Write a checkpoint from which ``load_training`` continues; on a CPU bit for bit, see docs/reproducibility.md."""
    state = {OPTIMIZER + name: np.asarray(value) for name, value in training.optimizer.state_dict().items()}
    save_checkpoint(path, training.model, state, **info, step=training.step)


def check_training_info(path: str | os.PathLike, info: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` unless ``info`` holds the numbers that a training needs to continue."""
    if "step" not in info:
        raise CheckpointError(f"{path}: holds a model, but not the state of its training")
    config = info.get("config", {"steps": 0})
    steps = config.get("steps") if isinstance(config, dict) else None
    for name, value, kinds in (("step", info["step"], int), ("config's steps", steps, int),
                               ("seconds", info.get("seconds", 0), int | float),
                               ("patience_from", info.get("patience_from", 0), int)):
        if not isinstance(value, kinds) or isinstance(value, bool) or not 0 <= value < np.inf:
            raise CheckpointError(f"{path}: damaged: its {name} is {value!r:.80}, which no training writes")
    best = info.get("best")
    if isinstance(best, bool) or not isinstance(best, int | float | None):
        raise CheckpointError(f"{path}: damaged: its best is {best!r:.80}, which no training writes")


def load_training(path: str | os.PathLike, training: Training, metadata: dict[str, Any]) -> dict:
    """Load weights, optimizer and step into a training; return the checkpoint's ``info``.

    The checkpoint must have the same model and the same ``metadata``, but may have had fewer steps in its
    configuration. Raises ``CheckpointError``, with nothing loaded, for what ``load_checkpoint`` refuses, for another
    model, other metadata, and if more steps are done than the configuration has.
    """
    args, info, state = read_checkpoint(path)
    check_training_info(path, info)
    try:
        saved = {"model": model_arguments(args), **{name: info.get(name) for name in metadata}}
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    check_same(path, saved, json.loads(to_json({"model": model_arguments(training.model.build_args), **metadata})))
    if info["step"] > training.config.steps:
        raise CheckpointError(f"{path}: {info['step']} steps are done already, more than the requested "
                              f"{training.config.steps}")
    optimizer = {name.removeprefix(OPTIMIZER): array if array.ndim else array.item()
                 for name, array in state.items() if name.startswith(OPTIMIZER)}
    try:
        training.optimizer.load_state_dict(optimizer)
        training.model.load_state_dict({n: array for n, array in state.items() if not n.startswith(OPTIMIZER)})
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    training.step = info["step"]
    training.schedule.step(info["step"])
    return info


def check_same(path: str | os.PathLike, saved: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise ``CheckpointError`` at the first name whose values differ, the number of steps aside."""
    for name, old in saved.items():
        new = given[name]
        if isinstance(old, dict) and isinstance(new, dict):
            differing = [key for key in {**old, **new} if old.get(key) != new.get(key) and key != "steps"]
            old, new = (", ".join(f"{key} {each.get(key)}" for key in differing) for each in (old, new))
        if name == "data" and isinstance(old, str):
            old, new = resolve_spec(old), resolve_spec(new)
        if old != new:
            raise CheckpointError(f"{path}: this run was started with {name} {old}, not {new}; continue it with "
                                  "the same, or choose another --out")
