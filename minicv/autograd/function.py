"""An operation: a forward computation on plain arrays, and right below it the backward one."""
from __future__ import annotations

import contextlib
import inspect
import itertools
import threading
from typing import Any

from .. import backend
from ..backend import Array
from .tensor import Tensor

_state = threading.local()  # .no_grad: how many of them are open in this thread
_count = itertools.count()
_substitutes: dict[type[Function], type[Function]] = {}


class Function:
    """Subclass it with ``forward`` and ``backward``; call it with ``apply``. One instance, ``ctx``, is one call:

    >>> class Square(Function):
    ...     def forward(ctx, x):
    ...         ctx.save(x)
    ...         return x * x
    ...     def backward(ctx, gy):          # gy = dL/dy, of y's shape
    ...         (x,) = ctx.saved
    ...         return 2 * x * gy           # dL/dx, of x's shape
    >>> x = Tensor([3.0], requires_grad=True)
    >>> Square.apply(x).backward()
    >>> x.grad
    array([6.], dtype=float32)

    ``forward`` gets the arrays of the positional arguments (None stays None) and the options by keyword. It returns one
    array; of a tuple only the first is differentiable. ``backward`` returns one gradient per positional argument, in
    order (a tuple, if there are several), or None where ``ctx.needs[i]`` is False. Neither may change an array that it
    was given. Only what is passed to ``ctx.save`` is kept until the backward walk.
    """

    needs: tuple[bool, ...] = ()
    saved: tuple = ()

    def forward(ctx, *arrays: Array, **options: Any) -> Array:
        raise TypeError(f"{ctx.name()}: has no forward")

    def backward(ctx, gy: Array) -> Array | tuple[Array | None, ...]:
        raise TypeError(f"{ctx.name()}: has no backward")

    def save(ctx, *values: Any) -> None:
        """Keep these for ``backward``, which finds them in ``ctx.saved``."""
        ctx.saved = values

    @classmethod
    def name(cls) -> str:
        return cls.__name__

    @classmethod
    def apply(cls, *inputs: Tensor | None, **options: Any) -> Any:
        """Run forward on the inputs' arrays and, if any of them requires a gradient, note the call in the graph."""
        ctx = _substitutes.get(cls, cls)()
        for i, x in enumerate(inputs):
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(f"{ctx.name()}: argument {i} is of type {type(x).__name__}; wrap it in minicv.Tensor")
        arrays = [None if x is None else x.data for x in inputs]
        ctx._check(arrays)
        grad_enabled = not getattr(_state, "no_grad", 0)
        ctx.needs = tuple(grad_enabled and x is not None and x.requires_grad for x in inputs)
        try:
            result = ctx.forward(*arrays, **options)
        except Exception as error:  # an array module's own message does not say whose arrays these were
            error.add_note(f"in {ctx.name()}.forward of " + ", ".join(
                "None" if a is None else f"{a.dtype} {a.shape}" for a in arrays))
            raise
        first, *others = result if isinstance(result, tuple) else (result,)
        output = Tensor(first)
        ctx.expect_finite("forward", (first,), arrays)
        if any(ctx.needs):
            # An edge leads to the call that made an input, or to the input itself if it is a leaf. The input's array
            # is not kept alive by it: that is for `save` to decide.
            ctx.edges = [(x.node or x) if need else None for x, need in zip(inputs, ctx.needs, strict=True)]
            ctx.order = next(_count)
            ctx.shape, ctx.dtype = output.shape, output.dtype
            output.requires_grad, output.node = True, ctx
        else:
            ctx.saved = ()
        return (output, *map(Tensor, others)) if others else output

    def expect_finite(ctx, way: str, results: tuple, arguments: list | tuple = ()) -> None:
        """Inside ``detect_anomaly``: ``FloatingPointError`` if a result holds NaN or infinity."""
        if not getattr(_state, "anomaly", 0):
            return
        for i, a in enumerate(results):
            if a is None or a.dtype.kind != "f" or backend.xp_of(a).isfinite(a).all():
                continue
            what = f"gradient {i}" if way == "backward" else "result"
            given = f", of arguments {', '.join(str(x.shape) for x in arguments if x is not None)}" if arguments else ""
            bad = int((~backend.xp_of(a).isfinite(a)).sum())
            raise FloatingPointError(f"{ctx.name()} {way}: {bad} of {a.size} values of the {what} {a.shape} are NaN or "
                                     f"infinite{given}; no operation before it made any")

    def _check(ctx, arrays: list[Array | None]) -> None:
        """All arguments on one device, all floats of one width."""
        present = [a for a in arrays if a is not None]
        if len({type(a) for a in present}) > 1 or len({a.dtype for a in present if a.dtype.kind == "f"}) > 1:
            names = list(inspect.signature(type(ctx).forward).parameters)[1:]
            if len(names) < len(arrays):  # forward(ctx, *arrays)
                names = [f"argument {i}" for i in range(len(arrays))]
            described = ", ".join(f"{n}: {a.dtype} on {backend.device_of(a)}"
                                  for n, a in zip(names, arrays, strict=False) if a is not None)
            raise TypeError(f"{ctx.name()}: all arguments must lie on one device and floats have one dtype; got "
                            f"{described}. Use .to(device) or .astype(dtype)")


class no_grad(contextlib.ContextDecorator):
    """``with no_grad():`` (or ``@no_grad()``) computes without a graph: nothing is saved, nothing can be walked."""

    def __enter__(self) -> None:
        _state.no_grad = getattr(_state, "no_grad", 0) + 1

    def __exit__(self, *error: object) -> None:
        _state.no_grad -= 1


class detect_anomaly(contextlib.ContextDecorator):
    """``with detect_anomaly():`` ends at the first operation whose result or gradient is NaN or infinite.

    It is a ``FloatingPointError`` that names the operation, forward or backward, and the shapes. Every result is looked
    at, so this is for finding a mistake, not for training.
    """

    def __enter__(self) -> None:
        _state.anomaly = getattr(_state, "anomaly", 0) + 1

    def __exit__(self, *error: object) -> None:
        _state.anomaly -= 1


@contextlib.contextmanager
def substitute(table: dict[type[Function], type[Function]]):
    """``with substitute({Conv2d: Other}):`` runs Other wherever Conv2d is applied.

    With it the tests run a whole network on another library's operations, weights and graph unchanged.
    """
    before = dict(_substitutes)
    _substitutes.update(table)
    try:
        yield
    finally:
        _substitutes.clear()
        _substitutes.update(before)
