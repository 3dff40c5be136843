"""Weights in a file, whoever wrote it: PyTorch (``.pth``), safetensors, or minicv (a checkpoint)."""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import safe_open

from ..checkpoint import FORMAT, OPTIMIZER, CheckpointError, model_arguments, read_checkpoint
from ..old_names import OLD_FORMAT
from .torch_files import numbers, read_legacy, read_zip
from .unpickler import BFLOAT16, SAVE

DTYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}  # of safetensors


class Weights(dict[str, np.ndarray]):
    """Arrays by name, as read from the file ``path``.

    ``normalization``: of the images that they were trained on, if they are a checkpoint's; None if unknown.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], path: str, normalization: str | None = None):
        super().__init__(arrays)
        self.path, self.normalization = path, normalization


def read_weights(path: str | os.PathLike) -> Weights:
    """Return the arrays of a ``.safetensors`` file, of a file of ``torch.save``, or of a checkpoint, by name.

    Of ``{"state_dict": ..., "epoch": ...}`` and the like, the weights are returned alone, without what wrappers put
    before every name ("module.", "_orig_mod."), PyTorch's counters of batches and minicv's optimizer. bfloat16 becomes
    float32.

    Nothing in the file is executed. Arrays may share memory, as the tensors did, and may be read-only. Raises
    ``CheckpointError`` if the file is missing, damaged, of another format, or holds anything but tensors by name.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
            file.seek(0)
            if start[8:] == b"{":  # eight bytes of length, then JSON
                return _read_safetensors(path)
            if start.startswith(b"PK"):
                return Weights(plain_names(read_zip(file)), str(path))
            if start.startswith(b"\x80"):
                return Weights(plain_names(read_legacy(file)), str(path))
        raise ValueError(f"neither a safetensors file nor one written by torch.save; {SAVE}")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except CheckpointError:
        raise
    except Exception as error:  # damage makes zipfile, pickle and NumPy raise nearly anything
        raise CheckpointError(f"{path}: no readable weights: {error or type(error).__name__}") from error


def _read_safetensors(path: str | os.PathLike) -> Weights:
    with safe_open(path, "numpy") as file:
        if (file.metadata() or {}).get("format") in (FORMAT, OLD_FORMAT):
            args, _, state = read_checkpoint(path)
            own = {name: array for name, array in state.items() if not name.startswith(OPTIMIZER)}
            return Weights(own, str(path), known_normalization(args))
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict
        unknown = sorted({kind for kind in kinds.values() if kind not in {*DTYPES, "BF16"}})
        if unknown:
            raise ValueError(f"numbers of type {', '.join(unknown)} are not read, convert the tensors to float32 first")
        arrays = {name: file.get_tensor(name) for name, kind in kinds.items() if kind != "BF16"}
    arrays |= _read_bfloat16(path, [name for name, kind in kinds.items() if kind == "BF16"])
    return Weights(plain_names({name: arrays[name] for name in kinds}), str(path))


def _read_bfloat16(path: str | os.PathLike, names: list[str]) -> dict[str, np.ndarray]:
    """Return arrays that the library cannot give to NumPy, from their bytes; the library has checked the header."""
    arrays = {}
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name in names:
            begin, end = header[name]["data_offsets"]
            file.seek(8 + size + begin)
            arrays[name] = numbers(file.read(end - begin), BFLOAT16, "little").reshape(header[name]["shape"])
    return arrays


def known_normalization(build_args: dict[str, Any]) -> str | None:
    """Return the option ``normalization`` of the model that ``build_args`` describe; None if it has none."""
    try:
        return model_arguments(build_args).get("normalization")
    except (KeyError, ValueError):  # a model or preset of another version; the weights may fit nevertheless
        return None


def plain_names(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays without counters, under names without what torch.compile and DataParallel add to them."""
    plain = {name.replace("_orig_mod.", ""): array for name, array in state.items()
             if not name.endswith("num_batches_tracked")}
    if plain and all(name.startswith("module.") for name in plain):
        return {name.removeprefix("module."): array for name, array in plain.items()}
    return plain
