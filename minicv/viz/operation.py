"""A small figure of an operation: its inputs, its result, and the gradient of one output."""
from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Tensor
from ..backend import seed
from ..ops.case import Case
from .images import text_color
from .pyplot import import_pyplot


def plane(array: np.ndarray, at: Sequence[Any] = ()) -> np.ndarray:
    """The last two axes of the array, at the image and channel of the index ``at`` (or the first); 1-D as a row."""
    array = np.asarray(array, float)
    for i in range(max(array.ndim - 2, 0)):
        array = array[at[i] if at else 0]
    return np.atleast_2d(array)


def input_names(case: Case) -> list[str]:
    """The op's names of its differentiable inputs: ["input", "weight", "bias"], or "input 2" in a list."""
    floats = [i for i, a in enumerate(case.arrays()) if a is not None and a.dtype.kind == "f"]
    if case.call is not case.op:
        return [f"input {i + 1}" for i in floats] if len(floats) > 1 else ["input"]
    parameters = list(inspect.signature(case.op).parameters)
    return [parameters[i] for i in floats]


def draw_plane(ax: Any, values: np.ndarray, title: str, signed: bool = False) -> None:
    """Draw a plane of numbers as colors, with the numbers if they fit. ``signed``: zero is white."""
    limit, wide = np.abs(values).max() or 1, max(values.shape) / min(values.shape) > 4
    image = ax.imshow(values, cmap="PuOr" if signed else "cividis", vmin=-limit if signed else None,
                        vmax=limit if signed else None, aspect="auto" if wide or min(values.shape) == 1 else "equal")
    if values.size <= 20 and max(values.shape) <= 6:
        for (row, column), v in np.ndenumerate(values):
            ax.text(column, row, f"{round(v, 2) + 0.0:g}", ha="center", va="center", fontsize=5.5,
                    color=text_color(image.cmap(image.norm(v))[:3]))
    ax.set_title(f"{title}, {values.shape[0]} x {values.shape[1]}", fontsize=7)
    ax.set(xticks=[], yticks=[])


def draw_operation(case: Case) -> tuple[Any, str]:
    """Draw a case's inputs (at most three), its result, and the gradient of one framed result for the first input.

    Returns the figure and its caption. Raises ``ValueError`` if the case has no numbers to draw.
    """
    plt = import_pyplot()
    seed(0)
    f, inputs = case.differentiable()
    if not inputs or not inputs[0].size:
        raise ValueError(f"draw_operation: {case} has no input with numbers")
    rest = [Tensor(v) for v in inputs[1:]]
    y = f(Tensor(inputs[0]), *rest).numpy()
    if not y.size:
        raise ValueError(f"draw_operation: {case} has an empty result")
    middle = tuple((n - 1) // 2 if axis >= y.ndim - 2 else 0 for axis, n in enumerate(y.shape))
    for at in [middle, *np.ndindex(y.shape[-2:]), *np.ndindex(y.shape)][:200]:  # a result that depends on the input
        at = (0,) * (y.ndim - len(at)) + tuple(at)
        x, one = Tensor(inputs[0], requires_grad=True), np.zeros(y.shape)
        one[at] = 1
        f(x, *rest).backward(one)
        if x.grad is not None and x.grad.any():
            break
    gradient = np.zeros(x.shape) if x.grad is None else x.grad
    there = np.unravel_index(int(np.argmax(abs(gradient))), gradient.shape)
    first, result = plane(x.numpy(), there), plane(y, at)
    names = input_names(case)
    maps = [(first, names[0]), *((plane(v), name) for v, name in zip(inputs[1:3], names[1:3], strict=True)),
            (result, "result")]
    figure, axes = plt.subplots(1, len(maps) + 1, figsize=(1.8 * len(maps) + 1.8, 2.0), layout="constrained")
    figure.suptitle(f"{case.name}, {case.label}", fontsize=8)
    for ax, (values, title) in zip(axes, maps, strict=False):
        draw_plane(ax, values, title)
    draw_plane(axes[-1], plane(gradient, there), "gradient", signed=True)
    if y.size > 1:
        row, column = (0, *at)[-2:]
        axes[-2].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="w", lw=2))
        axes[-2].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="k", lw=0.8))
    (h, w), (oh, ow) = first.shape, result.shape
    words = (f"{case.name}, {case.label}: an input of {h} x {w} numbers gives {oh} x {ow}; one of them depends on "
             f"{np.count_nonzero(gradient)} of the input's.")
    return figure, words


def draw_arrays(title: str, maps: dict[str, np.ndarray]) -> tuple[Any, str]:
    """Draw arrays side by side, zero in white; return the figure and its caption."""
    plt = import_pyplot()
    planes = {name: plane(array) for name, array in maps.items()}
    widths = [max(v.shape[1] / v.shape[0], 1) for v in planes.values()]
    figure, axes = plt.subplots(1, len(planes), figsize=(1.8 * sum(widths), 2.0), layout="constrained", squeeze=False,
                                width_ratios=widths)
    figure.suptitle(title, fontsize=8)
    for ax, (name, values) in zip(axes[0], planes.items(), strict=True):
        draw_plane(ax, values, name, signed=True)
    return figure, f"{title}: " + ", ".join(f"{name} {v.shape[0]} x {v.shape[1]}, {np.count_nonzero(v)} not zero"
                                            for name, v in planes.items()) + "."
