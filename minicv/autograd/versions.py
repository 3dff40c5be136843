"""Detect arrays that were changed after forward saved them: backward would silently return a wrong gradient.

PyTorch counts the versions of its tensors; NumPy's arrays have no count. So a call records a fingerprint of each array
that it saves and that other code can reach (an argument, an option or a result), and backward compares them. This is
1% of a U-Net's training step and 2 to 3% of a small ResNet-18's (``python -m tests.benchmarks.where unet resnet18``).
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import Array, parallel_chunks

SMALL = 1 << 12  # bytes: smaller arrays are hashed whole
WIDTH = 509  # words per line, a prime: a shift within an array is seldom one by whole lines
SAMPLE = 256  # words that are read of a large result


def owner(a: Any) -> Any:
    """The owner of an array's memory: an array, or the memory map or buffer behind it."""
    while (base := getattr(a, "base", None)) is not None:
        a = base
    return a


def fingerprint(array: np.ndarray, whole: bool = True) -> int:
    """A hash of the array's bytes; for a large array, of the column sums of its lines of WIDTH words.

    So any change of a single word is detected, at the speed of memory. If not ``whole``, only SAMPLE words from all
    over a large array are hashed.
    """
    flat = array.ravel("K").view(np.uint8)
    if flat.size <= SMALL:
        return hash(flat.tobytes())
    words = flat[:flat.size & -8].view(np.uint64)
    if not whole:
        return hash(words[::words.size // SAMPLE].tobytes())
    lines = words.size // WIDTH
    sums = parallel_chunks(lambda part: part.sum(axis=0), words[:WIDTH * lines].reshape(lines, WIDTH))
    return hash(b"".join(map(bytes, sums)) + flat[8 * WIDTH * lines:].tobytes())


Mark = tuple[np.ndarray, int, bool]


def marks(saved: Iterable[Any], leaves: Iterable[Array], others: Iterable[Array | None]) -> list[Mark]:
    """(array, fingerprint, whole or not) of the saved NumPy arrays that share memory with ``leaves`` or ``others``.

    Only a sample of the others is read: one training step makes hundreds of megabytes of them.
    """
    reach = {id(owner(a)): False for a in others}
    reach.update((id(owner(a)), True) for a in leaves)
    found = []
    for a in saved:
        if isinstance(a, np.ndarray) and (whole := reach.get(id(owner(a)))) is not None:
            found.append((a, fingerprint(a, whole), whole))
    return found


def check(name: str, noted: Iterable[Mark]) -> None:
    """Raise ``RuntimeError`` if an array has changed."""
    for array, before, whole in noted:
        if fingerprint(array, whole) != before:
            raise RuntimeError(
                f"{name}.backward: an array {array.dtype} {array.shape} was changed after forward had saved it: by "
                "x.data[...] = or t[...] =, or by a write to the NumPy array that the Tensor was made of. Change it "
                "after backward, or make the Tensor of a copy, Tensor(array.copy())")
