"""The switch between devices, random numbers, and threads."""
import functools
import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minicv
from minicv import backend
from minicv.backend import devices, workers
from tests.strict_device import StrictArray, strict


@pytest.fixture
def four_threads(monkeypatch):
    """Four threads, whatever the machine has."""
    set_threads(monkeypatch, 4)


def set_threads(monkeypatch, n):
    monkeypatch.setattr(workers, "num_threads", lambda: n)
    monkeypatch.setattr(workers, "_calls", functools.cache(workers._calls.__wrapped__))  # threads of its own


# ---------------------------------------------------------------------------------------------------------
# Devices
# ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def in_use():
    before = backend.current_device()
    yield
    minicv.use(before)


def test_numpy_is_the_device_unless_another_is_chosen(in_use):
    assert backend.current_device() == "numpy" and backend.xp() is np
    minicv.use("strict")
    assert backend.current_device() == "strict" and backend.xp() is strict
    assert type(backend.to_device(np.zeros(2))) is StrictArray


def test_an_unknown_device_is_an_error_that_lists_them(in_use):
    with pytest.raises(ValueError, match=r"use\('abacus'\): unknown device; use one of \['cupy', 'numpy', 'strict'\]"):
        minicv.use("abacus")
    assert backend.current_device() == "numpy"


def test_without_cupy_the_error_says_how_to_get_it(in_use, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # as if it were not installed
    monkeypatch.setattr(devices, "_modules", {"numpy": np})
    with pytest.raises(RuntimeError, match=r"CuPy cannot be imported; install it with `pip install -e '.\[cuda\]'`"):
        minicv.use("cupy")
    assert backend.current_device() == "numpy"


@pytest.mark.parametrize("value", [[1.0], 1.0, None, "array"])
def test_what_is_no_array(value):
    assert not backend.is_array(value)
    with pytest.raises(TypeError, match="expected an array of .*numpy.*, got"):
        backend.xp_of(value)


def test_where_arrays_are():
    assert backend.xp_of(np.zeros(2)) is np and backend.xp_of(np.float32(1)) is np
    assert backend.device_of(strict.zeros(2)) == "strict"


def test_moving_arrays():
    host = np.arange(3.0)
    assert backend.to_device(host, "numpy") is host and backend.to_numpy(host) is host
    device = backend.to_device(host, "strict")
    assert backend.to_device(device, "strict") is device
    assert type(backend.to_device(device, "numpy")) is np.ndarray and np.array_equal(backend.to_numpy(device), host)


# ---------------------------------------------------------------------------------------------------------
# Random numbers
# ---------------------------------------------------------------------------------------------------------
def test_a_seed_gives_the_same_numbers_again():
    minicv.seed(3)
    first = backend.rng().standard_normal(4)
    minicv.seed(3)
    assert np.array_equal(backend.rng().standard_normal(4), first)
    assert not np.array_equal(backend.rng().standard_normal(4), first)
    minicv.seed(4)
    assert not np.array_equal(backend.rng().standard_normal(4), first)


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


@given(M=st.integers(0, 150), K=st.integers(0, 150), N=st.integers(0, 150))
def test_product_is_the_matrix_product(M, K, N):
    a = np.arange(M * K, dtype=float).reshape(M, K) % 7
    b = np.arange(K * N, dtype=float).reshape(K, N) % 5
    assert np.array_equal(backend.parallel_matmul(a, b), a @ b)


@pytest.mark.parametrize("M, K, N", [(300, 100, 60), (60, 100, 300), (2, 1000, 1000), (1000, 1000, 2)])
def test_a_large_product_is_dealt_out_to_threads(four_threads, M, K, N):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((K, M)).T, rng.standard_normal((N, K)).T
    np.testing.assert_allclose(backend.parallel_matmul(a, b), a @ b, rtol=0, atol=1e-11)


def test_matmul_into_views_of_any_layout():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 4, 5))
    memory = np.zeros((5, 2, 6))
    out = memory.transpose(1, 2, 0)[:, ::2]  # (2, 3, 5)
    backend.matmul(a, b, out)
    np.testing.assert_allclose(out, a @ b, atol=1e-14)
    assert not memory[:, :, 1::2].any()


def test_strided_views_in_elements():
    x = np.arange(6, dtype=np.float32)
    windows = backend.as_strided(x, (4, 3), (1, 1))
    assert np.array_equal(windows, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]) and np.shares_memory(windows, x)


def test_add_at_sums_what_meets():
    x = np.zeros((2, 3))
    backend.add_at(x, (slice(None), np.array([1, 1, 2])), np.array([1.0, 2.0, 4.0]))
    assert np.array_equal(x, [[0, 3, 4], [0, 3, 4]])
