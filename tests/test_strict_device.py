"""The strict device refuses what CuPy refuses, and computes what NumPy computes otherwise."""
import operator

import numpy as np
import pytest

from minicv import Tensor, backend
from tests.strict_device import StrictArray, strict

HOST = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def x() -> StrictArray:
    return strict.asarray(HOST)


@pytest.fixture
def reads():
    """The counter, empty."""
    StrictArray.reads.clear()
    yield StrictArray.reads
    StrictArray.reads.clear()


def test_it_is_a_device_of_minicv(x):
    assert backend.device_of(x) == "strict" and backend.xp_of(x) is strict
    assert backend.is_array(x) and Tensor(x).device == "strict"
    there_and_back = backend.to_numpy(backend.to_device(HOST, "strict"))
    assert type(there_and_back) is np.ndarray and np.array_equal(there_and_back, HOST)


@pytest.mark.parametrize("convert", [
    np.asarray, np.array, memoryview, range, np.frombuffer, lambda x: np.array([x, x]), lambda x: [1, 2][x[0, 1]],
    lambda x: np.zeros(3)[x], lambda x: np.zeros((2, 3)).__setitem__(0, x[0]), lambda x: x.__array_interface__])
def test_implicit_conversion_is_refused(x, convert):
    with pytest.raises((TypeError, AttributeError)):
        convert(x)


@pytest.mark.parametrize("f", [np.sum, np.exp, np.negative, np.concatenate, np.reshape, np.where, np.add.reduce,
                               lambda x: np.add(x, 1), lambda x: np.matmul(x, x.T), lambda x: np.stack([x, x])])
def test_numpys_functions_refuse_it(x, f):
    with pytest.raises(TypeError):
        f(x)


BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
          operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge]
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv, operator.imod,
            operator.ipow]


@pytest.mark.parametrize("f", BINARY + [operator.matmul], ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", [HOST, np.array(2.0), [1.0, 2.0, 3.0]], ids=["array", "0-d array", "list"])
def test_operators_refuse_numpy_arrays_and_lists(x, f, other):
    with pytest.raises(TypeError):
        f(x, other)
    with pytest.raises(TypeError):
        f(other, x)


@pytest.mark.parametrize("f", IN_PLACE, ids=lambda f: f.__name__)
def test_operators_in_place_refuse_numpy_arrays(x, f):
    with pytest.raises(TypeError):
        f(x, HOST)
    with pytest.raises(TypeError):
        f(HOST.copy(), x)


@pytest.mark.parametrize("f", BINARY + IN_PLACE, ids=lambda f: f.__name__)
@pytest.mark.parametrize("other", [2, 2.5, np.float64(2.5), "itself"], ids=repr)
def test_operators_take_numbers_and_its_own_arrays(x, f, other):
    x = x + 1  # no 0 to divide by
    expected = f(HOST + 1, HOST + 1 if other == "itself" else other)
    result = f(x, x if other == "itself" else other)
    assert isinstance(result, StrictArray)
    assert np.array_equal(result.get(), expected) and result.dtype == expected.dtype


def test_operators_in_place_write_into_the_array(x):
    view = x[0]
    view += 10
    assert np.array_equal(x.get(), [[10, 11, 12], [3, 4, 5]])


@pytest.mark.parametrize("dtype, largest", [("float16", 255), ("float32", 65535)])
def test_an_int_that_widens_in_cupy_13_is_refused(dtype, largest):
    x = strict.ones(2, dtype)
    assert (x / largest).dtype == (x * float(largest + 1)).dtype == dtype
    for f in (operator.truediv, operator.mul, operator.add, operator.ge, operator.imul):
        with pytest.raises(TypeError, match=f"CuPy 13 widens {dtype} beside the int {largest + 1}"):
            f(x, largest + 1)


def test_reflected_unary_and_integer_operators(x):
    i = strict.asarray(np.array([1, 2, 6]))
    assert np.array_equal((2 - x).get(), 2 - HOST) and np.array_equal((np.float64(2) / (x + 1)).get(), 2 / (HOST + 1))
    assert np.array_equal((x.T @ x).get(), HOST.T @ HOST)
    assert np.array_equal((-x).get(), -HOST) and np.array_equal(abs(-x).get(), HOST)
    assert np.array_equal((~(i == 2)).get(), [True, False, True])
    assert np.array_equal((i << 1 | 1).get(), [3, 5, 13]) and np.array_equal((1 & i ^ 3 >> i).get(), [0, 0, 0])


@pytest.mark.parametrize("f", [
    lambda x: strict.add(x, HOST), lambda x: strict.concatenate([x, HOST]), lambda x: strict.where(HOST > 0, x, 0),
    lambda x: strict.matmul(x, HOST.T), lambda x: strict.add(x, x, out=np.empty((2, 3))), lambda x: x.dot(HOST.T),
    lambda x: strict.maximum(x, np.array(0.0)), lambda x: x.clip(0, HOST), lambda x: strict.ones_like(HOST),
    lambda x: strict.add.at(x, 0, HOST[0]), lambda x: strict.add.at(HOST, 0, x[0]),
    lambda x: strict.lib.stride_tricks.as_strided(HOST, (2,), (8,))])
def test_functions_refuse_numpy_arrays(x, f):
    with pytest.raises(TypeError, match="NumPy array|ndarray"):
        f(x)


@pytest.mark.parametrize("index", [np.array([0, 1]), np.array(0), np.array([True, False]),
                                   (slice(None), np.array([0, 2]))], ids=repr)
def test_indices_and_assignments_refuse_numpy_arrays(x, index):
    with pytest.raises(TypeError, match="array\\[index\\] got a NumPy array"):
        x[index]
    with pytest.raises(TypeError, match="array\\[index\\] got a NumPy array"):
        x[index] = 0
    with pytest.raises(TypeError, match="array\\[index\\] = values got a NumPy array"):
        x[0] = HOST[0]
    with pytest.raises(TypeError, match="Python list"):
        x[0] = [1.0, 2.0, 3.0]


def test_indexing(x):
    i = strict.asarray(np.array([2, 0]))
    assert np.array_equal(x[1, ::-1].get(), [5, 4, 3]) and np.array_equal(x[:, [0, 2]].get(), HOST[:, [0, 2]])
    assert np.array_equal(x[:, i].get(), HOST[:, [2, 0]]) and np.array_equal(x[..., None].get(), HOST[..., None])
    x[0], x[1, i] = 7, x[0, :2] + strict.asarray(np.array([1.0, 2.0]))
    assert np.array_equal(x.get(), [[7, 7, 7], [2 + 1, 4, 0 + 1]])  # x[1, 2] = 0 + 1 and x[1, 0] = 1 + 2


def test_an_array_is_no_slice_end(x):
    with pytest.raises(TypeError, match="end of a slice"):
        x[:x[0, 1].astype("int64")]


def test_indices_out_of_range_are_errors_though_cupy_wraps_them(x):
    i = strict.asarray(np.array([0, 3]))
    with pytest.raises(IndexError):
        x[:, i]
    with pytest.raises(IndexError):
        x[:, i] = 0
    with pytest.raises(IndexError):
        strict.take(x, i, axis=1)
    with pytest.raises(IndexError):
        strict.add.at(x, (0, i), 1.0)


def test_an_index_twice_in_an_assignment_is_an_error(x):
    twice = strict.asarray(np.array([1, 1]))
    with pytest.raises(IndexError, match="occurs twice"):
        x[0, twice] = x[0, :2]
    with pytest.raises(IndexError, match="occurs twice"):
        x[0, twice] += x[0, :2]
    x[0, twice] = 9  # one number is the same whichever comes last
    assert np.array_equal(x[0].get(), [0, 9, 2])


def test_add_at_sums_what_meets_at_one_index(x):
    backend.add_at(x, (0, strict.asarray(np.array([1, 1, 2]))), strict.asarray(np.array([1.0, 2.0, 4.0])))
    assert np.array_equal(x[0].get(), [0, 1 + 1 + 2, 2 + 4])


@pytest.mark.parametrize("dtype", ["int64", "int8", "bool"])
def test_add_at_refuses_dtypes_without_an_atomic_addition(dtype):
    with pytest.raises(TypeError, match="float32"):
        strict.add.at(strict.zeros(3, dtype), strict.zeros(1, "int64"), 1)


@pytest.mark.parametrize("ufunc, dtype", [("subtract", "float32"), ("maximum", "uint8"), ("minimum", "float16"),
                                          ("bitwise_or", "uint8")])
def test_other_ufuncs_at_refuse_dtypes_without_an_atomic_operation(ufunc, dtype):
    with pytest.raises(TypeError, match=f"CuPy's {ufunc}.at works on .*, not on {dtype}"):
        getattr(strict, ufunc).at(strict.zeros(3, dtype), strict.zeros(1, "int64"), 1)


@pytest.mark.parametrize("call", [
    lambda x: strict.sum([x, x]), lambda x: strict.where(x > 0, [0.0, 1.0, 2.0], 0), lambda x: strict.flip([1.0, 2.0]),
    lambda x: strict.linalg.norm([3.0, 4.0]), lambda x: strict.matmul([[1.0, 2.0]], x),
    lambda x: strict.clip([1.0], 0, 1),
    lambda x: strict.broadcast_to([1.0], (2,)), lambda x: strict.pad([1.0], 1)])
def test_lists_are_no_arrays(x, call):
    with pytest.raises(TypeError, match="not a Python list"):
        call(x)


@pytest.mark.parametrize("call", [
    lambda x: strict.expand_dims(x, axis=[0, 1]), lambda x: strict.flip(x, axis=[0, 1])])
def test_a_list_is_no_axis(x, call):
    with pytest.raises(TypeError, match="takes a tuple as axis, not a list"):
        call(x)


@pytest.mark.parametrize("call", [
    lambda x: strict.sum(x, 0, None, None, False, 0), lambda x: strict.argsort(x, 0, "stable"),
    lambda x: strict.take(x, x.astype("int64"), 0, None, "clip"), lambda x: strict.ones_like(x, None, (2, 3), True)])
def test_surplus_arguments(x, call):
    with pytest.raises(TypeError, match="arguments without a name"):
        call(x)


@pytest.mark.parametrize("dtype", [object, str, "S3", "M8[s]", np.longdouble])
def test_dtypes_that_cupy_does_not_have(x, dtype):
    for call in (lambda: strict.zeros(3, dtype), lambda: strict.asarray([1], dtype), lambda: x.astype(dtype)):
        with pytest.raises(TypeError, match="CuPy has no"):
            call()


@pytest.mark.parametrize("name", ["ptp", "sliding_window_view", "put_along_axis", "errstate", "broadcast_shapes",
                                  "nditer", "longdouble", "add_newdoc"])
def test_names_that_cupy_does_not_have(name):
    with pytest.raises(AttributeError, match=f"no cupy.{name}"):
        getattr(strict, name)


@pytest.mark.parametrize("call", [
    lambda x: strict.sum(x, initial=0), lambda x: x.max(initial=0), lambda x: x.sum(where=x > 0),
    lambda x: strict.exp(x, where=x > 0), lambda x: x.astype("f4", casting="safe"), lambda x: strict.zeros(3, like=x),
    lambda x: x.clip(a_min=0),
    lambda x: strict.take(x, x.astype("i8"), mode="clip"), lambda x: x.argsort(kind="stable")])
def test_keywords_that_cupy_does_not_have(x, call):
    with pytest.raises(TypeError, match="takes the keywords"):
        call(x)


def test_what_must_be_known_to_the_program(x):
    with pytest.raises(TypeError, match="arange takes numbers that the program knows"):
        strict.arange(x[0, 2])
    with pytest.raises(TypeError, match="repeat takes numbers that the program knows"):
        strict.repeat(x, x[0].astype("int64"), 1)
    with pytest.raises(TypeError, match="not a Python list"):
        strict.exp([1.0])
    with pytest.raises(AttributeError, match="no maximum.reduce"):
        strict.maximum.reduce(x)
    with pytest.raises(TypeError, match="unhashable"):
        hash(x)


@pytest.mark.parametrize("read, what", [
    (lambda x: float(x[0]), "float(array)"), (lambda x: int(x[0]), "int(array)"), (bool, "bool(array)"),
    (lambda x: 1 if x > 0 else 2, "bool(array)"), (lambda x: max(x, x), "bool(array)"), (lambda x: x.item(), ".item()"),
    (lambda x: x.tolist(), ".tolist()"), (lambda x: x.get(), ".get()"), (strict.asnumpy, ".get()"),
    (lambda x: x[x > 0], "array[mask]"), (lambda x: x.__setitem__(x > 0, x), "array[mask] = array"),
    (lambda x: strict.where(x > 0), "xp.where"), (strict.nonzero, "xp.nonzero"), (lambda x: x.nonzero(), "xp.nonzero"),
    (strict.unique, "xp.unique"), (lambda x: Tensor(x).item(), ".item()")])
def test_what_waits_for_the_device_is_counted(reads, read, what):
    read(strict.asarray(np.array([3.0])))
    (line,) = reads
    assert reads[line] == 1 and line.startswith(f"{what} at ")
    assert line.rpartition(":")[0].endswith(("test_strict_device.py", "tensor.py"))  # not the device's own code


def test_what_does_not_wait_is_not_counted(reads, x):
    strict.where(x > 1, x, 0).sum(axis=1).max()
    x[x > 1] = 0
    len(x), x.shape, x.dtype, x.ndim, x.size, x.strides, repr(x), list(x)
    strict.add.at(x, strict.asarray(np.array([0, 1])), 1.0)
    assert not reads


def test_results_of_no_dimensions_are_arrays(x):
    for result in (x.sum(), strict.max(x), x[0, 0], strict.exp(x[0, 0]), x[0, 0] + 1, strict.linalg.norm(x)):
        assert isinstance(result, StrictArray) and result.shape == () and result.dtype == np.float64


def test_new_memory_is_not_zero():
    assert np.isnan(strict.empty((2, 2), "float32").get()).all()
    assert np.isnan(strict.empty_like(strict.zeros(3)).get()).all()
    assert (strict.empty(3, "uint8").get() == 255).all() and strict.empty(2, bool).get().all()
    assert not strict.zeros(3).get().any()


def test_functions_and_out(x):
    out = strict.empty((2, 3))
    assert strict.multiply(x, 2, out=out) is out and np.array_equal(out.get(), HOST * 2)
    assert np.array_equal(strict.tile(x, (1, 2)).get(), np.tile(HOST, (1, 2)))
    assert np.array_equal(strict.pad(x, ((0, 0), (1, 1)), mode="reflect")[0].get(), [1, 0, 1, 2, 1])
    assert [part.shape for part in strict.split(x, 3, axis=1)] == [(2, 1)] * 3
    assert np.array_equal(strict.asarray(x, dtype="float32").get(), HOST.astype("float32"))
    assert strict.result_type(x, np.float32) == np.float64


def test_moving_over_copies():
    host = HOST.copy()
    x = strict.asarray(host)
    x += 1
    x.get()[...] = 5
    assert np.array_equal(host, HOST) and np.array_equal(x.get(), HOST + 1)


def test_strided_views_share_memory_and_stay_inside_it(x):
    windows = backend.as_strided(x.reshape(-1), (5, 2), (1, 1))
    assert np.array_equal(windows.get(), [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5]])
    windows[0, 0] = 9
    assert x[0, 0].item() == 9
    with pytest.raises(IndexError, match="8 bytes before|and 8 after"):
        backend.as_strided(x.reshape(-1), (6, 2), (1, 1))
    inside = backend.as_strided(x.reshape(-1)[2:], (2, 2), (-2, 1))  # backwards, but into its own memory
    assert np.array_equal(inside.get(), [[2, 3], [9, 1]])
    with pytest.raises(IndexError, match="16 bytes before"):
        backend.as_strided(x.reshape(-1), (2,), (-2,))


def test_backends_primitives(x):
    out = strict.empty((2, 2))
    backend.matmul(x, x.T, out)
    assert np.array_equal(out.get(), HOST @ HOST.T)
    doubled = strict.empty_like(x)
    assert backend.parallel_chunks(lambda a, b: strict.multiply(a, 2, out=b), x, doubled) == [doubled]
