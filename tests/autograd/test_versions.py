"""Arrays that change between forward and backward: the gradient of what forward saw, or a RuntimeError."""
import copy

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor, nn, no_grad
from minicv.autograd import Function, versions
from minicv.optim import SGD, Adam
from tests.harness import CASES

CHANGED = r"\.backward: an array \w+ \(.*\) was changed after forward had saved it.*make the Tensor of a copy"


def arrays_in(value):
    """Every NumPy array inside options, also in lists, tuples and dicts."""
    if isinstance(value, np.ndarray):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [a for part in parts for a in arrays_in(part)]


def overwrite(array):
    """Other numbers of the same kind, as the next batch would bring them."""
    if array.flags.writeable:
        array[...] = ~array if array.dtype == bool else -3 * array + 1 if array.dtype.kind == "f" else array[..., ::-1]


def gradients(case, change):
    arrays, options = case.arrays(), copy.deepcopy(case.options)
    tensors = [None if a is None else Tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    result = case.call(*tensors, **options)
    first = result[0] if isinstance(result, tuple) else result
    upstream = np.random.default_rng(0).standard_normal(first.shape)
    if change:
        results = [r.data for r in (result if isinstance(result, tuple) else (result,))]
        for array in [*(a for a in arrays if a is not None), *arrays_in(options), *results]:
            if array.ndim:
                overwrite(array)
            elif array.dtype.kind == "f":
                array[...] = -array
    first.backward(upstream)
    return [t.grad for t in tensors if t is not None and t.requires_grad]


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_every_op_notices_or_does_not_mind_other_numbers_in_all_arrays(case):
    expected = gradients(case, change=False)
    try:
        found = gradients(case, change=True)
    except RuntimeError as error:
        assert "was changed after forward had saved it" in str(error)
        return
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------------------------------
# What is reused for the next batch
# ---------------------------------------------------------------------------------------------------------
def x_of(*shape):
    return Tensor(np.random.default_rng(1).standard_normal(shape), requires_grad=True)


def test_an_index_may_be_filled_again():
    for index in (np.array([0, 0]), [0, 0], (np.array([0, 0]),), Tensor(np.array([0, 0]))):
        x = Tensor(np.arange(3.0), requires_grad=True)
        y = x[index].sum()
        inner = index[0] if isinstance(index, tuple) else index.data if isinstance(index, Tensor) else index
        inner[0] = inner[1] = 2
        y.backward()
        assert x.grad.tolist() == [2, 0, 0]
    x, mask = Tensor(np.arange(3.0), requires_grad=True), np.array([True, False, True])
    y = x[mask].sum()
    mask[:] = False
    y.backward()
    assert x.grad.tolist() == [1, 0, 1]


def test_a_condition_may_be_filled_again():
    x, condition = Tensor(np.arange(3.0), requires_grad=True), np.array([True, False, True])
    y = F.where(condition, x, 0.0).sum()
    condition[:] = False
    y.backward()
    assert x.grad.tolist() == [1, 0, 1]


@pytest.mark.parametrize("loss, arrays", [
    (lambda x, t: F.cross_entropy(x, t), [np.array([0, 2, 1])]),
    (lambda x, t: F.nll_loss(F.log_softmax(x, 1), t), [np.array([0, 2, 1])]),
    (lambda x, t: F.mse_loss(x, Tensor(t)), [np.ones((3, 4))]),
    (lambda x, t: F.smooth_l1_loss(x, Tensor(t)), [np.ones((3, 4))]),
    (lambda x, t: F.binary_cross_entropy_with_logits(x, Tensor(t)), [np.ones((3, 4))]),
    (lambda x, t: F.hinge_loss(x, Tensor(t)), [np.ones((3, 4))]),
    (lambda x, t: F.roi_align(x.reshape(1, 1, 3, 4), Tensor(t), 2).sum(), [np.array([[0, 0.0, 0.0, 2.0, 2.0]])]),
    (lambda x, t: F.roi_pool(x.reshape(1, 1, 3, 4), Tensor(t), 2).sum(), [np.array([[0, 0.0, 0.0, 2.0, 2.0]])]),
    (lambda x, t: F.cross_entropy(x, np.array([0, 2, 1]), pixel_weight=t), [np.array([0.5, 1.0, 2.0])]),
])
def test_labels_and_boxes_may_be_filled_again(loss, arrays):
    before, after = x_of(3, 4), x_of(3, 4)
    loss(before, *arrays).backward()
    result = loss(after, *arrays)
    for array in arrays:
        array[...] = 0
    result.backward()
    np.testing.assert_array_equal(before.grad, after.grad)


def test_a_mask_of_dropout_is_drawn_once():
    x = x_of(4, 5)
    y = F.dropout(x, 0.5)
    kept = y.data != 0
    F.dropout(x, 0.5)
    y.backward(np.ones((4, 5)))
    assert x.grad.tolist() == (2.0 * kept).tolist()


def test_running_statistics_may_move_on():
    norm, x = nn.BatchNorm2d(2).eval(), Tensor(np.ones((1, 2, 3, 3), np.float32), requires_grad=True)
    norm.running_var[:] = 3
    y = norm(x).sum()
    norm.train()(Tensor(np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)))
    y.backward()
    np.testing.assert_allclose(x.grad, 1 / np.sqrt(3 + 1e-5), rtol=1e-6)


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, 0.9), lambda p: Adam(p, 0.1)])
def test_a_step_between_forward_and_backward_does_not_change_the_gradient(make):
    w = Tensor(np.array([3.0]), requires_grad=True)
    optimizer = make([w])
    w.grad = np.ones(1)
    y = w * w
    optimizer.step()
    w.grad = None
    y.backward()
    assert w.grad.tolist() == [6] and w.item() != 3


def test_new_values_in_place_of_old_ones_do_not_change_the_gradient():
    w = Tensor(np.array([3.0]), requires_grad=True)
    y = w * w
    with no_grad():
        w += 1
    y.backward()
    assert w.grad.tolist() == [6] and w.item() == 4


# ---------------------------------------------------------------------------------------------------------
# What is noticed
# ---------------------------------------------------------------------------------------------------------
def written(array, x):
    array[1] = 7


@pytest.mark.parametrize("change", [
    written,
    lambda array, x: np.multiply(x.data, 10, out=x.data),
    lambda array, x: x.data.sort(),
    lambda array, x: array.fill(0),
    lambda array, x: x.detach().__setitem__(0, 5.0),
])
@pytest.mark.parametrize("f", [
    lambda x: x * x, lambda x: x / (1 + x * x), lambda x: x ** 2, F.log, lambda x: x.reshape(2, 2) * 2 @ x[:2],
    lambda x: F.linear(x.reshape(1, 4), x.reshape(1, 4)), lambda x: x.reshape(2, 2) @ x.reshape(2, 2),
], ids=["mul", "div", "pow", "log", "matmul", "linear", "matmul of views"])
def test_a_leaf_that_was_changed_is_an_error(f, change):
    array = np.array([4.0, 1.0, 3.0, 2.0])
    x = Tensor(array, requires_grad=True)
    y = f(x).sum()
    change(array, x)
    with pytest.raises(RuntimeError, match=CHANGED):
        y.backward()


def test_an_input_without_a_gradient_counts_too():
    w, batch = Tensor(np.ones((2, 1, 3, 3), np.float32), requires_grad=True), np.ones((1, 1, 8, 8), np.float32)
    y = F.conv2d(Tensor(batch), w).sum()
    batch[0, 0, 4, 4] = 2
    with pytest.raises(RuntimeError, match="Conv2d" + CHANGED):
        y.backward()


def test_class_weights_that_were_changed_are_an_error_or_do_not_matter():
    weight = np.array([1.0, 2.0, 3.0, 4.0])
    expected, x = x_of(3, 4), x_of(3, 4)
    F.cross_entropy(expected, np.array([0, 2, 1]), weight).backward()
    y = F.cross_entropy(x, np.array([0, 2, 1]), weight)
    weight[:] = 1
    with pytest.raises(RuntimeError, match="CrossEntropy" + CHANGED):
        y.backward()


def test_a_result_that_was_changed_is_an_error():
    for f in (F.exp, F.sqrt, lambda x: F.softmax(x, 0)):  # which save what they return
        x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
        y = f(x)
        y.data[0] = 9
        with pytest.raises(RuntimeError, match=CHANGED):
            y.backward(np.ones(2))


def test_a_file_in_memory_and_views_of_views_count(tmp_path):
    file = np.memmap(tmp_path / "batch", np.float64, "w+", shape=(4,))
    for make in (lambda: Tensor(file, True), lambda: Tensor(np.asarray(file), True), lambda: Tensor(file[1:][:2], True),
                 lambda: Tensor(np.lib.stride_tricks.as_strided(file, (2,), (16,)), True)):
        file[:] = 1
        x = make()
        y = (x * x).sum()
        file[:] = 2
        with pytest.raises(RuntimeError, match=CHANGED):
            y.backward()


def test_an_unchanged_view_of_a_changed_array_is_no_error():
    array = np.array([1.0, 2.0, 3.0, 4.0])
    x = Tensor(array[:2], requires_grad=True)
    y = (x * x).sum()
    array[2:] = 0
    y.backward()
    assert x.grad.tolist() == [2, 4]


def test_what_backward_does_not_need_may_change():
    array = np.array([1.0, 2.0])
    x = Tensor(array, requires_grad=True)
    y = (x + x).sum()
    array[:] = 5
    y.backward()
    assert x.grad.tolist() == [2, 2]


def test_an_option_that_a_function_saves_as_it_is_counts():
    class Scaled(Function):
        def forward(ctx, x, *, by):
            ctx.save(by)
            return x * by

        def backward(ctx, gy):
            return gy * ctx.saved[0]

    by, x = np.array([2.0]), Tensor(np.array([1.0]), requires_grad=True)
    y = Scaled.apply(x, by=by)
    by[:] = 3
    with pytest.raises(RuntimeError, match="Scaled" + CHANGED):
        y.backward()


# ---------------------------------------------------------------------------------------------------------
# Fingerprints
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "bool"])
@pytest.mark.parametrize("size", [0, 1, 7, 600, 5000, 100_003])
def test_each_single_change_is_seen(dtype, size):
    array = np.random.default_rng(0).integers(0, 2, size).astype(dtype)
    before = versions.fingerprint(array)
    assert versions.fingerprint(array.copy()) == before
    for i in sorted({0, size // 2, size - 1}) if size else ():
        array[i] = 1 - array[i]
        assert versions.fingerprint(array) != before
        array[i] = 1 - array[i]
    assert versions.fingerprint(array) == before


def test_permutations_are_seen():
    array = np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)
    before = versions.fingerprint(array)
    for other in (array[::-1], array[..., ::-1], array.transpose(0, 1, 3, 2), np.roll(array, 1, 0), np.sort(array)):
        assert versions.fingerprint(np.ascontiguousarray(other)) != before


def test_a_transposed_array_is_read_without_a_copy():
    array = np.random.default_rng(0).standard_normal((16, 8, 9, 7)).astype(np.float32)
    view = array.transpose(2, 3, 1, 0)
    assert np.shares_memory(view.ravel("K"), array) and versions.fingerprint(view) == versions.fingerprint(array)
    part = array[:, ::2]
    before = versions.fingerprint(part)
    array[:, 1] = 0  # not in the part
    assert versions.fingerprint(part) == before
    array[3, 2, 1, 1] = 0
    assert versions.fingerprint(part) != before


@pytest.mark.parametrize("size", [1 << 11, 5000, 1 << 18, 1_000_003])
def test_of_a_large_result_words_from_all_over_are_read(size):
    array = np.zeros(size, np.float32)
    before = versions.fingerprint(array, whole=False)
    assert versions.fingerprint(array.copy(), whole=False) == before
    part = max(size // 200, 2)  # more than the distance of two words that are read
    for start in range(0, size - part, part):
        array[start:start + part] = 1
        assert versions.fingerprint(array, whole=False) != before
        array[start:start + part] = 0
