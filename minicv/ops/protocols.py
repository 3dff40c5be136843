"""Python's and NumPy's protocols on a Tensor: ``t == 2``, ``bool(t)``, ``for row in t``, ``np.exp(t)``, copies.

The engine does not need them. Each does what PyTorch does, or raises a ``TypeError`` that says what to write instead;
docs/tensor.md lists them in a table.
"""
from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import backend
from ..autograd import Function, Tensor
from ..autograd.function import grad_enabled
from ..backend import Array
from .dtypes import promote
from .methods import add_methods

NAMES: set[str] = set()  # of the operations; ops/__init__.py fills it


# ---------------------------------------------------------------------------------------------------------
# Numbers and sequences
# ---------------------------------------------------------------------------------------------------------
def single(t: Tensor, what: str) -> Any:
    """The only element as a Python number. Raises ``TypeError``, with ``what`` in its message, for several elements."""
    if t.size != 1:
        cure = "t.numpy().any() or .all()" if what == "bool" else "t[0], t.sum() or t.mean()"
        raise TypeError(f"{what}(t): a Tensor of shape {t.shape} has {t.size} elements, and must have one; "
                        f"write {cure}")
    return t.item()


def index(t: Tensor) -> int:
    """``operator.index(t)``, which ``range(t)``, ``list[t]`` and sizes call."""
    if t.size != 1 or t.dtype.kind not in "iub":
        raise TypeError(f"an index must be an integer Tensor of one element, got {t.dtype} {t.shape}; write int(t)")
    return int(t.item())


def length(t: Tensor) -> int:
    """``len(t)``: the size of the first axis."""
    if t.ndim == 0:
        raise TypeError("len(t) of a Tensor without axes, which is a single number; t.size is 1")
    return len(t.data)


def rows(t: Tensor) -> Iterator[Tensor]:
    """The elements along the first axis, in the graph."""
    if t.ndim == 0:
        raise TypeError("iteration over a Tensor without axes, which is a single number; write t.item()")
    return (t[i] for i in range(len(t.data)))


def contains(t: Tensor, value: Any) -> bool:
    """``value in t``: whether any element equals it."""
    if not isinstance(value, Tensor | numbers.Number | np.generic):
        raise TypeError(f"value in t: the value must be a number or a Tensor, got {type(value).__name__}")
    return bool(operator.eq(t, value).data.any())


def formatted(t: Tensor, spec: str) -> str:
    """``f"{t:.3f}"``: a Tensor without axes is formatted as its number; others only as ``f"{t}"``."""
    if t.ndim == 0:
        return format(t.item(), spec)
    if spec:
        raise TypeError(f"format(t, {spec!r}): only a Tensor without axes is formatted as a number, not {t.shape}; "
                        "write t.item() of one element")
    return repr(t)


def operator_of(op: Callable[[Any, Any], Tensor], swap: bool = False) -> Callable[[Tensor, Any], Any]:
    """The method for an operator: ``op`` for Tensors, numbers and arrays, NotImplemented for other types."""
    def method(t: Tensor, value: Any) -> Any:
        if not isinstance(value, Tensor | int | float | np.generic) and not backend.is_array(value):
            return NotImplemented
        return op(value, t) if swap else op(t, value)
    return method


# ---------------------------------------------------------------------------------------------------------
# Operators without a derivative: their results lie outside the graph
# ---------------------------------------------------------------------------------------------------------
def logical(symbol: str, f: Callable[[Any, Any], Any]) -> Callable[[Tensor, Any], Any]:
    """The method for a comparison, or for ``& | ^``: the values are taken in their own dtypes."""
    def method(t: Tensor, value: Any) -> Any:
        array = value.data if isinstance(value, Tensor) else value.item() if isinstance(value, np.generic) else value
        if isinstance(array, list | tuple):
            raise TypeError(f"{symbol} of a Tensor and a {type(array).__name__}: write Tensor(...) around the latter")
        if not backend.is_array(array) and not isinstance(array, numbers.Number):
            return NotImplemented  # so that t == None is False, and t < None a TypeError
        if backend.is_array(array) and backend.device_of(array) != t.device:
            raise TypeError(f"{symbol}: one Tensor lies on {t.device}, the other on {backend.device_of(array)}; use "
                            ".to(device)")
        kinds = t.dtype.kind + getattr(array, "dtype", np.dtype(type(array))).kind
        if symbol in "&|^" and not set(kinds) <= set("iub"):
            raise TypeError(f"{symbol} is for bool and integers, got {t.dtype} and {getattr(array, 'dtype', array)}; "
                            "compare first, as in (t > 0) & (t < 1)")
        return Tensor(f(t.data, array))
    return method


def arithmetic(symbol: str, f: Callable[[Any, Any], Any], instead: str = "") -> Callable[[Tensor, Any], Any]:
    """The method for ``//``, ``%``, ``2 ** t``, in the dtype of ``+``; ``instead`` is what to write for a gradient."""
    def method(t: Tensor, value: Any) -> Any:
        if not isinstance(value, Tensor | numbers.Real | np.generic) and not backend.is_array(value):
            return NotImplemented
        a, b = promote(symbol, t, value)
        if instead and (a.requires_grad or b.requires_grad) and grad_enabled():
            raise TypeError(f"{symbol} has no gradient for Tensors; write {instead}, or use t.detach()")
        if a.dtype != b.dtype or a.device != b.device:
            raise TypeError(f"{symbol}: got {a.dtype} on {a.device} and {b.dtype} on {b.device}; use .astype(dtype) or "
                            ".to(device)")
        with np.errstate(all="ignore"):
            return Tensor(f(a.data, b.data))
    return method


def divided(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``f`` of arrays; integers divided by 0 raise an error, as in Python and PyTorch, where NumPy returns 0."""
    def safe(a: Array, b: Array) -> Array:
        if a.dtype.kind != "f" and (b == 0).any():
            raise ZeroDivisionError("a Tensor of integers // or % 0; write .astype('float32') for inf and nan")
        return f(a, b)
    return safe


def swapped(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """``f`` with its arguments exchanged, for a Tensor on the right."""
    return lambda a, b: f(b, a)


def invert(t: Tensor) -> Tensor:
    """``~t`` for bool and integers."""
    if t.dtype.kind not in "iub":
        raise TypeError(f"~t is for bool and integers, got {t.dtype}; write -t, or 1 - t")
    return Tensor(~t.data)


# ---------------------------------------------------------------------------------------------------------
# Changes in place
# ---------------------------------------------------------------------------------------------------------
def in_place(symbol: str, name: str) -> Callable[[Tensor, Any], Tensor]:
    """``t += other``: t becomes t + other, in a new array, since calls may have saved the old one."""
    def method(t: Tensor, other: Any) -> Any:
        if t.requires_grad and t.node is None and grad_enabled():
            raise TypeError(f"t {symbol}= ... on a leaf that requires a gradient: write t = t {symbol} ..., which is "
                            "in the graph, or `with no_grad():` around an update of weights")
        result = getattr(t, name)(other)
        if result is NotImplemented:
            return result
        if result.shape != t.shape or result.dtype != t.dtype:
            raise TypeError(f"t {symbol}= ...: would turn {t.dtype} {t.shape} into {result.dtype} {result.shape}; "
                            f"write t = t {symbol} ...")
        t.data = result.data
        if result.requires_grad:
            t.node, t.requires_grad = result.node, True
        return t
    return method


def assign(t: Tensor, key: Any, value: Any) -> None:
    """``t[key] = value``: write into t's array, outside the graph."""
    if grad_enabled() and (t.requires_grad or isinstance(value, Tensor) and value.requires_grad):
        raise TypeError("t[...] = ... has no gradient; write F.where(mask, value, t), F.cat or F.stack for a result in "
                        "the graph, or `with no_grad():` around it")
    parts = tuple(p.data if isinstance(p, Tensor) else p for p in (key if isinstance(key, tuple) else (key,)))
    t.data[parts if isinstance(key, tuple) else parts[0]] = value.data if isinstance(value, Tensor) else value


def refused(what: str, cure: str) -> Callable:
    """A method that raises ``TypeError``; PyTorch's tensors do not have it either."""
    def method(t: Tensor, *others: Any) -> Any:
        raise TypeError(f"{what} of a Tensor: write {cure}")
    return method


# ---------------------------------------------------------------------------------------------------------
# NumPy
# ---------------------------------------------------------------------------------------------------------
OURS = {"max": "amax", "min": "amin", "absolute": "abs", "negative": "neg", "clip": "clamp", "power": "pow"}


def as_numpy(t: Tensor, caller: str) -> np.ndarray:
    """The array of a Tensor for NumPy's function ``caller``. Raises ``TypeError`` if a gradient would be lost."""
    if t.requires_grad:
        name = caller.rpartition(".")[2]
        name = OURS.get(name, name)
        op = f"minicv.ops.{name}, or " if name in NAMES else ""
        raise TypeError(f"{caller} of a Tensor that requires a gradient, which NumPy would lose: write {op}"
                        "t.detach() or t.numpy() for the values alone")
    if t.device != "numpy":
        raise TypeError(f"{caller} of a Tensor on {t.device}: write t.numpy() for a copy of the values")
    return t.data


def arrays(value: Any, caller: str) -> Any:
    """Replace Tensors by their arrays, also inside lists, tuples and dicts."""
    if isinstance(value, Tensor):
        return as_numpy(value, caller)
    if isinstance(value, dict):
        return {key: arrays(v, caller) for key, v in value.items()}
    return type(value)(arrays(v, caller) for v in value) if type(value) in (list, tuple) else value


def as_array(t: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    """``np.asarray(t)`` is t's own array, ``np.array(t)`` a copy."""
    return np.array(as_numpy(t, "np.asarray"), dtype, copy=copy)


def array_function(t: Tensor, function: Callable, types: Any, args: tuple, kwargs: dict) -> Any:
    """``np.mean(t)``, ``np.stack([t, t])``: NumPy's result for the arrays."""
    if function in (np.shape, np.ndim, np.size):
        return getattr(t.data, function.__name__)
    caller = f"np.{function.__name__}"
    return function(*arrays(args, caller), **arrays(kwargs, caller))


class ArrayUfunc:
    """``array * t``, ``np.exp(t)``: NumPy asks the class and gets ``call``; CuPy asks the object and gets None.

    None leaves ``cupy_array * t`` to the Tensor's operator.
    """

    def __get__(self, t: Tensor | None, cls: type) -> Any:
        return self.call if t is None else None

    @staticmethod
    def call(t: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            raise TypeError(f"np.{ufunc.__name__} into a NumPy array, as `array += t` does: write array = array + t")
        if ufunc is np.matmul:
            return Tensor.__matmul__(*inputs)
        if ufunc in UFUNCS and method == "__call__" and not options:
            a, b = inputs
            a = a.item() if isinstance(a, np.generic) else Tensor(a) if isinstance(a, np.ndarray) else a
            return UFUNCS[ufunc](a, b)
        result = getattr(ufunc, method)(*arrays(inputs, f"np.{ufunc.__name__}"), **options)
        if result is None:  # np.add.at, which changes an array
            return None
        return tuple(map(Tensor, result)) if isinstance(result, tuple) else Tensor(result)


UFUNCS = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.true_divide: operator.truediv,
    np.floor_divide: operator.floordiv, np.remainder: operator.mod, np.power: operator.pow, np.equal: operator.eq,
    np.not_equal: operator.ne, np.less: operator.lt, np.less_equal: operator.le, np.greater: operator.gt,
    np.greater_equal: operator.ge, np.bitwise_and: operator.and_, np.bitwise_or: operator.or_,
    np.bitwise_xor: operator.xor,
}


# ---------------------------------------------------------------------------------------------------------
# Copies
# ---------------------------------------------------------------------------------------------------------
def state(t: Tensor) -> tuple:
    """What ``copy.deepcopy`` and ``pickle`` take of a leaf: its arrays, in the order of their axes in memory."""
    if t.node is not None:
        raise RuntimeError(f"copy or pickle of a result, made by {t.node.name()}: only leaves can be copied; write "
                           "t.detach() for its values, or compute it again from copied leaves")
    return stored(t.data), None if t.grad is None else stored(t.grad), t.requires_grad


def stored(a: Array) -> tuple[Array, list[int] | None]:
    """An array with its axes in the order of memory, and their order in the Tensor; None: the same."""
    if a.flags.c_contiguous:
        return a, None
    order = sorted(range(a.ndim), key=lambda i: -a.strides[i])  # pickle keeps no other, see init.khwc_layout
    return a.transpose(order), sorted(range(a.ndim), key=order.__getitem__)


def restore(t: Tensor, saved: tuple) -> None:
    """Make t of what ``state`` returned."""
    data, grad, t.requires_grad = saved
    t.data = data[0] if data[1] is None else data[0].transpose(data[1])
    t.grad = None if grad is None else grad[0] if grad[1] is None else grad[0].transpose(grad[1])
    t.node = None


def shallow(t: Tensor) -> Tensor:
    """``copy.copy(t)`` of a leaf: another Tensor of the same array, without ``.grad``."""
    other = type(t).__new__(type(t))
    restore(other, (state(t)[0], None, t.requires_grad))
    return other


def no_state(ctx: Function) -> None:
    """Raise ``RuntimeError``: calls cannot be copied or pickled."""
    raise RuntimeError(f"copy or pickle of a call of {ctx.name()}: it belongs to its graph, and cannot be copied")


# ---------------------------------------------------------------------------------------------------------
# All of them. A Tensor's hash stays its identity, so that it can be a key although == is elementwise.
# ---------------------------------------------------------------------------------------------------------
add_methods(
    __bool__=lambda t: bool(single(t, "bool")), __float__=lambda t: float(single(t, "float")),
    __int__=lambda t: int(single(t, "int")), __complex__=lambda t: complex(single(t, "complex")),
    __index__=index, __len__=length, __iter__=rows, __contains__=contains,
    __reversed__=lambda t: t.flip(0) if t.ndim else t, __format__=formatted, __setitem__=assign, __invert__=invert,
    __pos__=lambda t: t, __delitem__=refused("del t[...]", "F.cat of the parts to keep"),
    __round__=refused("round(t)", "round(t.item(), 2) of one element, or t.numpy().round(2)"),
    __divmod__=refused("divmod", "(a // b, a % b)"), __rdivmod__=refused("divmod", "(a // b, a % b)"),
    __array__=as_array, __array_function__=array_function, __array_ufunc__=ArrayUfunc(),
    __copy__=shallow, __getstate__=state, __setstate__=restore)
add_methods(**{f"__{name}__": logical(symbol, getattr(operator, name)) for name, symbol in (
    ("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="))})
for _name, _symbol, _f in (("and", "&", operator.and_), ("or", "|", operator.or_), ("xor", "^", operator.xor)):
    add_methods(**{f"__{_name}__": logical(_symbol, _f), f"__r{_name}__": logical(_symbol, swapped(_f))})
add_methods(
    __floordiv__=arithmetic("//", divided(operator.floordiv)),
    __rfloordiv__=arithmetic("//", swapped(divided(operator.floordiv))),
    __mod__=arithmetic("%", divided(operator.mod), "a - a // b * b"),
    __rmod__=arithmetic("%", swapped(divided(operator.mod)), "a - a // b * b"),
    __rpow__=arithmetic("**", swapped(operator.pow), "F.exp(t * math.log(base))"))
add_methods(**{f"__i{name}__": in_place(symbol, f"__{name}__") for name, symbol in (
    ("add", "+"), ("sub", "-"), ("mul", "*"), ("truediv", "/"), ("floordiv", "//"), ("mod", "%"), ("pow", "**"),
    ("matmul", "@"), ("and", "&"), ("or", "|"), ("xor", "^"))})
setattr(Function, "__getstate__", no_state)  # noqa: B010 - type checkers refuse the assignment of a method
