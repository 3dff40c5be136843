"""Which dtype a result has: PyTorch's rules.

A number, Python's or NumPy's, takes the dtype of the tensor beside it, unless its kind is higher: floats are above
integers, those above bool. Integers beside floats take the floats' dtype. Integers of two widths meet in the narrowest
that holds both; where none does, as for uint64 and int64, NumPy would take float64, and minicv refuses. What has no
integer result (exp, division) makes float32 of integers.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from ..backend import xp_of
from .case import Case

Numeric = bool | int | float | np.generic


class AsType(Function):
    """y = x, rounded to another kind of floats"""

    def forward(ctx, x, *, dtype):
        ctx.x_dtype = x.dtype
        return x.astype(dtype)

    def backward(ctx, gy):
        return gy.astype(ctx.x_dtype)


def astype(input: Tensor, dtype: Any) -> Tensor:
    """The same numbers in another dtype, such as "float32", any shape; the gradient returns in input's.

    Integers have none: a result of integers, or of bool, lies outside the graph. Raises ``TypeError`` for a dtype that
    a Tensor cannot have.
    """
    try:
        dtype = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"astype(dtype={dtype!r}): use the name of floats, integers or bool, as 'float32'") from None
    if dtype.kind != "f":
        with np.errstate(invalid="ignore"):  # NaN becomes any integer
            return Tensor(input.data.astype(dtype))
    return input if input.dtype == dtype else AsType.apply(input, dtype=dtype)


Tensor.astype = astype


def to_floats(input: Tensor) -> Tensor:
    """Floats as they are, integers and bools as float32: for what has no integer result."""
    return input if not isinstance(input, Tensor) or input.dtype.kind == "f" else astype(input, "float32")


def promote(name: str, *values: Any, shapes: tuple[tuple[int, ...], ...] = ()) -> list[Tensor]:
    """Tensors of one dtype, which the op of that name combines, from Tensors, arrays and numbers.

    ``ValueError`` where shapes, theirs and more, do not broadcast, and for a number that the integers beside it cannot
    hold; ``TypeError`` where two kinds of integers have no common one. Floats of two widths are left to the op, which
    refuses them.
    """
    values = [v if isinstance(v, Tensor | Numeric) else Tensor(v) for v in values]
    tensors = [v for v in values if isinstance(v, Tensor)] or [Tensor(values[0])]
    numbers = [v.item() if isinstance(v, np.generic) else v for v in values if not isinstance(v, Tensor)]
    dtype = common_dtype(name, tensors, numbers)
    values = [as_operand(name, v, dtype, tensors[0]) for v in values]
    shapes = [*shapes, *(v.shape for v in values)]
    if len({*shapes, ()}) <= 2:  # equal, or numbers
        return values
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{name}: shapes {', '.join(map(str, shapes[:-1]))} and {shapes[-1]} do not broadcast: from "
                         "the right, sizes must be equal or 1") from None
    return values


def common_dtype(name: str, tensors: list[Tensor], numbers: list[bool | int | float] = ()) -> np.dtype:
    """The dtype in which tensors and numbers meet, by the rules above."""
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
    """A Tensor in that dtype, where ``like`` lies; floats of another width stay."""
    if isinstance(value, Tensor):
        return value if value.dtype.kind == "f" or value.dtype == dtype else astype(value, dtype)
    value = value.item() if isinstance(value, np.generic) else value
    check_fits(name, value, dtype)
    with np.errstate(over="ignore"):  # 1e6 is infinite in float16
        return Tensor(xp_of(like.data).asarray(value, dtype=dtype))


def check_not_bool(name: str, *values: Tensor | Numeric) -> None:
    """``TypeError`` for Tensors of bools, and for True and False."""
    if any(isinstance(v, bool | np.bool_) or (isinstance(v, Tensor) and v.dtype == bool) for v in values):
        raise TypeError(f"{name}: got bool, which has no sign; convert it with .astype('int64'), or invert a mask "
                        "with ~x")


def check_fits(name: str, value: bool | int | float, dtype: np.dtype) -> None:
    """``ValueError`` for a number that these integers, or bool, cannot hold: it would wrap around or be cut."""
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
