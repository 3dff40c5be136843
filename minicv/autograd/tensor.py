"""A tensor: one array, and where it came from."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import backend
from ..backend import Array


class Tensor:
    """A NumPy or CuPy array that remembers how it was computed, so that ``backward`` can find gradients.

    ``data`` is the array. ``grad`` is None or an array of the same shape, where ``backward`` adds the gradient; set
    it to None to start from 0. Python numbers and lists become float32 (integers stay integers); an array keeps its
    dtype and its memory: ``Tensor(array)`` is no copy. Operators and methods (``+``, ``@``, ``x.sum()``, ``x[1:]``) are
    those of ``minicv.ops``; ``ops/protocols.py`` has what Python and NumPy do with a Tensor.

    Raises ``TypeError`` for integers with ``requires_grad=True``, which have no derivative; for masked arrays, whose
    mask would be lost; and for numbers in another byte order than the machine's.
    """

    __slots__ = ("data", "grad", "requires_grad", "node", "__weakref__")

    def __init__(self, array: Any, requires_grad: bool = False):
        self.data = checked(array, requires_grad)
        self.grad: Array | None = None
        self.requires_grad = requires_grad
        self.node: Any = None  # the Function call that made it; None for a leaf

    shape = property(lambda self: self.data.shape)
    ndim = property(lambda self: self.data.ndim)
    size = property(lambda self: self.data.size)
    dtype = property(lambda self: self.data.dtype)
    device = property(lambda self: backend.device_of(self.data))

    def __repr__(self) -> str:
        made_by = f", from {self.node.name()}" if self.node else ""
        return f"Tensor({self.data}, shape={self.shape}{made_by}{', requires_grad=True' * self.requires_grad})"

    def item(self) -> float:
        """The only element, as a Python number (reads from the device)."""
        return self.data.item()

    def tolist(self) -> Any:
        """The values as Python numbers, in nested lists (reads from the device)."""
        return self.data.tolist()

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array, outside the graph: this Tensor's own array, or a copy from another device."""
        return backend.to_numpy(self.data)

    def detach(self) -> Tensor:
        """The same array, not a copy, outside the graph."""
        return Tensor(self.data)

    def to(self, device: str) -> Tensor:
        """This Tensor if it lies on the named device, else a leaf with its values there; ``requires_grad`` is kept.

        Raises ``RuntimeError`` for a result that would leave the graph by moving: its gradient would end there.
        """
        if device == self.device:
            return self
        if self.node:
            raise RuntimeError(f"to({device!r}): the gradient of a result ({self.node.name()}) would end here; move "
                               "the leaves before they are used, or write t.detach().to(device)")
        return Tensor(backend.to_device(self.data, device), self.requires_grad)

    if TYPE_CHECKING:  # what graph.py and minicv.ops add: backward, the operators, and most operations as methods
        backward: Callable[..., None]

        def __getattr__(self, name: str) -> Any: ...
        def _operator(self, other: Any) -> Tensor: ...
        __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _operator
        __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __getitem__ = _operator
        __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __xor__ = _operator
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __len__(self) -> int: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...


def checked(array: Any, requires_grad: bool) -> Array:
    """The array of ``Tensor(array, requires_grad)``; ``TypeError`` for what cannot be one."""
    if type(array) is not np.ndarray:
        array = converted(array)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize not in (1, 2, 4, 8):
        raise TypeError(f"Tensor(array): dtype {array.dtype} is not supported; use floats, integers or bool")
    if not array.dtype.isnative:
        raise TypeError(f"Tensor(array): dtype {array.dtype} is not in this machine's byte order; use "
                        "array.astype(array.dtype.newbyteorder('='))")
    if requires_grad and array.dtype.kind != "f":
        raise TypeError(f"Tensor(array, requires_grad=True): dtype is {array.dtype}, and only floats have "
                        "gradients; convert first, for example array.astype('float32')")
    return array


def converted(value: Any) -> Array:
    """``value`` as an array: itself if it is one, else a new one on the device in use."""
    if isinstance(value, Tensor):
        raise TypeError("Tensor(array): got a Tensor; use .detach() for one outside the graph")
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("Tensor(array): got a masked array, whose mask would be lost; use array.filled(0), or "
                        "F.where(mask, ...)")
    if isinstance(value, np.generic | np.ndarray):  # a NumPy number, or a subclass: np.matrix multiplies otherwise
        return np.asarray(value)  # the same memory
    if backend.is_array(value):
        return value
    array = np.asarray(value)
    with np.errstate(over="ignore"):  # 1e300 is infinite, as in PyTorch
        return backend.to_device(array.astype(np.float32) if array.dtype.kind == "f" else array)


def tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """``value`` as a Tensor; a number, Python's or NumPy's, takes the dtype and device of ``like``."""
    if isinstance(value, Tensor):
        return value
    if like is not None and isinstance(value, int | float | np.integer | np.floating) and like.dtype.kind == "f":
        return Tensor(backend.xp_of(like.data).asarray(value, dtype=like.dtype))
    return Tensor(value)
