"""Operations that move elements without changing them. The backward pass moves the gradient back."""
from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from ..autograd import Function, Tensor
from ..backend import add_at, is_array, xp_of
from .case import Case
from .dtypes import as_operand, common_dtype
from .elementwise import unbroadcast
from .methods import add_methods
from .precision import accumulation_dtype


class Reshape(Function):
    """y: the elements of x, in order, in another shape"""

    def forward(ctx, x, *, shape):
        ctx.x_shape = x.shape
        return x.reshape(shape)

    def backward(ctx, gy):
        return gy.reshape(ctx.x_shape)


class Permute(Function):
    """y[i_p0, i_p1, ...] = x[i_0, i_1, ...]"""

    def forward(ctx, x, *, dims):
        ctx.inverse = tuple(sorted(range(len(dims)), key=dims.__getitem__))
        return x.transpose(dims)

    def backward(ctx, gy):
        return gy.transpose(ctx.inverse)


class Expand(Function):
    """y: x repeated along axes of size 1, as broadcasting does; its adjoint is the sum over them, ``reduce.Sum``"""

    def forward(ctx, x, *, size):
        ctx.x_shape = x.shape
        return xp_of(x).broadcast_to(x, size)

    def backward(ctx, gy):
        return unbroadcast(gy, ctx.x_shape)


class GetItem(Function):
    """y = x[index]; an element that is taken more than once receives the sum"""

    def forward(ctx, x, *, index):
        ctx.x_shape, ctx.index = x.shape, index
        return xp_of(x).asarray(x[index])

    def backward(ctx, gy):
        gx = xp_of(gy).zeros(ctx.x_shape, gy.dtype)
        parts = ctx.index if isinstance(ctx.index, tuple) else (ctx.index,)
        if all(isinstance(p, int | slice | EllipsisType | None) for p in parts):
            gx[ctx.index] = gy  # no element is taken twice
        else:
            gx = gx.astype(accumulation_dtype(gy.dtype))
            add_at(gx, ctx.index, gy.astype(gx.dtype))
        return gx.astype(gy.dtype, copy=False)


class Concatenate(Function):
    """y: the arrays, one after the other along an axis"""

    def forward(ctx, *xs, dim):
        ctx.dim, ctx.sizes = dim, [x.shape[dim] for x in xs]
        return xp_of(xs[0]).concatenate(xs, axis=dim)

    def backward(ctx, gy):
        ends = np.cumsum(ctx.sizes).tolist()
        before = (slice(None),) * ctx.dim
        return tuple(gy[(*before, slice(end - n, end))] for n, end in zip(ctx.sizes, ends, strict=True))


class Flip(Function):
    """y: x in reverse order along axes; its own adjoint"""

    def forward(ctx, x, *, dims):
        ctx.dims = dims
        return xp_of(x).flip(x, dims)

    def backward(ctx, gy):
        return xp_of(gy).flip(gy, ctx.dims)


def normalize_dim(where: str, ndim: int, dim: int) -> int:
    """The axis, counted from 0. Raises ``ValueError`` for an unknown axis.

    A number has no axes, but takes 0 and -1, as in PyTorch.
    """
    n = max(ndim, 1)
    if not isinstance(dim, int | np.integer) or not -n <= dim < n:
        raise ValueError(f"{where}(dim={dim!r}): must be an axis of {ndim}, {-n} to {n - 1}")
    return int(dim) % n


def reshape(input: Tensor, shape: Sequence[int]) -> Tensor:
    """The same elements, in row-major order, in another shape; one size may be -1."""
    shape = tuple(shape)
    try:
        if any(n < -1 for n in shape):  # NumPy takes -2 for -1
            raise ValueError
        return Reshape.apply(input, shape=shape)
    except ValueError:
        raise ValueError(f"reshape: {input.shape} has {input.size} elements; they do not fill {shape}") from None


def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Merge the axes ``start_dim`` to ``end_dim`` into one."""
    first, last = (normalize_dim("flatten", max(input.ndim, 1), dim) for dim in (start_dim, end_dim))
    if first > last:
        raise ValueError(f"flatten(start_dim={start_dim}, end_dim={end_dim}): axis {first} comes after axis {last}")
    merged = math.prod(input.shape[first:last + 1])
    return reshape(input, (*input.shape[:first], merged, *input.shape[last + 1:]))


def permute(input: Tensor, dims: Sequence[int]) -> Tensor:
    """The axes in another order: axis i of the result is axis ``dims[i]`` of the input."""
    found = tuple(normalize_dim("permute", input.ndim, dim) for dim in dims)
    if sorted(found) != list(range(input.ndim)):
        raise ValueError(f"permute(dims={tuple(dims)}): must name each of the {input.ndim} axes of {input.shape} once")
    return Permute.apply(input, dims=found)


def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes."""
    dims = list(range(input.ndim))
    dim0, dim1 = (normalize_dim("transpose", input.ndim, dim) for dim in (dim0, dim1))
    if input.ndim:
        dims[dim0], dims[dim1] = dims[dim1], dims[dim0]
    return permute(input, dims)


def squeeze(input: Tensor, dim: int | Sequence[int] | None = None) -> Tensor:
    """Drop the axis ``dim``, or several, where its size is 1; all axes of size 1 if None."""
    dims = range(input.ndim) if dim is None else dim if isinstance(dim, tuple | list) else (dim,)
    drop = [normalize_dim("squeeze", input.ndim, d) for d in dims]
    return reshape(input, [n for i, n in enumerate(input.shape) if n != 1 or i not in drop])


def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """Insert an axis of size 1 at position ``dim`` of the result."""
    place = normalize_dim("unsqueeze", input.ndim + 1, dim)
    return reshape(input, (*input.shape[:place], 1, *input.shape[place:]))


def expand(input: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat along axes of size 1 to the shape ``size``, in which -1 keeps a size. The adjoint of ``sum``."""
    new = len(size) - input.ndim
    try:
        return Expand.apply(input, size=tuple(input.shape[i - new] if n == -1 and i >= new else n
                                              for i, n in enumerate(size)))
    except ValueError:
        raise ValueError(f"expand: {input.shape} does not broadcast to {tuple(size)}") from None


def getitem(input: Tensor, index: Any) -> Tensor:
    """``input[index]`` with integers, slices, None, Ellipsis, and integer or boolean arrays, as in NumPy."""
    parts = index if isinstance(index, tuple) else (index,)
    parts = tuple(p.data if isinstance(p, Tensor) else p for p in parts)
    parts = tuple(p.copy() if is_array(p) else list(p) if isinstance(p, list) else p for p in parts)  # backward's own
    return GetItem.apply(input, index=parts if isinstance(index, tuple) else parts[0])


def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors along axis ``dim``; all other sizes must agree. U-Net, sec. 2: copy and *concatenate*.

    Integers beside floats become floats; integers of several widths become the narrowest type that holds all.
    """
    shapes = [t.shape for t in tensors]
    if () in shapes or not shapes:
        raise ValueError("concatenate(tensors): got none" if not shapes else
                         f"concatenate: shapes {shapes}: numbers have no axis to join along; use stack")
    along = normalize_dim("concatenate", len(shapes[0]), dim)
    if len({(*s[:along], *s[along + 1:]) for s in shapes}) != 1 or len({len(s) for s in shapes}) != 1:
        raise ValueError(f"concatenate: shapes {shapes} must agree in every axis but dim={dim}")
    dtype = common_dtype("concatenate", tensors)
    return Concatenate.apply(*(as_operand("concatenate", t, dtype, t) for t in tensors), dim=along)


cat = concatenate  # both are PyTorch's names


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis ``dim``."""
    if len({t.shape for t in tensors}) != 1:
        raise ValueError(f"stack: needs tensors of one shape, got {[t.shape for t in tensors]}")
    along = normalize_dim("stack", tensors[0].ndim + 1, dim)
    return concatenate([unsqueeze(t, along) for t in tensors], along)


def flip(input: Tensor, dims: int | Sequence[int]) -> Tensor:
    """Reverse the order along an axis, or several. Its own adjoint."""
    dims = (dims,) if isinstance(dims, int | np.integer) else tuple(dims)
    found = tuple(normalize_dim("flip", input.ndim, dim) for dim in dims)
    if len(set(found)) < len(found):
        raise ValueError(f"flip(dims={dims}): names an axis twice, which would undo the flip")
    return Flip.apply(input, dims=found if input.ndim else ())


def crop(input: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Rows [top, top + height) and columns [left, left + width) of (..., H, W). The adjoint of ``pad``."""
    if input.ndim < 2:
        raise ValueError(f"crop: input must be (..., H, W), got {input.shape}")
    H, W = input.shape[-2:]
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > H or left + width > W:
        raise ValueError(f"crop(top={top}, left={left}, height={height}, width={width}) leaves the image, {H}x{W}")
    return getitem(input, (..., slice(top, top + height), slice(left, left + width)))


def center_crop(input: Tensor, output_size: tuple[int, int]) -> Tensor:
    """The center of (..., H, W); an odd row or column is cut off at the bottom or right. U-Net, sec. 2."""
    height, width = output_size
    if input.ndim < 2 or not (1 <= height <= input.shape[-2] and 1 <= width <= input.shape[-1]):
        raise ValueError(f"center_crop: {height}x{width} must be at least 1x1 and no larger than the image, "
                         f"(..., H, W) = {input.shape}")
    H, W = input.shape[-2:]
    return crop(input, (H - height) // 2, (W - width) // 2, height, width)


def _sizes(values: tuple) -> tuple[int, ...]:
    """The sizes from ``x.reshape(2, 3)`` or ``x.reshape((2, 3))`` as Python integers."""
    sizes = values[0] if len(values) == 1 and isinstance(values[0], list | tuple) else values
    return tuple(map(operator.index, sizes))


add_methods(
    reshape=lambda x, *shape: reshape(x, _sizes(shape)), permute=lambda x, *dims: permute(x, _sizes(dims)),
    expand=lambda x, *size: expand(x, _sizes(size)), T=property(lambda x: permute(x, range(x.ndim)[::-1])),
    transpose=transpose, flatten=flatten, squeeze=squeeze, unsqueeze=unsqueeze, flip=flip, __getitem__=getitem)


# ---------------------------------------------------------------------------------------------------------
# The oracles: where each element comes from, one at a time
# ---------------------------------------------------------------------------------------------------------
def _concatenate_loop(*xs, dim=0):
    y = []
    for x in xs:
        y += list(np.moveaxis(x, dim, 0))
    return np.moveaxis(np.array(y), 0, dim)


def _reshape_loop(x, shape):
    y, values = np.empty(shape), list(x.flat)
    for place, value in zip(np.ndindex(y.shape), values, strict=True):
        y[place] = value
    return y


def _permute_loop(x, dims):
    y = np.empty([x.shape[d] for d in dims])
    for place in np.ndindex(x.shape):
        y[tuple(place[d] for d in dims)] = x[place]
    return y


def _crop_loop(x, top, left, height, width):
    y = np.empty((*x.shape[:-2], height, width))
    for place in np.ndindex(y.shape):
        y[place] = x[(*place[:-2], place[-2] + top, place[-1] + left)]
    return y


ROWS = np.array([2, 0, 2])
CASES = [
    Case(reshape, "merge and split", (2, 3, 4), shape=(4, 6), loop=_reshape_loop),
    Case(flatten, "all but the batch", (2, 3, 4), start_dim=1, loop=lambda x, start_dim: _reshape_loop(x, (2, 12))),
    Case(permute, "three axes", (2, 3, 4), dims=(2, 0, 1), loop=_permute_loop),
    Case(transpose, "last two", (2, 3, 4), dim0=-1, dim1=1, loop=lambda x, dim0, dim1: _permute_loop(x, (0, 2, 1))),
    Case(squeeze, "one axis", (2, 1, 3), dim=1, loop=lambda x, dim: _reshape_loop(x, (2, 3))),
    Case(unsqueeze, "at the end", (2, 3), dim=-1, loop=lambda x, dim: _reshape_loop(x, (2, 3, 1))),
    Case(expand, "new and repeated axes", (3, 1), size=(2, 3, 4),
         loop=lambda x, size: np.array([[[v] * 4 for v in x[:, 0]]] * 2)),
    Case(getitem, "slices with a step", (4, 5), index=(slice(1, None, 2), slice(None, None, -1)),
         loop=lambda x, index: np.array([[x[i, j] for j in (4, 3, 2, 1, 0)] for i in (1, 3)])),
    Case(getitem, "integer and new axis", (4, 5), index=(-1, None), loop=lambda x, index: np.array([list(x[3])])),
    Case(getitem, "rows taken twice", (4, 2), index=ROWS,
         call=lambda x, index: getitem(x, xp_of(x.data).asarray(index)),
         loop=lambda x, index: np.array([list(x[i]) for i in index])),
    Case(concatenate, "channels", (2, 1, 3), (2, 2, 3), dim=1, call=lambda *xs, dim: concatenate(xs, dim),
         loop=_concatenate_loop),
    Case(concatenate, "one tensor", (2, 3), call=lambda *xs: concatenate(xs), loop=_concatenate_loop),
    Case(stack, "in the middle", (2, 3), (2, 3), dim=1, call=lambda *xs, dim: stack(xs, dim),
         loop=lambda a, b, dim: np.array([[list(a[i]), list(b[i])] for i in range(2)])),
    Case(flip, "two axes", (2, 3, 4), dims=(1, 2),
         loop=lambda x, dims: np.array([[[x[n, 2 - i, 3 - j] for j in range(4)] for i in range(3)] for n in range(2)])),
    Case(crop, "inside", (1, 2, 5, 6), top=1, left=2, height=3, width=2, loop=_crop_loop),
    Case(center_crop, "odd remainder", (2, 5, 6), output_size=(2, 3),
         loop=lambda x, output_size: _crop_loop(x, 1, 1, 2, 3)),
]
