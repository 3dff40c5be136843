"""The switch between NumPy and CuPy, and the few primitives whose best form depends on the device.

Only this file, ``training.nccl`` and the doctor import CuPy. Everything else asks ``xp_of(array)`` for the module
that owns an array and writes one body of code for both devices.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np

from . import blas

Array = Any  # numpy.ndarray or cupy.ndarray

# ---------------------------------------------------------------------------------------------------------
# Devices: a name, the module that computes there, and its array type
# ---------------------------------------------------------------------------------------------------------
_modules: dict[str, ModuleType] = {"numpy": np}
_names: dict[type, str] = {np.ndarray: "numpy"}
_current = "numpy"
_rng = np.random.default_rng(0)


def register(name: str, module: ModuleType, array_type: type) -> None:
    """Make a device known. ``cupy`` registers itself on first use; the tests register a strict stand-in."""
    _modules[name] = module
    _names[array_type] = name


def _load(name: str) -> ModuleType:
    if name == "cupy" and name not in _modules:
        try:
            import cupy
        except ImportError as error:
            raise RuntimeError("minicv.use('cupy'): CuPy cannot be imported; install it with "
                               "`pip install -e '.[cuda]'` on a machine with an NVIDIA GPU") from error
        register("cupy", cupy, cupy.ndarray)
    if name not in _modules:
        raise ValueError(f"minicv.use({name!r}): no such device; there are {sorted({*_modules, 'cupy'})}")
    return _modules[name]


def use(name: str) -> None:
    """Put new parameters on a device: ``"numpy"`` or ``"cupy"``."""
    global _current
    _load(name)
    _current = name


def current() -> str:
    """The name of the device in use."""
    return _current


def xp() -> ModuleType:
    """The array module of the device in use (numpy or cupy)."""
    return _modules[_current]


def is_array(value: object) -> bool:
    """True for an array of any known device."""
    return type(value) in _names or isinstance(value, np.ndarray)


def device_of(array: Array) -> str:
    """The name of the device that holds an array."""
    name = _names.get(type(array))
    if name is None:
        if isinstance(array, np.ndarray | np.generic):
            return "numpy"
        raise TypeError(f"expected an array of {sorted(_modules)}, got {type(array).__name__}")
    return name


def xp_of(array: Array) -> ModuleType:
    """The module that owns an array: ``numpy`` or ``cupy``."""
    return _modules[device_of(array)]


def to_numpy(array: Array) -> np.ndarray:
    """A NumPy array with the same values (a copy from the GPU where it lies there)."""
    return np.asarray(array) if device_of(array) == "numpy" else array.get()


def to_device(array: Array, name: str | None = None) -> Array:
    """The array on the named device (default: the one in use); the same object if it is there already."""
    name = name or _current
    return array if device_of(array) == name else _load(name).asarray(to_numpy(array))


# ---------------------------------------------------------------------------------------------------------
# Random numbers: drawn on the host from one generator, so that a seed gives the same numbers on any device
# ---------------------------------------------------------------------------------------------------------
def seed(n: int) -> None:
    """Start all of minicv's random numbers (initial weights, dropout) anew from ``n``."""
    global _rng
    _rng = np.random.default_rng(n)


@contextlib.contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Inside, minicv's random numbers start anew from these numbers; afterwards they go on as if nothing had been."""
    global _rng
    before, _rng = _rng, np.random.default_rng(numbers)
    try:
        yield
    finally:
        _rng = before


def rng() -> np.random.Generator:
    """The generator behind initial weights and dropout."""
    return _rng


# ---------------------------------------------------------------------------------------------------------
# Threads. NumPy releases the interpreter lock inside a call, so threads that work through blocks of a batch use all
# cores, for every kind of operation. The BLAS library's own threads are switched off: those wait in a busy loop after
# each product, and took half of the time of whatever minicv did next.
# ---------------------------------------------------------------------------------------------------------
_set_blas_threads = blas.thread_setter()
if _set_blas_threads:
    _set_blas_threads(1)


# Freed arrays of up to 32 MB stay with the process. By default the C library returns them to the system, which clears
# each page again on its next use: a tenth of a U-Net's training step.
with contextlib.suppress(OSError, AttributeError, TypeError):  # only the GNU C library has it
    _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 25)
    ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@functools.cache
def threads() -> int:
    """How many threads work through the blocks: ``MINICV_THREADS``, or the cores this process may use."""
    if _set_blas_threads is None:
        return 1  # an unknown BLAS brings its own threads; ours would only fight with them
    asked = os.environ.get("MINICV_THREADS", "0").strip() or "0"
    if not asked.isdecimal():
        raise ValueError(f"MINICV_THREADS={asked} in the environment: must be how many threads, or 0 for one per core")
    return int(asked) or cores()


@functools.cache
def _calls() -> SimpleQueue:
    """What the helping threads are to call; they are started here. (A ThreadPoolExecutor took 60 us more per use.)"""
    calls: SimpleQueue = SimpleQueue()

    def serve() -> None:
        with np.errstate(all="ignore"):  # a thread has settings of its own; these are what a Function works under
            while True:
                calls.get()()
    for i in range(1, threads()):
        threading.Thread(target=serve, name=f"minicv blocks {i}", daemon=True).start()
    return calls


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.cache_clear)  # a fork copies the queue, but not its threads


def parallel(work: Callable[[Any], Any], blocks: Sequence[Any]) -> list[Any]:
    """``[work(block) for block in blocks]``, by several threads where that helps.

    The blocks are given and the results keep their order, so the result does not depend on the number of threads.
    When it returns, or raises what ``work`` raised, no block is being worked on any more. Called by ``work``, it works
    through the blocks by itself: all threads have something to do already.
    """
    if len(blocks) <= 1 or threads() == 1 or threading.current_thread().name.startswith("minicv blocks"):
        return [work(block) for block in blocks]
    results: list[Any] = [None] * len(blocks)
    todo = iter(range(len(blocks)))  # shared: the interpreter lock makes `next` atomic
    done: SimpleQueue = SimpleQueue()  # None, or an error, for every block that a helper took

    def help_out() -> None:
        for i in todo:
            try:
                results[i] = work(blocks[i])
                done.put(None)
            except BaseException as error:
                for _ in todo:  # nobody begins another block
                    done.put(None)
                done.put(error)

    calls = _calls()
    for _ in range(min(threads(), len(blocks)) - 1):
        calls.put(help_out)
    own = 0
    try:
        for i in todo:
            own += 1
            results[i] = work(blocks[i])
    finally:
        own += sum(1 for _ in todo)
        errors = [error for error in (done.get() for _ in range(len(blocks) - own)) if error]
        with contextlib.suppress(Empty):
            while True:
                calls.get_nowait()  # of helpers that woke too late: else they would keep the arrays alive
    if errors:
        raise errors[0]
    return results


def together(tasks: Sequence[Callable[[], Any]], *arrays: Array) -> None:
    """Call every task, by several threads unless the arrays that they work on are small, or not NumPy's."""
    if sum(a.nbytes for a in arrays) >= 1 << 18 and all(type(a) is np.ndarray for a in arrays):
        parallel(lambda task: task(), tasks)
    else:
        for task in tasks:
            task()


def split(work: Callable[..., Any], *arrays: Array) -> list[Any]:
    """Call ``work(*parts)`` for corresponding parts of arrays of one shape, by several threads; its results in order.

    The parts are cut along the axis that is outermost in the first array's memory, and are views: ``work`` writes to
    those of an output array in place. A small array, and any array that is not NumPy's, is one part.
    """
    first = arrays[0]
    if type(first) is not np.ndarray or first.nbytes < 1 << 18:
        return [work(*arrays)]
    axis = max(range(first.ndim), key=lambda i: (first.shape[i] > 1) * abs(first.strides[i]))
    n = first.shape[axis]
    count = min(n, 2 * -(-first.nbytes // (1 << 22)))
    before = (slice(None),) * axis
    spans = [(*before, slice(i * n // count, (i + 1) * n // count)) for i in range(count)]
    return parallel(lambda span: work(*(a[span] for a in arrays)), spans)


PIECE = 512  # products that are added one after the other


def matmul(a: Array, b: Array, out: Array) -> None:
    """``out = a @ b`` over the last two axes, into a given array of any layout."""
    if type(out) is np.ndarray:
        np.matmul(a, b, out=out)
    else:
        out[...] = a @ b


def product(a: Array, b: Array) -> Array:
    """``a @ b`` over the last two axes, (..., M, K) @ (..., K, N); of two large matrices by several threads.

    A small result of long sums is made of pieces of K: BLAS adds the K products of such a one after the other, and
    loses three digits in a million.
    """
    (M, K), N = a.shape[-2:], b.shape[-1]
    if type(a) is np.ndarray and K > 2 * PIECE and M * N < 1 << 12:
        n = K // PIECE
        left = a[..., :n * PIECE].reshape(*a.shape[:-1], n, PIECE).swapaxes(-3, -2)  # (..., n, M, PIECE)
        pieces = left @ b[..., :n * PIECE, :].reshape(*b.shape[:-2], n, PIECE, N)
        y = np.ascontiguousarray(np.moveaxis(pieces, -3, -1)).sum(axis=-1)  # in halves, along the innermost axis
        return y if n * PIECE == K else y + a[..., n * PIECE:] @ b[..., n * PIECE:, :]
    if type(a) is not np.ndarray or a.ndim > 2 or b.ndim > 2 or M * N * K < 1 << 20:
        return a @ b
    out = np.empty((M, N), a.dtype)
    if M >= N:  # each thread its own rows, or its own columns
        parts = [slice(i * M // 4, (i + 1) * M // 4) for i in range(4)]
        parallel(lambda rows: np.matmul(a[rows], b, out=out[rows]), parts)
    else:
        parts = [slice(i * N // 4, (i + 1) * N // 4) for i in range(4)]
        parallel(lambda columns: np.matmul(a, b[:, columns], out=out[:, columns]), parts)
    return out


def as_strided(array: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> Array:
    """A view of contiguous memory with any shape and strides; these and ``offset`` in elements, not bytes."""
    size = array.itemsize
    strides = tuple([s * size for s in strides])
    if type(array) is np.ndarray:  # checks the bounds, in a tenth of the time of NumPy's as_strided
        return np.ndarray(shape, array.dtype, array, offset * size, strides)
    return xp_of(array).lib.stride_tricks.as_strided(array.ravel()[offset:], shape, strides)


def add_at(target: Array, index: Array, values: Array) -> None:
    """``target[index] += values`` where an index may occur more than once (in place, sums all of them)."""
    xp_of(target).add.at(target, index, values)
