"""Threads that work through blocks."""
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from minicv import backend
from minicv.backend import workers
from tests.backend.conftest import set_threads
from tests.strict_device import strict


# ---------------------------------------------------------------------------------------------------------
# Threads
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [0, 1, 2, 3, 17])
def test_parallel_results_keep_the_order_of_the_blocks(four_threads, count):
    def work(i):
        time.sleep(0.002 * (i % 3 == 0))  # some finish late
        return i * i
    assert backend.parallel_map(work, list(range(count))) == [i * i for i in range(count)]


def test_parallel_uses_several_threads(four_threads):
    together = threading.Barrier(4, timeout=10)  # passes only if four come at the same time
    names = backend.parallel_map(lambda i: (together.wait(), threading.current_thread().name)[1], [0, 1, 2, 3])
    assert len(set(names)) == 4


def test_parallel_leaves_no_call_behind(four_threads):
    """A helper that wakes after all is done would find the call, and until then keep the arrays alive."""
    for _ in range(50):
        assert backend.parallel_map(lambda i: i, [0, 1]) == [0, 1]
        assert workers._calls().empty()


@pytest.mark.parametrize("n", [1, 3])
def test_threads_by_number(monkeypatch, n):
    set_threads(monkeypatch, n)
    names = backend.parallel_map(lambda i: (time.sleep(0.01), threading.current_thread().name)[1], list(range(12)))
    assert len(set(names)) == n


@pytest.mark.parametrize("bad", [0, 5, 19])
def test_an_exception_in_a_worker_reaches_the_caller(four_threads, bad):
    def work(i):
        time.sleep(0.001)
        if i == bad:
            raise KeyError(f"block {i}")
        return i

    for _ in range(3):  # and the threads work on after it
        with pytest.raises(KeyError, match=f"block {bad}"):
            backend.parallel_map(work, list(range(20)))
    assert backend.parallel_map(work, [1, 2, 3]) == [1, 2, 3]


def test_after_an_exception_nothing_runs_on(four_threads):
    """Blocks that were begun are finished before the caller goes on: it may reuse the arrays that they write to."""
    caller, running, started = threading.current_thread(), set(), threading.Barrier(4, timeout=10)

    def work(i):
        running.add(i)
        started.wait()
        if threading.current_thread() is caller:
            running.discard(i)
            raise KeyError("the caller's own block")
        time.sleep(0.05)
        running.discard(i)

    with pytest.raises(KeyError):
        backend.parallel_map(work, [0, 1, 2, 3])
    assert running == set()


def test_parallel_inside_parallel(monkeypatch):
    """With one helper, which would wait for itself."""
    set_threads(monkeypatch, 2)
    result = []

    def outer(i):
        return backend.parallel_map(lambda j: (time.sleep(0.002), (i, j))[1], [0, 1, 2])

    thread = threading.Thread(target=lambda: result.append(backend.parallel_map(outer, [0, 1, 2, 3])), daemon=True)
    thread.start()
    thread.join(10)
    assert result == [[[(i, j) for j in range(3)] for i in range(4)]]


def test_two_callers_at_once(four_threads):
    results = {}

    def caller(name):
        results[name] = backend.parallel_map(lambda i: (time.sleep(0.001), (name, i))[1], list(range(30)))

    callers = [threading.Thread(target=caller, args=(name,)) for name in "abc"]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(10)
    assert results == {name: [(name, i) for i in range(30)] for name in "abc"}


def _in_child(queue):
    queue.put(backend.parallel_map(lambda i: i * i, list(range(8))))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that is what is tested
def test_a_forked_process_starts_its_own_threads(monkeypatch):
    """A fork copies the queue, but not its threads: waiting for them would never end."""
    monkeypatch.setattr(workers, "num_threads", lambda: 3)
    backend.parallel_map(lambda i: time.sleep(0.001), list(range(8)))  # the pool is there
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=20) == [i * i for i in range(8)]
    finally:
        child.kill()
        child.join()
        workers._calls.cache_clear()


@pytest.mark.parametrize("given_threads, expected", [("3", "3"), ("1", "1"), ("0", None), ("", None)])
def test_the_number_of_threads_comes_from_the_environment(given_threads, expected):
    program = ("import os; from minicv import backend; "
               "print(backend.num_threads() == len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') "
               "else backend.num_threads() == os.cpu_count(), backend.num_threads(), "
               "backend.workers._set_blas_threads is not None)")
    env = {**os.environ, "MINICV_THREADS": given_threads}
    if not given_threads:
        env.pop("MINICV_THREADS")
    answer = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True)
    all_cores, n, known_blas = answer.stdout.split()
    assert known_blas == "False" or (n == expected if expected else all_cores == "True")


@pytest.mark.parametrize("asked", ["two", "-1", "1.5"])
def test_a_number_of_threads_that_is_none_is_named(monkeypatch, asked):
    monkeypatch.setenv("MINICV_THREADS", asked)
    monkeypatch.setattr(workers, "_set_blas_threads", len)  # as if the BLAS were a known one
    with pytest.raises(ValueError, match=f"MINICV_THREADS={asked} in the environment: must be how many threads"):
        backend.num_threads.__wrapped__()


LAYOUTS = [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 2, 3)]


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 64, 40, 40), (3, 8, 64, 64), (2, 2, 3, 5), (1, 1, 1, 200_000), (0, 3, 4, 4)])
def test_split_in_parallel_is_the_same_as_in_one_piece(four_threads, shape, order):
    rng = np.random.default_rng(0)
    memory = [shape[i] for i in order]
    x = rng.standard_normal(memory).transpose(np.argsort(order))
    assert x.shape == shape
    y = np.full_like(x, np.nan)
    z = np.full(shape, np.nan)  # of another layout
    sizes = backend.parallel_chunks(lambda x, y, z: (np.add(x, 1, out=y), np.negative(x, out=z), x.size)[2], x, y, z)
    assert np.array_equal(y, x + 1) and np.array_equal(z, -x) and sum(sizes) == x.size
    assert len(sizes) == 1 or x.nbytes >= 1 << 18


def test_split_cuts_the_outermost_axis_in_memory(four_threads):
    x = np.zeros((64, 128, 2, 96)).transpose(2, 3, 0, 1)  # (2, 96, 64, 128), memory (64, 128, 2, 96)
    parts = backend.parallel_chunks(lambda x: x.shape, x)
    assert len(parts) > 1 and {p[:2] + p[3:] for p in parts} == {(2, 96, 128)} and sum(p[2] for p in parts) == 64


def test_split_leaves_small_and_foreign_arrays_in_one_piece(four_threads):
    assert backend.parallel_chunks(lambda x: x.shape, np.zeros((4, 4))) == [(4, 4)]
    large = strict.zeros((512, 512))
    assert backend.parallel_chunks(lambda x: x.shape, large) == [(512, 512)]
