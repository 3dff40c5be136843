"""The tables of docs/tensor.md: what is written, what PyTorch does with it, and what minicv does."""
import copy
import math
import operator
import pickle
import re
from pathlib import Path

import numpy as np

import minicv.ops as F
from minicv import Tensor, no_grad

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tensor.md"


def rows():
    """(what is written, PyTorch's cell, minicv's cell, what to write instead) of every row."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0].startswith("`"):
            found.append((cells[0].strip("`"), *cells[1:]))
    return found


def names(tensor, no_grad):
    """The names of the page's examples: float t, number s, integers i, bool b, a leaf p, its result y, an array a."""
    p = tensor([1.0, 2.0], requires_grad=True)
    return {"t": tensor([1.0, 2.0, 3.0]), "s": tensor(2.5), "i": tensor([5, 2]), "b": tensor([True, False]), "p": p,
            "y": p * 2, "a": np.array([1.0, 0.0, 4.0], np.float32), "no_grad": no_grad, "Tensor": tensor, "np": np,
            "F": F, "copy": copy, "pickle": pickle, "math": math, "operator": operator}


def shown(value):
    """A result as the page writes it: its kind and its values."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, np.ndarray):
        return f"array {value.tolist()}"
    if hasattr(value, "requires_grad"):
        values = value.detach().tolist()
        text = values if isinstance(values, list) else round(values, 4)
        text = [round(v, 4) if isinstance(v, float) else v for v in text] if isinstance(text, list) else text
        made = value.node if isinstance(value, Tensor) else value.grad_fn
        return f"tensor {text}" + (", in the graph" if made else ", a leaf" if value.requires_grad else "")
    return repr(value.item() if isinstance(value, np.generic) else value)


def outcome(code, tensor, no_grad):
    """What the code, an expression after statements, gives: a result as ``shown``, or the error's class and message."""
    space, (*before, last) = names(tensor, no_grad), code.split("; ")
    try:
        exec("\n".join(before), space)  # noqa: S102 - the page's own examples
        return shown(eval(last, space)), ""
    except Exception as error:
        return type(error).__name__, str(error)


def ours(code):
    return outcome(code, Tensor, no_grad)
