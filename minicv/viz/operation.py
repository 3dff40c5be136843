"""A small picture of an operation: what goes in, what comes out, and where one output's gradient goes."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import seed
from ..autograd import Tensor
from ..ops.case import Case


def plane(array: np.ndarray, at: tuple[int, ...] = ()) -> np.ndarray:
    """The array's last two axes, of the picture and channel in which ``at`` lies (or the first); one axis as a row."""
    array = np.asarray(array, float)
    for i in range(max(array.ndim - 2, 0)):
        array = array[at[i] if at else 0]
    return np.atleast_2d(array)


def draw_operation(case: Case) -> tuple[Any, str]:
    """Draw a case's first input, its result, and the gradient of the result's middle number; figure and words.

    Raises ``ValueError`` if the case has no numbers to draw.
    """
    import matplotlib.pyplot as plt
    seed(0)
    f, inputs = case.differentiable()
    if not inputs or not inputs[0].size:
        raise ValueError(f"draw_operation: {case} has no input with numbers")
    rest = [Tensor(v) for v in inputs[1:]]
    y = f(Tensor(inputs[0]), *rest).numpy()
    if not y.size:
        raise ValueError(f"draw_operation: {case} has an empty result")
    middle = tuple((n - 1) // 2 if axis >= y.ndim - 2 else 0 for axis, n in enumerate(y.shape))
    for at in [middle, *np.ndindex(y.shape[-2:]), *np.ndindex(y.shape)][:200]:  # one that depends on something
        at = (0,) * (y.ndim - len(at)) + tuple(at)
        x, one = Tensor(inputs[0], requires_grad=True), np.zeros(y.shape)
        one[at] = 1
        f(x, *rest).backward(one)
        if x.grad is not None and x.grad.any():
            break
    gradient = np.zeros(x.shape) if x.grad is None else x.grad
    there = np.unravel_index(int(np.argmax(abs(gradient))), gradient.shape)
    maps = {"input": plane(x.numpy(), there), "result": plane(y, at), "one result's gradient": plane(gradient, there)}
    figure, axes = plt.subplots(1, 3, figsize=(5.4, 1.75), layout="constrained")
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        signed = title.startswith("one")
        limit = np.abs(values).max() or 1
        ax.imshow(values, cmap="PuOr" if signed else "cividis", vmin=-limit if signed else None,
                  vmax=limit if signed else None, aspect="equal" if min(values.shape) > 1 else "auto")
        ax.set_title(f"{title}, {values.shape[0]} x {values.shape[1]}", fontsize=7)
        ax.set(xticks=[], yticks=[])
    if y.size > 1:
        row, column = (0, *at)[-2:]
        axes[1].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="w", lw=2))
        axes[1].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="k", lw=0.8))
    (h, w), (oh, ow) = maps["input"].shape, maps["result"].shape
    words = (f"{case.name}, {case.label}: an input of {h} x {w} numbers gives {oh} x {ow}; one of them depends on "
             f"{np.count_nonzero(gradient)} of the input's.")
    return figure, words
