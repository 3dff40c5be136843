"""The engine: tensors, calls, and the walk back through them."""
import gc
import threading
import time
import warnings
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
import minicv.ops as F
from minicv import Tensor, backend, no_grad
from minicv.autograd import Function, gradcheck, substitute, tensor
from minicv.autograd.graph import calls
from tests.strict_device import strict


class Double(Function):
    """y = 2 x"""

    def forward(ctx, x):
        return 2 * x

    def backward(ctx, gy):
        return 2 * gy


class Product(Function):
    """y = a b, plus c if there is one"""

    def forward(ctx, a, b, c=None):
        ctx.save(a, b)
        return a * b if c is None else a * b + c

    def backward(ctx, gy):
        a, b = ctx.saved
        return (gy * b, gy * a, gy)[:len(ctx.needs_input_grad)]


def leaf(*values, dtype="float64"):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ---------------------------------------------------------------------------------------------------------
# Tensors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("value, dtype", [
    (1.5, "float32"), ([1.0, 2.0], "float32"), (3, "int64"), ([True], "bool"),  # Python's numbers
    (np.array([1.0]), "float64"), (np.array(1.0), "float64"), (np.float64(1.0), "float64"),  # NumPy's keep their dtype
    (np.float16([1]), "float16"), (np.uint8([1]), "uint8")])
def test_dtype_of_a_tensor(value, dtype):
    assert Tensor(value).dtype == dtype and type(Tensor(value).data) is np.ndarray


def test_a_tensor_shares_its_arrays_memory():
    array = np.zeros(3)
    assert Tensor(array).data is array and Tensor(array).detach().data is array


@pytest.mark.parametrize("array, message", [
    (np.array(["a"]), "dtype <U1 is not supported; use floats, integers or bool"),
    (np.array([1j]), "dtype complex128 is not supported"),
    (np.array([None]), "dtype object is not supported"),
    (np.array([1], np.longdouble), "dtype float128 is not supported"),
    (np.ma.array([1.0, 2.0], mask=[0, 1]), "got a masked array, whose mask would be lost"),
    (np.array([1.0], ">f4"), "dtype >f4 is not in this machine's byte order; use array.astype"),
    (np.array([1], ">i2"), "dtype >i2 is not in this machine's byte order"),
    (Tensor([1.0]), "got a Tensor; use .detach\\(\\)")])
def test_arrays_that_are_no_tensors(array, message):
    with pytest.raises(TypeError, match=message):
        Tensor(array)


def test_a_matrix_is_an_array_like_any_other(tmp_path):
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]]).view(np.matrix)  # whose * is the product of matrices
    x = Tensor(matrix, requires_grad=True)
    y = x * x
    y.sum().backward()
    assert type(y.data) is type(x.grad) is np.ndarray and y.tolist() == [[1, 4], [9, 16]]
    matrix[0, 0] = 5  # the same memory
    assert x.data[0, 0] == 5
    mapped = np.memmap(tmp_path / "a", "float32", "w+", shape=3)
    assert np.shares_memory(Tensor(mapped).data, mapped) and type(Tensor(mapped).data) is np.ndarray


def test_what_does_not_fit_into_a_dtype_comes_without_a_warning():
    half = Tensor(np.ones(2, np.float16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Tensor([1e300]).tolist() == [np.inf] and (half + 1e6).tolist() == [np.inf] * 2
        assert (1e4 ** (half * 2)).tolist() == [np.inf] * 2
        Tensor([np.nan]).astype("int64")


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_have_no_gradient(dtype):
    with pytest.raises(TypeError, match=f"dtype is {dtype}, and only floats have gradients; convert first"):
        Tensor(np.zeros(3, dtype), requires_grad=True)


def test_size_and_representation():
    x = Tensor(np.zeros((2, 3)), requires_grad=True)
    assert (x.shape, x.ndim, x.size, len(x), x.device) == ((2, 3), 2, 6, 2, "numpy")
    assert "requires_grad=True" in repr(x) and "shape=(2, 3)" in repr(x) and "from Double" in repr(Double.apply(x))
    assert Tensor(2.5).item() == 2.5


def test_a_number_becomes_a_tensor_like_another():
    x = Tensor(strict.asarray(np.zeros(2)))
    y = tensor(3, like=x)
    assert y.dtype == np.float64 and y.device == "strict" and y.item() == 3 and tensor(x) is x


def test_new_tensors_go_to_the_device_in_use():
    minicv.use("strict")
    try:
        assert Tensor([1.0]).device == "strict" and Tensor(np.zeros(1)).device == "numpy"  # an array stays where it is
    finally:
        minicv.use("numpy")
    assert Tensor([1.0]).device == "numpy"


def test_to_another_device_and_back():
    x = leaf(1.0, 2.0)
    there = x.to("strict")
    assert there.device == "strict" and there.requires_grad and there.node is None
    assert np.array_equal(there.to("numpy").data, [1, 2]) and np.array_equal(there.numpy(), [1, 2])


def test_a_gradient_does_not_end_at_a_move():
    x = leaf(1.0, 2.0)
    assert x.to("numpy") is x
    y = Double.apply(x)
    y.to("numpy").backward(np.ones(2))
    assert x.grad.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match=r"to\('strict'\): the gradient of a result \(Double\) would end here"):
        Double.apply(x).to("strict")
    assert Double.apply(x).detach().to("strict").device == "strict"


def test_arrays_do_not_take_tensors_apart():
    """array * tensor is the tensor's business, not a NumPy array of tensors."""
    y = np.array([1.0, 2.0]) * leaf(3.0, 4.0)
    assert isinstance(y, Tensor) and np.array_equal(y.data, [3, 8])
    y = np.add(np.zeros(2), leaf(3.0, 4.0))
    assert isinstance(y, Tensor) and y.requires_grad and np.array_equal(y.data, [3, 4])


# ---------------------------------------------------------------------------------------------------------
# The walk
# ---------------------------------------------------------------------------------------------------------
def test_gradients_add_up_until_they_are_set_to_none():
    x = leaf(3.0)
    Double.apply(x).backward()
    Double.apply(x).backward()
    assert x.grad == [2 + 2]
    x.grad = None
    Double.apply(x).backward(np.array([10.0]))
    assert x.grad == [20]


def test_adding_up_does_not_write_into_the_array_that_was_there():
    x = leaf(3.0)
    Double.apply(x).backward()
    before = x.grad
    Double.apply(x).backward()
    assert before == [2] and x.grad == [4]


def test_a_leaf_gets_the_gradient_it_is_given():
    x = leaf(3.0)
    x.backward()
    x.backward(np.array([5.0]))
    assert x.grad == [1 + 5]


@pytest.mark.parametrize("f", [
    lambda a, b, c: (a + b).sum(),  # one array, of one number, for both
    lambda a, b, c: a + b + c,  # the caller's array for all
    lambda a, b, c: a.reshape(2, 2) + b.reshape(2, 2) + c.reshape(2, 2),  # views of it
    lambda a, b, c: F.concatenate([a, b]) + F.concatenate([c, c])])  # parts of it
def test_every_leaf_has_a_gradient_of_its_own_that_may_be_written_to(f):
    leaves = [leaf(1.0, 2.0, 3.0, 4.0) for _ in range(3)]
    y = f(*leaves)
    given = np.ones(y.shape)
    y.backward(given)
    for x in leaves:
        before = [None if other.grad is None else other.grad.copy() for other in leaves if other is not x]
        if x.grad is not None:
            x.grad *= 7
            assert x.grad.flags.c_contiguous
        after = [other.grad for other in leaves if other is not x]
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)) and (given == 1).all()


def test_the_gradient_given_to_a_leaf_stays_the_callers():
    x, given = leaf(1.0, 2.0), np.ones(2)
    x.backward(given)
    x.grad += 1
    assert given.tolist() == [1, 1]


def test_a_gradient_that_was_made_for_a_leaf_is_not_copied():
    made = []

    class Watched(Double):
        def backward(ctx, gy):
            made.append(2 * gy)
            return made[-1]

    x = leaf(1.0, 2.0)
    Watched.apply(x).backward(np.ones(2))
    assert x.grad is made[0]
    w = Tensor(np.ones((4, 3, 3, 3)).transpose(2, 3, 1, 0).copy().transpose(3, 2, 0, 1), requires_grad=True)
    F.conv2d(Tensor(np.ones((1, 3, 5, 5))), w).sum().backward()
    assert w.grad.strides == w.data.strides  # lies in memory as the weight does


@pytest.mark.parametrize("view, copied", [
    (lambda ctx, gy: (2 * gy).T, False),  # all of what was made, its axes in another order
    (lambda ctx, gy: np.ones((3, 3)).T[:2, :2], True),  # a part: the rest would stay in memory
    (lambda ctx, gy: np.broadcast_to(np.ones(2), (2, 2)), True),  # one number in several places
    (lambda ctx, gy: gy.T, True),  # of the incoming gradient, which may be somebody's
    (lambda ctx, gy: ctx.saved[0].T, True),  # of what forward was given
])
def test_a_gradient_is_copied_unless_it_has_its_memory_for_itself(view, copied):
    made = []

    class Watched(Double):
        def forward(ctx, x):
            ctx.save(x)
            return 2 * x

        def backward(ctx, gy):
            made.append(view(ctx, gy))
            return made[-1]

    x, given = Tensor(np.arange(4.0).reshape(2, 2), requires_grad=True), np.full((2, 2), 3.0)
    Watched.apply(x).backward(given)
    expected = made[0].copy()
    assert np.shares_memory(x.grad, made[0]) != copied and x.grad.tolist() == expected.tolist()
    x.grad += 1
    assert given.tolist() == [[3, 3], [3, 3]] and x.data.tolist() == [[0, 1], [2, 3]]


def test_two_leaves_do_not_share_the_memory_of_their_gradients():
    class Both(Product):
        def backward(ctx, gy):
            made = 2 * gy
            return made, made.T

    a, b = (Tensor(np.ones((2, 2)), requires_grad=True) for _ in "ab")
    Both.apply(a, b).backward(np.ones((2, 2)))
    a.grad += 1
    assert b.grad.tolist() == [[2, 2], [2, 2]]


def test_shared_expressions_are_walked_once_with_the_sum_of_their_gradients():
    walks = []

    class Watched(Double):
        def backward(ctx, gy):
            walks.append(gy.copy())
            return super().backward(gy)

    x = leaf(3.0)
    a = Watched.apply(x)  # a = 2x = 6
    b = Product.apply(a, a)  # b = a^2
    c = Product.apply(b, a)  # c = a^3 = 8 x^3
    c.backward()
    assert [float(g[0]) for g in walks] == [3 * 6 ** 2]  # dc/da, complete before the walk goes on
    assert x.grad == [24 * 3 ** 2]


def test_an_argument_given_twice():
    x = leaf(3.0)
    Product.apply(x, x, x).backward()  # x^2 + x
    assert x.grad == [2 * 3 + 1]


def test_a_ladder_of_shared_expressions_is_walked_in_linear_time():
    """60 rungs: as many calls, but 2^60 paths."""
    x = y = leaf(1.0)
    for _ in range(60):
        y = F.add(y, y)
    y.backward()
    assert x.grad == [2.0 ** 60]


def test_broadcasting_is_undone():
    a, b, c = Tensor(np.ones((2, 1, 3)), True), Tensor(np.ones((4, 1)), True), Tensor(np.array(2.0), True)
    y = a * b + c  # (2, 4, 3)
    y.backward(np.full((2, 4, 3), 0.5))
    assert np.array_equal(a.grad, np.full((2, 1, 3), 4 * 0.5))  # repeated 4 times
    assert np.array_equal(b.grad, np.full((4, 1), 2 * 3 * 0.5))
    assert c.grad.shape == () and c.grad == 24 * 0.5


def test_gradients_of_no_dimensions_are_arrays():
    x = Tensor(np.array(3.0), requires_grad=True)
    Product.apply(x, x).backward()
    assert type(x.grad) is np.ndarray and x.grad.shape == () and x.grad == 6


def test_what_does_not_require_a_gradient_gets_none():
    x, constant = leaf(3.0), Tensor(np.array([2.0]))
    y = Product.apply(x, constant, None)
    assert y.node.needs_input_grad == (True, False, False)
    y.backward()
    assert constant.grad is None and x.grad == [2]


def test_backward_twice_is_an_error():
    y = Double.apply(leaf(3.0))
    z = Double.apply(y)
    z.backward()
    with pytest.raises(RuntimeError, match="the graph through Double was walked before .* run forward again"):
        z.backward()
    with pytest.raises(RuntimeError, match="walked before"):
        Double.apply(y).backward()  # through a part that was walked


def test_backward_without_a_graph_is_an_error():
    with pytest.raises(RuntimeError, match="nothing that this tensor was computed from requires a gradient"):
        Double.apply(Tensor([1.0])).backward()


@pytest.mark.parametrize("shape", [(2,), (0,), (2, 1)])
def test_only_one_number_has_a_gradient_of_1(shape):
    y = Double.apply(Tensor(np.zeros(shape), requires_grad=True))
    with pytest.raises(ValueError, match=r"the tensor has shape \(.*\), so pass grad= of that shape"):
        y.backward()


def test_the_given_gradient_must_fit():
    y = Double.apply(leaf(1.0, 2.0))
    with pytest.raises(ValueError, match=r"backward\(grad\): the gradient has shape \(3,\) .* the argument has \(2,\)"):
        y.backward(np.zeros(3))
    with pytest.raises(ValueError, match="dtype float32"):
        y.backward(np.zeros(2, "float32"))
    for other in (strict.zeros(2), Tensor(np.zeros(2)), [0.0, 0.0], 1.0):
        with pytest.raises(TypeError, match=r"backward\(grad\): must be an array on numpy"):
            y.backward(other)
    y.backward(np.zeros(2))  # nothing was lost by the errors


def wrong_backward(result):
    class Broken(Double):
        def backward(ctx, gy):
            return result
    return Broken


@pytest.mark.parametrize("result, message", [
    (np.zeros(3), r"Broken.backward: the gradient has shape \(3,\) and dtype float64, the argument has \(2,\)"),
    (np.zeros(2, "float32"), "Broken.backward: the gradient has .* dtype float32, the argument has .* float64"),
    (None, r"Broken.backward: None as the gradient of an argument that requires one, of shape \(2,\)"),
    ((np.zeros(2), np.zeros(2)), "Broken.backward: 2 gradients for 1 arguments")])
def test_a_wrong_backward_is_named(result, message):
    with pytest.raises(ValueError, match=message):
        wrong_backward(result).apply(leaf(1.0, 2.0)).backward(np.ones(2))


def test_a_function_without_forward_or_backward_is_named():
    class Empty(Function):
        pass

    class NoBackward(Function):
        def forward(ctx, x):
            return x

    with pytest.raises(TypeError, match="Empty: has no forward"):
        Empty.apply(leaf(1.0))
    with pytest.raises(TypeError, match="NoBackward: has no backward"):
        NoBackward.apply(leaf(1.0)).backward()


def test_devices_do_not_mix():
    with pytest.raises(TypeError, match="Product: all arguments must lie on one device .* "
                                        r"a: float64 on numpy, b: float64 on strict. Use .to\(device\)"):
        Product.apply(leaf(1.0), leaf(1.0).to("strict"))


@pytest.mark.parametrize("call, message", [
    (lambda x: F.relu(x.data), "ReLU: argument 0 is of type ndarray; wrap it in minicv.Tensor"),
    (lambda x: x @ x.data, "MatMul: argument 1 is of type ndarray; wrap it in minicv.Tensor"),
    (lambda x: F.exp(2.0), "Exp: argument 0 is of type float; wrap it in minicv.Tensor")])
def test_what_is_no_tensor_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call(Tensor(np.ones((2, 2))))


def test_widths_of_floats_do_not_mix():
    with pytest.raises(TypeError, match=r"Product: .* one dtype; got a: float64 on numpy, c: float32 .*astype"):
        Product.apply(leaf(1.0), None, leaf(1.0, dtype="float32"))
    assert Product.apply(leaf(1.0), Tensor(np.array([2]))).data == [2]  # integers beside floats may be indices


def test_only_the_first_of_several_results_is_differentiable():
    class WithIndex(Function):
        def forward(ctx, x):
            return x + 1, x.astype("int64")

        def backward(ctx, gy):
            return gy

    x = leaf(1.0, 2.0)
    y, index = WithIndex.apply(x)
    assert y.requires_grad and not index.requires_grad and index.node is None
    y.backward(np.array([1.0, 10.0]))
    assert np.array_equal(x.grad, [1, 10])


# ---------------------------------------------------------------------------------------------------------
# Depth and memory
# ---------------------------------------------------------------------------------------------------------
def deep(n=50_000):
    x = y = leaf(1.0)
    for _ in range(n):
        y = Product.apply(y, Tensor(np.array([1.0])))
    return x, y


def test_a_deep_graph_is_walked_and_freed_without_recursion():
    x, y = deep()
    assert len(calls(y)) == 50_000
    y.backward()
    assert x.grad == [1]
    del y
    x, y = deep()
    gone = weakref.ref(y.node)
    del y  # never walked: freeing it goes through all of it at once
    assert gone() is None


def test_saved_arrays_are_released_as_the_walk_passes():
    alive = []
    references = []

    class Saving(Function):
        def forward(ctx, x):
            ctx.save(x.copy())
            references.append(weakref.ref(ctx.saved[0]))
            return x + 0

        def backward(ctx, gy):
            alive.append(sum(r() is not None for r in references))
            return gy

    y = leaf(1.0)
    for _ in range(4):
        y = Saving.apply(y)
    y.backward()
    assert alive == [4, 3, 2, 1] and not any(r() is not None for r in references)


def test_without_gradients_nothing_is_saved():
    y = Product.apply(Tensor([1.0]), Tensor([2.0]))
    assert y.node is None and not y.requires_grad
    with no_grad():
        y = Product.apply(leaf(1.0), leaf(2.0))
    assert y.node is None and not y.requires_grad


def test_an_argument_that_backward_does_not_need_is_not_kept_alive():
    x = leaf(1.0)
    middle = Double.apply(x)  # saves nothing
    array = weakref.ref(middle.data)
    y = Double.apply(middle)
    del middle
    assert array() is None
    y.backward()
    assert x.grad == [4]


def test_no_cycles_are_left_for_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        x = leaf(1.0)
        y = Product.apply(Double.apply(x), x)
        references = [weakref.ref(y), weakref.ref(y.node), weakref.ref(y.data)]
        del y  # not walked
        y = Product.apply(Double.apply(x), x)
        references += [weakref.ref(y), weakref.ref(y.node), weakref.ref(y.data)]
        y.backward()
        del y
        assert [r() for r in references] == [None] * 6
    finally:
        gc.enable()


# ---------------------------------------------------------------------------------------------------------
# no_grad, substitute
# ---------------------------------------------------------------------------------------------------------
def grad_is_on():
    return Double.apply(leaf(1.0)).requires_grad


def test_no_grad_nests_and_ends():
    with no_grad():
        with no_grad():
            assert not grad_is_on()
        assert not grad_is_on()
    assert grad_is_on()
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert grad_is_on()


def test_no_grad_as_a_decorator():
    @no_grad()
    def countdown(n):
        """Calls itself, so that one decorator is entered again before it is left."""
        assert not grad_is_on()
        return n if n == 0 else countdown(n - 1)

    assert countdown(3) == 0 and grad_is_on()
    one = no_grad()
    with one, one:
        assert not grad_is_on()
    assert grad_is_on()


@pytest.mark.parametrize("switch", [no_grad, minicv.detect_anomaly, minicv.plain])
def test_a_generator_is_not_decorated(switch):
    def rows():
        yield grad_is_on()

    message = rf"@{switch.__name__}\(\) on the generator rows: .* write `with {switch.__name__}\(\):` inside"
    with pytest.raises(TypeError, match=message):
        switch()(rows)


def test_threads_add_up_at_the_same_leaf():
    class Slow(np.ndarray):
        """Between reading ``.grad`` and writing the sum, other threads run."""

        def __add__(self, other):
            time.sleep(0.01)
            return (np.asarray(self) + other).view(Slow)

    w = Tensor(np.ones(3, np.float32), requires_grad=True)
    w.grad = np.zeros(3, np.float32).view(Slow)
    threads = [threading.Thread(target=lambda: (w * 1.0).sum().backward()) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(w.grad, np.full(3, 4))


def test_no_grad_holds_for_its_thread_only():
    inside, seen = threading.Event(), []

    def other():
        inside.wait(5)
        seen.append(grad_is_on())

    thread = threading.Thread(target=other)
    thread.start()
    with no_grad():
        inside.set()
        thread.join()
    assert seen == [True]


class Triple(Double):
    def forward(ctx, x):
        return 3 * x

    def backward(ctx, gy):
        return 3 * gy


def test_substitute_replaces_a_function_and_puts_it_back():
    x = leaf(1.0)
    with substitute({Double: Triple}):
        y = Double.apply(x)
        with substitute({Triple: Double}):
            assert Double.apply(x).data == [3] and Triple.apply(x).data == [2]
        assert Triple.apply(x).data == [3]
    assert y.data == [3] and Double.apply(x).data == [2]
    y.backward()  # what ran forward runs backward
    assert x.grad == [3]
    with pytest.raises(KeyError), substitute({Double: Triple}):
        raise KeyError
    assert Double.apply(x).data == [2]


# ---------------------------------------------------------------------------------------------------------
# Any expression at all
# ---------------------------------------------------------------------------------------------------------
UNARY = [F.tanh, F.sigmoid, lambda a: -a, lambda a: F.exp(F.tanh(a)), lambda a: a * 0.5 + 1, lambda a: 1 - a,
         lambda a: 2 / (F.sigmoid(a) + 1), lambda a: F.transpose(a, 0, 1).reshape(2, 3), lambda a: a[::-1],
         lambda a: F.log(a * a + 1), lambda a: a.sum(0, keepdim=True) + 0 * a, lambda a: F.expand(a[:, :1], (2, 3))]
BINARY = [lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b, lambda a, b: a / (b * b + 1),
          lambda a, b: a @ F.transpose(b, 0, 1) @ b * 0.1, lambda a, b: F.concatenate([a, b], 1)[:, 1:4],
          lambda a, b: a.sum(1, keepdim=True) * b]


@given(st.lists(st.tuples(st.integers(0, len(UNARY) + len(BINARY) - 1), st.integers(0), st.integers(0)),
                min_size=1, max_size=12), st.integers(0, 2 ** 32 - 1))
@settings(max_examples=60, deadline=None)
def test_gradient_of_a_random_expression(program, seed):
    """Each step applies an op to earlier results; the sum of all is differentiated."""
    rng = np.random.default_rng(seed)

    def f(*leaves):
        values = list(leaves)
        for op, i, j in program:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(UNARY[op](a) if op < len(UNARY) else BINARY[op - len(UNARY)](a, b))
        total = values[-1]
        for v in values[:-1]:
            total = total + F.tanh(v)
        return total

    result = gradcheck(f, [rng.uniform(-1, 1, (2, 3)) for _ in range(2)], coordinates=0, directions=3)
    assert result.verdict == "ok", result


def test_a_gradient_by_hand():
    """y = (w x + b)^2 / 2 with w = 3, x = 2, b = 1: y = 24.5; dy/dw = 7 * 2, dy/dx = 7 * 3, dy/db = 7."""
    w, x, b = leaf(3.0), leaf(2.0), leaf(1.0)
    y = (w * x + b) ** 2 / 2
    y.backward()
    assert y.item() == 24.5 and (w.grad, x.grad, b.grad) == ([14], [21], [7])


def test_a_gradient_on_the_strict_device():
    x = leaf(1.0, 2.0).to("strict")
    (x * x).sum().backward()
    assert np.array_equal(backend.to_numpy(x.grad), [2, 4])


# ---------------------------------------------------------------------------------------------------------
# The calls of a graph
# ---------------------------------------------------------------------------------------------------------
def test_calls_in_the_order_they_were_made():
    a = leaf(1.0)
    b = Double.apply(a)
    y = Product.apply(b, Triple.apply(b))
    assert [call.name() for call in calls(y)] == ["Double", "Triple", "Product"] and calls(a) == []
