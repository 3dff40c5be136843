"""Write the weights of a network alone, for PyTorch: with torchvision's names where torchvision has the network."""
from __future__ import annotations

import os

from safetensors.numpy import save

from ...files import atomic_write
from ...nn import Module
from .layouts import is_torchvisions, rename, torchvision_names
from .torch_files import write_torch


def export_weights(path: str | os.PathLike, model: Module, to: str) -> bool:
    """Write the weights to a file of ``torch.save`` ("torch") or of safetensors; return whether the names are
    torchvision's.

    ``load_state_dict(..., strict=True)`` of the same network in PyTorch takes the file, and ``load_pretrained`` takes
    it back. The file appears under its name only when it is complete.
    """
    theirs = is_torchvisions(model)
    table = {ours: name for name, ours in torchvision_names(model).items()} if theirs else {}
    state = {rename(name, table): array for name, array in model.state_dict().items()}
    if to == "torch":
        write_torch(path, state)
    else:
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(state, {"format": "pt"}))
    return theirs
