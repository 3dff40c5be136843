"""An operation: ``forward`` on plain arrays, and right below it ``backward``."""
from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import threading
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array
from . import versions
from .tensor import Tensor

_state = threading.local()  # .no_grad, .anomaly, .plain: how many of these blocks are open in this thread
_count = itertools.count()
_substitutes: dict[type[Function], type[Function]] = {}
_fast: dict[type[Function], type[Function]] = {}  # the table of minicv/fast: a Function -> its fast version


def grad_enabled() -> bool:
    """Whether calls join the graph: False inside ``no_grad``."""
    return not getattr(_state, "no_grad", 0)


class Function:
    """The base class of operations: override ``forward`` and ``backward``, call ``apply``. ``ctx`` is one call:

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

    ``forward`` receives the arrays of the positional arguments (None stays None) and the options as keywords. It
    returns one array, or a tuple, of which only the first is differentiable. ``backward`` returns one gradient per
    positional argument, in order (a tuple if there are several), or None where ``ctx.needs_input_grad[i]`` is False.
    Neither may change its arrays. Only the arguments of ``ctx.save`` are kept until the backward walk, which raises
    ``RuntimeError`` if a saved array has changed in between (``versions.py``).
    """

    needs_input_grad: tuple[bool, ...] = ()  # for each argument, whether it needs a gradient
    saved: tuple = ()
    noted: list | tuple = ()  # fingerprints of saved arrays, see versions.py
    edges: list | None = None  # for each argument, the call that made it, or the leaf itself
    number: int  # calls are numbered in the order in which they are made
    shape: tuple[int, ...]  # of the result
    dtype: np.dtype
    device: str | None = None  # the only device that a fast version supports, or None for all

    def forward(ctx, *arrays: Array, **options: Any) -> Array:
        raise TypeError(f"{ctx.name()}: has no forward")

    def backward(ctx, gy: Array) -> Array | tuple[Array | None, ...]:
        raise TypeError(f"{ctx.name()}: has no backward")

    def save(ctx, *values: Any) -> None:
        """Keep these for ``backward``, which finds them in ``ctx.saved``."""
        ctx.saved = values

    @classmethod
    def name(cls) -> str:
        """The name of the operation: that of the plain class, also for its fast version."""
        return cls.__name__.removeprefix("Fast")

    @classmethod
    def apply(cls, *inputs: Tensor | None, **options: Any) -> Any:
        """Run forward on the inputs' arrays and, if any of them requires a gradient, add the call to the graph."""
        for i, x in enumerate(inputs):
            if x is not None and not isinstance(x, Tensor):
                raise TypeError(f"{cls.name()}: argument {i} is of type {type(x).__name__}; wrap it in minicv.Tensor")
        arrays = [None if x is None else x.data for x in inputs]
        ctx = implementation(cls, arrays)()
        ctx._check(arrays)
        enabled = grad_enabled()
        ctx.needs_input_grad = tuple(enabled and x is not None and x.requires_grad for x in inputs)
        result = ctx._run_forward(arrays, options)
        first, *others = result if isinstance(result, tuple) else (result,)
        output = Tensor(first)
        ctx.expect_finite("forward", (first,), arrays)
        if any(ctx.needs_input_grad):
            ctx._join_graph(inputs, output)
            if ctx.saved:
                leaves = [a for a, x in zip(arrays, inputs, strict=True) if x is not None and x.node is None]
                leaves += [v for v in options.values() if isinstance(v, np.ndarray)]
                ctx.noted = versions.marks(ctx.saved, leaves, [*arrays, first, *others])
        else:
            ctx.saved = ()
        return (output, *map(Tensor, others)) if others else output

    def _join_graph(ctx, inputs: tuple[Tensor | None, ...], output: Tensor) -> None:
        """Record the sources of the arguments, and this call as the source of the output: ``graph.py`` walks the edges.

        An edge leads to the call that made an input, or to the input itself if it is a leaf. It does not keep the
        input's array alive: ``save`` decides that. Calls are numbered in the order they are made.
        """
        ctx.edges = [(x.node or x) if x is not None and need else None
                     for x, need in zip(inputs, ctx.needs_input_grad, strict=True)]
        ctx.number = next(_count)
        ctx.shape, ctx.dtype = output.shape, output.dtype
        output.requires_grad, output.node = True, ctx

    def _run_forward(ctx, arrays: list[Array | None], options: dict[str, Any]) -> Any:
        """Run ``forward``; add a note to its errors that names the operation and its arguments, as NumPy's do not."""
        try:
            with np.errstate(all="ignore"):  # inf and nan without a warning, as on a GPU and in PyTorch
                return ctx.forward(*arrays, **options)
        except Exception as error:
            error.add_note(f"in {ctx.name()}.forward of " + ", ".join(
                "None" if a is None else f"{a.dtype} {a.shape}" for a in arrays))
            raise

    def _check(ctx, arrays: list[Array | None]) -> None:
        """Raise ``TypeError`` unless all arguments lie on one device and all floats have one width."""
        present = [a for a in arrays if a is not None]
        if len({type(a) for a in present}) > 1 or len({a.dtype for a in present if a.dtype.kind == "f"}) > 1:
            names = list(inspect.signature(type(ctx).forward).parameters)[1:]
            if len(names) < len(arrays):  # forward(ctx, *arrays)
                names = [f"argument {i}" for i in range(len(arrays))]
            described = ", ".join(f"{n}: {a.dtype} on {backend.device_of(a)}"
                                  for n, a in zip(names, arrays, strict=False) if a is not None)
            raise TypeError(f"{ctx.name()}: all arguments must lie on one device and floats have one dtype; got "
                            f"{described}. Use .to(device) or .astype(dtype)")

    def expect_finite(ctx, way: str, results: tuple, arguments: list | tuple = ()) -> None:
        """Inside ``detect_anomaly``, raise ``FloatingPointError`` if a result holds NaN or infinity."""
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


# ---------------------------------------------------------------------------------------------------------
# Switches
# ---------------------------------------------------------------------------------------------------------
class Switch(contextlib.ContextDecorator):
    """A ``with`` block or decorator; it is on in this thread while at least one block of its class is open."""

    state = ""

    def __call__(self, function: Any) -> Any:
        if inspect.isgeneratorfunction(function):  # its body runs later, after the block
            raise TypeError(f"@{type(self).__name__}() on the generator {function.__name__}: it would be off between "
                            f"two values; write `with {type(self).__name__}():` inside")
        return super().__call__(function)

    def __enter__(self) -> None:
        setattr(_state, self.state, getattr(_state, self.state, 0) + 1)

    def __exit__(self, *error: object) -> None:
        setattr(_state, self.state, getattr(_state, self.state) - 1)


class no_grad(Switch):
    """``with no_grad():`` (or ``@no_grad()``) computes without a graph: nothing is saved for backward."""

    state = "no_grad"


class detect_anomaly(Switch):
    """``with detect_anomaly():`` stops at the first operation whose result or gradient is NaN or infinite.

    It raises ``FloatingPointError``, which names the operation, forward or backward, and the shapes. It checks every
    result, so use it to find a mistake, not for training.
    """

    state = "anomaly"


class plain(Switch):
    """``with plain():`` runs each operation as ``minicv/ops`` defines it, without the fast versions of ``minicv/fast``.

    So the code that runs is the code that you read. ``MINICV_PLAIN=1`` in the environment does the same for a program.
    """

    state = "plain"

    @staticmethod
    def active() -> bool:
        """Whether operations run plain now."""
        return bool(getattr(_state, "plain", 0)) or plain_everywhere()


# ---------------------------------------------------------------------------------------------------------
# Which class runs: the plain Function, its fast version, or a substitute
# ---------------------------------------------------------------------------------------------------------
def use_fast(table: dict[type[Function], type[Function]]) -> None:
    """From now on, run these subclasses instead of their Functions, except in ``plain``."""
    _fast.update(table)


def fast_versions() -> dict[type[Function], type[Function]]:
    """The table of fast versions: plain Function -> fast class."""
    return dict(_fast)


def plain_everywhere() -> bool:
    """Whether ``MINICV_PLAIN`` is 1. Raises ``ValueError`` for values other than 0 and 1."""
    value = os.environ.get("MINICV_PLAIN", "") or "0"
    if value not in ("0", "1"):
        raise ValueError(f"MINICV_PLAIN={value} in the environment: must be 1 (plain operations) or 0 (fast ones)")
    return value == "1"


def implementation(cls: type[Function], arrays: list[Array | None]) -> type[Function]:
    """The class that runs for ``cls`` on these arrays: its substitute, its fast version, or itself."""
    if cls in _substitutes:
        return _substitutes[cls]
    fast = None if getattr(_state, "plain", 0) else _fast.get(cls)
    if fast is None or fast.device not in (None, next(backend.device_of(a) for a in arrays if a is not None)):
        return cls
    return fast


@contextlib.contextmanager
def substitute(table: dict[type[Function], type[Function]]):
    """``with substitute({Conv2d: Other}):`` runs Other instead of Conv2d and of its fast version.

    The tests use it to run a whole network on another library's operations, with the same weights and graph.
    """
    before = dict(_substitutes)
    _substitutes.update(table)
    try:
        yield
    finally:
        _substitutes.clear()
        _substitutes.update(before)
