"""Threads that work through blocks.

NumPy releases the interpreter lock inside a call, so threads that work through blocks of a batch use all cores, for
every kind of operation. The BLAS library's own threads are switched off: after each product they wait in a busy loop,
which took half of the time of whatever minicv did next.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from . import blas
from .devices import Array

_set_blas_threads = blas.thread_setter()
if _set_blas_threads:
    _set_blas_threads(1)


# Keep freed arrays of up to 32 MB in the process. By default the C library returns them to the system, which clears
# each page again on its next use: a tenth of a U-Net's training step.
with contextlib.suppress(OSError, AttributeError, TypeError):  # only the GNU C library has it
    _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 25)
    ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def num_threads() -> int:
    """Return how many threads work through the blocks: ``MINICV_THREADS``, or the cores this process may use."""
    if _set_blas_threads is None:
        return 1  # an unknown BLAS has its own threads; ours would compete with them
    asked = os.environ.get("MINICV_THREADS", "0").strip() or "0"
    if not asked.isdecimal():
        raise ValueError(f"MINICV_THREADS={asked} in the environment: must be how many threads, or 0 for one per core")
    return int(asked) or cores()


@functools.cache
def _calls() -> SimpleQueue:
    """Start the helper threads; return the queue of their calls. (A ThreadPoolExecutor took 60 us more per use.)"""
    calls: SimpleQueue = SimpleQueue()

    def serve() -> None:
        with np.errstate(all="ignore"):  # each thread has its own settings; a Function runs under these
            while True:
                calls.get()()
    for i in range(1, num_threads()):
        threading.Thread(target=serve, name=f"minicv blocks {i}", daemon=True).start()
    return calls


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_calls.cache_clear)  # a fork copies the queue, but not its threads


def parallel_map(work: Callable[[Any], Any], blocks: Sequence[Any]) -> list[Any]:
    """Return ``[work(block) for block in blocks]``, computed in several threads where that helps.

    The results do not depend on the number of threads: the blocks are given, and the results keep their order. When it
    returns, or raises what ``work`` raised, no thread is still working on a block. Called from inside ``work``, it uses
    one thread: the others are busy already.
    """
    if len(blocks) <= 1 or num_threads() == 1 or threading.current_thread().name.startswith("minicv blocks"):
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
                for _ in todo:  # no thread starts another block
                    done.put(None)
                done.put(error)

    calls = _calls()
    for _ in range(min(num_threads(), len(blocks)) - 1):
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
                calls.get_nowait()  # calls that no helper took in time would keep the arrays alive
    if errors:
        raise errors[0]
    return results


def parallel_chunks(work: Callable[..., Any], *arrays: Array) -> list[Any]:
    """Call ``work(*parts)`` on corresponding parts of arrays of one shape, in several threads; its results in order.

    The parts are views, split along the axis that is outermost in the first array's memory: ``work`` writes into the
    parts of an output array. A small array, or one that is not NumPy's, is a single part.
    """
    first = arrays[0]
    if type(first) is not np.ndarray or first.nbytes < 1 << 20:  # calling a thread takes as long as 256 KB
        return [work(*arrays)]
    axis = max(range(first.ndim), key=lambda i: (first.shape[i] > 1) * abs(first.strides[i]))
    n = first.shape[axis]
    count = min(n, 2 * -(-first.nbytes // (1 << 22)))
    before = (slice(None),) * axis
    spans = [(*before, slice(i * n // count, (i + 1) * n // count)) for i in range(count)]
    return parallel_map(lambda span: work(*(a[span] for a in arrays)), spans)
