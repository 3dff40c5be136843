"""Has an array been changed since forward saved it? Then backward would return a wrong gradient without a word.

PyTorch counts the versions of its tensors; NumPy's arrays have no count. So a call notes a fingerprint of each array
that it saves and that somebody else can reach (an argument's, an option or a result), and backward compares. A chain of
small calls takes no longer; a U-Net's training step takes 1% longer, a small ResNet-18's 5%.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..backend import Array

SMALL = 1 << 12  # bytes: hashed as they are
WIDTH = 509  # words in a line, a prime: what changes places in an array seldom does so by whole lines
SAMPLE = 256  # words that are read of a large result


def owner(a: Any) -> Any:
    """The object whose memory an array is a view of: an array, or a file's mapping or a buffer behind one."""
    while (base := getattr(a, "base", None)) is not None:
        a = base
    return a


def fingerprint(array: np.ndarray, whole: bool = True) -> int:
    """A hash of the array's bytes; of a large one of the sums of its columns, as lines of WIDTH words.

    So no change of a single word goes unnoticed, at the speed of memory. Not ``whole``: of SAMPLE words from all over
    a large array.
    """
    flat = array.ravel("K").view(np.uint8)
    if flat.size <= SMALL:
        return hash(flat.tobytes())
    words = flat[:flat.size & -8].view(np.uint64)
    if not whole:
        return hash(words[::words.size // SAMPLE].tobytes())
    lines = words.size // WIDTH
    sums = words[:WIDTH * lines].reshape(lines, WIDTH).sum(axis=0)
    return hash(sums.tobytes() + flat[8 * WIDTH * lines:].tobytes())


Mark = tuple[np.ndarray, int, bool]


def marks(saved: Iterable[Any], leaves: Iterable[Array], others: Iterable[Array | None]) -> list[Mark]:
    """(array, fingerprint, whether of the whole) of the saved NumPy arrays that lie in memory of ``leaves``, or others.

    Of the others a sample is read: one step of a network makes hundreds of megabytes of them.
    """
    reach = {id(owner(a)): False for a in others}
    reach.update((id(owner(a)), True) for a in leaves)
    found = []
    for a in saved:
        if isinstance(a, np.ndarray) and (whole := reach.get(id(owner(a)))) is not None:
            found.append((a, fingerprint(a, whole), whole))
    return found


def check(name: str, noted: Iterable[Mark]) -> None:
    """``RuntimeError`` if an array is no longer what it was."""
    for array, before, whole in noted:
        if fingerprint(array, whole) != before:
            raise RuntimeError(
                f"{name}.backward: an array {array.dtype} {array.shape} was changed after forward had saved it: by "
                "x.data[...] = or t[...] =, or by a write to the NumPy array that the Tensor was made of. Change it "
                "after backward, or make the Tensor of a copy, Tensor(array.copy())")
