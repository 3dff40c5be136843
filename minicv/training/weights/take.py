"""Start a network from weights: what is taken, what is left in the file, what keeps its random numbers."""
from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ...files import abbreviate, count_of
from ...models import is_backbone
from ...nn import BatchNorm2d, Module
from ..checkpoint import CheckpointError
from .layouts import named_arrays, place
from .read import read_weights


@dataclass
class Taken:
    """What a network took from ``path``: names and sizes of its arrays ``taken`` and of those that start at ``random``;
    names ``left`` in the file, and all ``names`` of the file. ``gray``: the first layer's three colors were added up.
    """

    path: str
    names: list[str]
    left: list[str]
    taken: dict[str, int]
    random: dict[str, int]
    gray: bool

    def lines(self) -> list[str]:
        """Return three lines of text."""
        used = [name for name in self.names if name not in {*self.left}]
        gray = "; the three colors of the first layer added up, as the images are gray" if self.gray else ""
        return [f"taken from {self.path}: {describe(self.taken, self.random)}{gray}",
                f"left in the file: {describe(dict.fromkeys(self.left, 0), used)}",
                f"start at random: {describe(self.random, self.taken)}"]


def describe(sizes: Mapping[str, int], others: Iterable[str]) -> str:
    """Return arrays in words, by modules that have none of the ``others``.

    >>> describe({"head.fc6.weight": 6, "head.fc6.bias": 2, "rpn.conv.bias": 1}, ["head.score.weight"])
    'head.fc6, rpn (3 arrays, 9 numbers)'
    """
    if not sizes:
        return "nothing"
    barred = {".".join(name.split(".")[:n]) for name in others for n in range(1, len(name.split(".")) + 1)}
    modules = {}
    for name in sizes:
        parts = name.split(".")
        starts = [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
        modules[next((start for start in starts if start not in barred), name)] = True
    total = sum(sizes.values())
    return f"{abbreviate(modules)} ({count_of(len(sizes), 'array')}" + (f", {total:,} numbers)" if total else ")")


def load_pretrained(model: Module, path: str | os.PathLike) -> Taken:
    """Start a network from the weights in a file: PyTorch's, safetensors or a checkpoint; return what was taken.

    See ``read_weights`` for the files and ``take_weights`` for what fits.
    """
    return take_weights(model, read_weights(path))


def take_weights(model: Module, weights: Mapping[str, np.ndarray]) -> Taken:
    """Load every array that has a place and the same shape in the network; return what was taken.

    The weights are those of ``read_weights``, or a ``state_dict()``. ``layouts.py`` lists where they may come from. The
    backbone must be there whole. Of the other layers (scores of other classes, say) those that differ in shape are left
    in the file, with all of their arrays and the batch norm behind them. Where images are gray, the kernels of a first
    layer for colors are added up: their sum sees in a gray value what they see in three equal ones. Raises
    ``CheckpointError``, and changes nothing, if the backbone does not fit or a number is not finite.
    """
    path, own, placed = getattr(weights, "path", "the weights"), named_arrays(model), place(model, weights)
    arrays = {name: each.array for name, each in placed.items()}
    gray = [name for name, array in arrays.items() if is_backbone(model, name) and array.ndim == 4
            and array.shape[1] == 3 and own[name].shape == (len(array), 1, *array.shape[2:])]
    arrays |= {name: arrays[name].sum(axis=1, keepdims=True, dtype=np.float32) for name in gray}
    other = {name for name, array in arrays.items() if array.shape != own[name].shape}
    layers = with_batch_norm(model, {name.rpartition(".")[0] for name in other})
    taken = {name: array for name, array in arrays.items() if name.rpartition(".")[0] not in layers}
    backbone = [name for name in own if is_backbone(model, name)]
    if missing := [name for name in backbone if name not in taken]:
        raise CheckpointError(f"{path}: " + (
            reason(model, backbone, weights) if not placed else
            f"has no {abbreviate(missing)} for {kind(model)}" if not other & set(backbone) else
            next(f"{' and '.join(placed[name].names)} is {arrays[name].shape}, and {kind(model)} has "
                 f"{tuple(own[name].shape)} there" for name in backbone if name in other)))
    if broken := [name for name, array in taken.items() if not np.isfinite(array).all()]:
        raise CheckpointError(f"{path}: has NaN or infinite numbers in {abbreviate(broken)}")
    model.load_state_dict({**model.state_dict(), **taken})
    used = {name for target in taken for name in placed[target].names}
    sizes = {name: int(array.size) for name, array in own.items()}
    return Taken(path, list(weights), left=[name for name in weights if name not in used],
                 taken={name: size for name, size in sizes.items() if name in taken},
                 random={name: size for name, size in sizes.items() if name not in taken}, gray=bool(gray))


def with_batch_norm(model: Module, layers: set[str]) -> set[str]:
    """Return the names of layers, and of each batch norm that directly follows one: its averages are of that layer."""
    previous, found = "", set(layers)
    for name, module in model.named_modules():
        if isinstance(module, BatchNorm2d) and previous in layers:
            found.add(name)
        elif any(True for _ in module.named_parameters(recurse=False)):
            previous = name
    return found


def kind(model: Module) -> str:
    """Return the name of a network, for messages."""
    return getattr(model, "build_args", {}).get("model", type(model).__name__)


def reason(model: Module, backbone: list[str], weights: Mapping[str, np.ndarray]) -> str:
    """Return why nothing of the weights belongs into the network."""
    theirs, ours = (f"{next(iter(names), 'none')} and {max(len(names) - 1, 0)} more" for names in (weights, backbone))
    return f"holds nothing for the backbone of {kind(model)}; its arrays are {theirs}, the network's {ours}"
