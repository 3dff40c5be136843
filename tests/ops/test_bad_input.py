"""Every op with inputs and options that do not belong together: it computes, or says what is wrong."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from minicv.autograd import Function
from tests.harness import CASES

NAMES = sorted({case.name for case in CASES})


@st.composite
def other_array(draw, a):
    """An array of other sizes, other dimensions or another kind of numbers."""
    what = draw(st.sampled_from(["less", "more", "axis more", "axis less", "numbers", "empty", "flat", "negative"]))
    if what in ("less", "more", "empty") and a.ndim:
        axis = draw(st.integers(0, a.ndim - 1))
        if what == "more":
            return np.concatenate([a, a], axis)
        return np.take(a, range(min(a.shape[axis], what == "less")), axis)
    if what == "axis more":
        return a[None]
    if what == "axis less" and a.ndim and len(a):
        return a[0]
    if what == "numbers":
        return a.astype(int) if a.dtype.kind == "f" else a.astype(float)
    if what == "negative" and a.dtype.kind == "i":
        return a - 100
    return a.ravel()


@st.composite
def other_option(draw, value):
    """Another number where there was one, or as many others."""
    if type(value) is int:
        return draw(st.integers(-3, 12) | st.just(10 ** 12))
    if type(value) is float:
        return draw(st.sampled_from([-1.0, 0.0, 1.0, 2.5, math.inf, math.nan]))
    if isinstance(value, tuple) and value and all(type(v) is int for v in value):
        return tuple(draw(st.lists(st.integers(-3, 12), min_size=len(value), max_size=len(value))))
    return value


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # overflows and divisions by 0 of numbers that make no sense
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_it_computes_or_says_what_is_wrong(name, data):
    case = data.draw(st.sampled_from([case for case in CASES if case.name == name]))
    arrays, options = case.arrays(), dict(case.options)
    changed = data.draw(st.integers(0, len(arrays) + len(options) - 1))
    if changed < len(arrays) and arrays[changed] is not None:
        arrays[changed] = data.draw(other_array(arrays[changed]))
    elif changed >= len(arrays):
        key = list(options)[changed - len(arrays)]
        options[key] = data.draw(other_option(options[key]))
    before = [None if a is None else a.copy() for a in arrays]
    try:
        tensors = [None if a is None else Tensor(a, a.dtype.kind == "f") for a in arrays]
        result = case.call(*tensors, **options)
        first = result[0] if isinstance(result, tuple | list) else result
        if first.requires_grad:
            first.backward(np.ones_like(first.data))
            assert all(t is None or t.grad is None or t.grad.shape == t.shape for t in tensors)
    except MemoryError:  # 10 ** 12 pixels were asked for; NumPy refuses
        assert any(type(v) is int and v == 10 ** 12 for v in options.values())
    except (ValueError, TypeError, IndexError) as error:
        said = " ".join([str(error), *getattr(error, "__notes__", [])])
        families = {"spatial_pyramid_pool": "adaptive_", "cat": "concatenate"}
        assert name in said or ".forward of" in said or families.get(name, name) in said, f"{type(error)}: {said}"
    for a, b in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: x.squeeze(5), r"squeeze\(dim=5\): must be an axis of 3, -3 to 2"),
    (lambda x: x.unsqueeze(-5), r"unsqueeze\(dim=-5\): must be an axis of 4, -4 to 3"),
    (lambda x: x.transpose(0, 3), r"transpose\(dim=3\): must be an axis of 3"),
    (lambda x: x.permute(0, 1, 5), r"permute\(dim=5\): must be an axis of 3"),
    (lambda x: x.flatten(4), r"flatten\(dim=4\): must be an axis of 3"),
    (lambda x: F.flip(x, (7,)), r"flip\(dim=7\): must be an axis of 3"),
    (lambda x: F.concatenate([x, x], 4), r"concatenate\(dim=4\): must be an axis of 3"),
    (lambda x: F.stack([x, x], 4), r"stack\(dim=4\): must be an axis of 4"),
    (lambda x: F.stack([x, x[0]]), r"stack: needs tensors of one shape, got \[\(2, 3, 4\), \(3, 4\)\]"),
    (lambda x: x.reshape(-2, 6), r"reshape: \(2, 3, 4\) has 24 elements; they do not fill \(-2, 6\)"),
    (lambda x: F.conv2d(x[None], Tensor(np.ones((0, 2, 1, 1)))), r"conv2d: weight \(0, 2, 1, 1\) has no channels"),
    (lambda x: F.conv2d(x[None][:, :0], Tensor(np.ones((2, 0, 1, 1)))), "conv2d: weight .* has no channels"),
    (lambda x: F.conv_transpose2d(x[None], Tensor(np.ones((2, 0, 1, 1)))), "conv_transpose2d: weight .* has no chan"),
    (lambda x: F.interpolate(x[None], scale_factor="2"),
     r"interpolate\(scale_factor=2\): use a positive number, or two of them"),
    (lambda x: F.interpolate(x[None], scale_factor=np.array([2, 2])),
     r"interpolate\(scale_factor=\[2 2\]\): use a positive number, or two of them"),
    (lambda x: F.mean(x[:0], 0), r"mean: input \(0, 3, 4\) is empty along dim=0"),
    (lambda x: F.amin(x[:, :0], 1), r"amin: input \(2, 0, 4\) is empty along dim=1"),
    (lambda x: F.where(x.data > 0, x, x[:, :2]), r"where: shapes \(2, 3, 4\), \(2, 3, 4\) and \(2, 2, 4\) do not"),
    (lambda x: F.matmul(x, Tensor(np.ones((3, 4, 2)))), r"matmul: .*: the leading sizes do not broadcast"),
    (lambda x: F.crop(x[0, 0], 0, 0, 1, 1), r"crop: input must be \(\.\.\., H, W\), got \(4,\)"),
    (lambda x: F.adaptive_avg_pool2d(x[None], 10 ** 9), r"output_size\) must be at most 1,048,576, got "),
])
def test_axes_and_shapes_that_are_not_there(call, message):
    with pytest.raises(ValueError, match=message):
        call(Tensor(np.ones((2, 3, 4))))


def test_nothing_broadcasts_against_one():
    """An empty axis against an axis of 1: the result is empty, the gradient 0."""
    a, b = Tensor(np.ones((2, 1, 0)), requires_grad=True), Tensor(np.ones((3, 1)), requires_grad=True)
    y = a + b
    y.backward(np.ones((2, 3, 0)))
    assert y.shape == (2, 3, 0) and a.grad.shape == (2, 1, 0) and b.grad.tolist() == [[0], [0], [0]]


IMAGE, KERNEL, BOX = Tensor(np.ones((1, 1, 4, 4), int)), Tensor(np.ones((1, 1, 2, 2))), np.array([[0, 0, 0, 2, 2.0]])


@pytest.mark.parametrize(("name", "call"), [
    ("conv2d", lambda x: F.conv2d(x, KERNEL)), ("conv_transpose2d", lambda x: F.conv_transpose2d(x, KERNEL)),
    ("linear", lambda x: F.linear(x, Tensor(np.ones((2, 4))))), ("max_pool2d", lambda x: F.max_pool2d(x, 2)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 2)), ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 2)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 2)), ("roi_pool", lambda x: F.roi_pool(x, BOX, 2)),
    ("roi_align", lambda x: F.roi_align(x, BOX, 2)), ("unpool_nearest", lambda x: F.unpool_nearest(x, 2)),
    ("interpolate", lambda x: F.interpolate(x, 3, mode="bilinear")), ("softmax", lambda x: F.softmax(x, 1)),
    ("dropout", F.dropout),
])
def test_integers_are_refused_where_they_would_be_weighed(name, call):
    """In their own dtype the weights would be rounded to 0 and 1."""
    with pytest.raises(TypeError, match=rf"^{name}: input must be floats, got int64; convert with .astype"):
        call(IMAGE)
    with pytest.raises(TypeError, match=rf"^{name}: input is of type ndarray; wrap it in minicv.Tensor"):
        call(IMAGE.data)
    call(Tensor(IMAGE.data.astype(float)))


def test_nearest_interpolation_only_chooses_among_integers():
    y = F.interpolate(Tensor(np.array([[[[3, 5]]]])), (1, 4))
    assert y.dtype == np.int64 and y.data.tolist() == [[[[3, 3, 5, 5]]]]


def test_an_error_inside_an_op_says_whose_arrays_these_were():
    class Broken(Function):
        def forward(ctx, x, y):
            return x @ y

    with pytest.raises(ValueError, match="matmul") as error:
        Broken.apply(Tensor(np.ones(3, bool)), Tensor(np.ones(2)))
    assert error.value.__notes__ == ["in Broken.forward of bool (3,), float64 (2,)"]
