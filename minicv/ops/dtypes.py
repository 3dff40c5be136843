"""The dtype of a result, by PyTorch's rules.

A number, Python's or NumPy's, takes the dtype of the tensor beside it, unless its kind is higher: floats rank above
integers, and integers above bool. Integers beside floats become floats. Integers of two widths become the narrowest
dtype that holds both; if there is none, as for uint64 and int64, NumPy would take float64, and minicv raises an error.
Operations without an integer result (exp, division) turn integers into float32.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from ..backend import xp_of
from .case import Case
from .methods import add_methods

Numeric = bool | int | float | np.generic


class AsType(Function):
    """y = x, rounded to another floating-point dtype"""

    def forward(ctx, x, *, dtype):
        ctx.x_dtype = x.dtype
        return x.astype(dtype)

    def backward(ctx, gy):
        return gy.astype(ctx.x_dtype)


def astype(input: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype, such as "float32", any shape; the gradient arrives in the input's dtype.

    Integers and bools have no gradient: such a result lies outside the graph. Raises ``TypeError`` for a dtype that a
    Tensor cannot have.
    """
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"astype(dtype={dtype!r}): use the name of a dtype of floats, integers or bool, such as "
                        "'float32'") from None
    if dtype.kind != "f":
        with np.errstate(invalid="ignore"):  # NaN becomes an arbitrary integer
            return Tensor(input.data.astype(dtype))
    return input if input.dtype == dtype else AsType.apply(input, dtype=dtype)


add_methods(astype=astype)


def to_floats(input: Tensor) -> Tensor:
    """Floats as they are; integers and bools as float32, for operations without an integer result."""
    return input if not isinstance(input, Tensor) or input.dtype.kind == "f" else astype(input, "float32")


def promote(name: str, *values: Any, shapes: tuple[tuple[int, ...], ...] = ()) -> list[Tensor]:
    """Convert Tensors, arrays and numbers to Tensors of one dtype, as operands of the operation ``name``.

    Raises ``ValueError`` where their shapes, together with ``shapes``, do not broadcast, and for a number that the
    integers beside it cannot hold; ``TypeError`` for integers without a common dtype. Floats of two widths stay as they
    are: ``Function.apply`` raises an error for them.
    """
    given = [v if isinstance(v, Tensor | Numeric) else Tensor(v) for v in values]
    tensors = [v for v in given if isinstance(v, Tensor)] or [Tensor(given[0])]
    numbers = [v.item() if isinstance(v, np.generic) else v for v in given if not isinstance(v, Tensor)]
    dtype = common_dtype(name, tensors, numbers)
    operands = [as_operand(name, v, dtype, tensors[0]) for v in given]
    every = [*shapes, *(v.shape for v in operands)]
    if len({*every, ()}) <= 2:  # equal, or numbers
        return operands
    try:
        np.broadcast_shapes(*every)
    except ValueError:
        raise ValueError(f"{name}: shapes {', '.join(map(str, every[:-1]))} and {every[-1]} do not broadcast: from the "
                         "right, sizes must be equal or 1") from None
    return operands


def common_dtype(name: str, tensors: Sequence[Tensor], numbers: Sequence[float] = ()) -> np.dtype:
    """The dtype of a result of tensors and numbers, by the rules above."""
    dtypes = [t.dtype for t in tensors]
    of_floats = next((d for d in dtypes if d.kind == "f"), None)
    if of_floats is not None:
        return of_floats
    if any(isinstance(n, float) for n in numbers):
        return np.dtype(np.float32)
    common = np.result_type(*dtypes)
    if common.kind == "f":
        raise TypeError(f"{name}: {' and '.join(map(str, dict.fromkeys(dtypes)))} have no common integer dtype; "
                        "convert one of them with .astype")
    return np.dtype(np.int64) if common.kind == "b" and any(type(n) is int for n in numbers) else common


def as_operand(name: str, value: Tensor | Numeric, dtype: np.dtype, like: Tensor) -> Tensor:
    """The value as a Tensor of that dtype, on the device of ``like``; floats of another width stay as they are."""
    if isinstance(value, Tensor):
        return value if value.dtype.kind == "f" or value.dtype == dtype else astype(value, dtype)
    number = value.item() if isinstance(value, np.generic) else value
    check_fits(name, number, dtype)
    with np.errstate(over="ignore"):  # 1e6 is infinite in float16
        return Tensor(xp_of(like.data).asarray(number, dtype=dtype))


def check_not_bool(name: str, *values: Tensor | Numeric) -> None:
    """Raise ``TypeError`` for Tensors of bools, and for True and False."""
    if any(isinstance(v, bool | np.bool_) or (isinstance(v, Tensor) and v.dtype == bool) for v in values):
        raise TypeError(f"{name}: got bool, which has no sign; convert it with .astype('int64'), or invert a mask "
                        "with ~x")


def check_fits(name: str, value: bool | int | float, dtype: np.dtype) -> None:
    """Raise ``ValueError`` for a number that an integer dtype, or bool, cannot hold: it would wrap around or be cut."""
    if dtype.kind == "f":
        return
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not low <= value <= high or value != int(value):
        raise ValueError(f"{name}: {value} does not fit into {dtype}, which holds the integers {low} to {high}; "
                         "convert the tensor with .astype")


CASES = [
    Case(astype, "there and back", (2, 3), dtype="float64", call=lambda x, dtype: astype(astype(x, dtype), x.dtype),
         loop=lambda x, dtype: np.array([float(v) for v in x.flat]).reshape(x.shape)),
]
