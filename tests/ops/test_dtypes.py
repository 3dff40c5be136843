"""Integers and bools in every op: they keep their dtype, become float32 as in PyTorch, or are refused with a cure."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from minicv.autograd import substitute
from tests.harness import CASES, is_float
from tests.oracle import require

INTEGERS = ["bool", "uint8", "int8", "uint16", "int32", "int64", "uint64"]
each_integer = pytest.mark.parametrize("dtype", INTEGERS)
SMALL_CASES = [case for case in CASES if case.op is not F.astype
               and sum(a.size for a in case.arrays() if a is not None) < 5000]


def ends(dtype):
    """The smallest and largest values, and a few between."""
    if dtype == "bool":
        return [True, False]
    info = np.iinfo(dtype)
    return [info.max, info.min, 0, 1, info.max - 1, info.min + 1, 2]


def filled(shape, dtype):
    return np.resize(np.array(ends(dtype), dtype), shape)


def arrays(case, dtype, other=None):
    """The case's inputs, floats replaced by the ends of these integers; beside ``other`` only the first of them."""
    result, first = [], True
    for a in case.arrays("float32"):
        if is_float(a):
            a = filled(a.shape, dtype) if first or other is None else a.astype(other)
            first = False
        result.append(a)
    return result


def run(case, inputs):
    result = case.run(*(None if a is None else Tensor(a) for a in inputs))
    return list(result) if isinstance(result, tuple | list) else [result]


@pytest.mark.parametrize("case", CASES, ids=repr)
@each_integer
def test_no_op_makes_float64_of_integers(case, dtype):
    if not any(map(is_float, case.arrays("float32"))):
        return
    for other in (None, "float32"):
        inputs = arrays(case, dtype, other)
        try:
            with np.errstate(all="ignore"):
                results = run(case, inputs)
        except (TypeError, ValueError) as error:
            said = " ".join([str(error), *getattr(error, "__notes__", [])])
            names = {"spatial_pyramid_pool": "adaptive_"}
            assert names.get(case.name, case.name) in said and dtype in said, f"{case}, {dtype}: {said}"
            continue
        for y in results:
            assert y.dtype.kind in "biu" or y.dtype == np.float32, f"{case}, {dtype}: {y.dtype}"
        assert not any(map(is_float, inputs)) or results[0].dtype == np.float32, f"{case}, {dtype}"


@pytest.mark.parametrize("case", SMALL_CASES, ids=repr)
@each_integer
def test_the_values_are_pytorchs(case, dtype):
    torch = require("torch")
    from tests.oracle_ops import TABLE
    inputs = arrays(case, dtype)
    try:
        with np.errstate(all="ignore"):
            ours = run(case, inputs)
    except (TypeError, ValueError):
        return
    try:
        with substitute(TABLE):
            theirs = run(case, inputs)
    except (RuntimeError, NotImplementedError):
        assert dtype in ("bool", "uint16", "uint64") or case.op is F.interpolate  # these PyTorch has not for all ops
        return
    for y, expected in zip(ours, theirs, strict=True):
        assert y.dtype == expected.dtype, f"{case}, {dtype}"
        np.testing.assert_allclose(y.data, expected.data, rtol=1e-6 * (y.dtype == np.float32))
    assert torch is not None


# ---------------------------------------------------------------------------------------------------------
# Numbers, and one dtype beside another: PyTorch's results and dtypes
# ---------------------------------------------------------------------------------------------------------
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum"]


def torchs(name, *values):
    """PyTorch's result as an array; None where it refuses."""
    torch = require("torch")
    try:
        return getattr(torch, name)(*(torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in values)).numpy()
    except (RuntimeError, NotImplementedError):
        return None


def ours(name, *values):
    """Our result as an array; None where we refuse."""
    try:
        with np.errstate(all="ignore"):
            return getattr(F, name)(*(Tensor(v) if isinstance(v, np.ndarray) else v for v in values)).data
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("a", ["bool", "uint8", "int8", "int32", "int64", "float32"])
@pytest.mark.parametrize("b", ["bool", "uint8", "int8", "int32", "int64", "float32"])
def test_two_dtypes_meet_as_pytorchs(name, a, b):
    left, right = (np.arange(1, 6).astype(a) if a == "float32" else filled(5, a) for a in (a, b))
    y, expected = ours(name, left, right[::-1].copy()), torchs(name, left, right[::-1].copy())
    assert (y is None) == (expected is None), name
    if y is not None:
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([*BINARY, "pow", "where", "clamp"]), st.sampled_from(INTEGERS[:3] + INTEGERS[4:6]),
       st.sampled_from([0, 1, 2, 100, True, 0.5, 2.0, -1.5]))
def test_a_number_beside_integers_is_pytorchs(name, dtype, number):
    torch = require("torch")
    x = filled(5, dtype)
    if name in ("maximum", "minimum"):  # PyTorch takes no number there: its result type with one
        result_type = torch.result_type(torch.from_numpy(x), number)
        other = torch.tensor(number, dtype=result_type).numpy()
        y, expected = ours(name, x, number), torchs(name, x.astype(other.dtype), other)
    elif name == "where":
        condition = np.array([True, False] * 2 + [True])
        y, expected = ours(name, condition, x, number), torchs(name, condition, x, number)
    elif name == "clamp" and number is True:
        return  # PyTorch's clamp takes no bools
    else:
        y, expected = ours(name, x, number), torchs(name, x, number)
    assert (y is None) == (expected is None), (name, dtype, number)
    if y is not None:
        assert y.dtype == expected.dtype, (name, dtype, number)
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["neg", "abs", "relu", "exp", "log", "sqrt", "sigmoid", "tanh", "sum", "mean", "amax",
                                  "amin", "leaky_relu"])
@each_integer
def test_functions_of_one_tensor_are_pytorchs(name, dtype):
    if dtype in ("uint16", "uint64") and name not in ("sum", "exp"):  # of which PyTorch has little
        return
    torch, x = require("torch"), filled(7, dtype)
    y = ours(name, x)
    function = torch.nn.functional.leaky_relu if name == "leaky_relu" else getattr(torch, name)
    try:
        expected = function(torch.from_numpy(x)).numpy()
    except (RuntimeError, NotImplementedError):
        expected = None
    assert (y is None) == (expected is None)
    if y is not None:
        assert y.dtype == expected.dtype
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@each_integer
def test_extremes_are_numpys(dtype):
    x, one = filled((2, 7), dtype), np.ones((), dtype)
    for name, expected in (("amin", x.min(1)), ("amax", x.max(1))):
        y = getattr(F, name)(Tensor(x), 1)
        assert y.dtype == dtype and y.data.tolist() == expected.tolist()
    for name in ("minimum", "maximum"):
        for other in (Tensor(one), 1 if dtype != "bool" else True):
            y = getattr(F, name)(Tensor(x), other)
            assert y.dtype == dtype and y.data.tolist() == getattr(np, name)(x, one).tolist()


# ---------------------------------------------------------------------------------------------------------
# What is refused, and with which words
# ---------------------------------------------------------------------------------------------------------
U8 = Tensor(np.array([5, 0, 255], np.uint8))
I64, U64 = Tensor(np.array([1, -2, 3])), Tensor(np.array([1, 2, 3], np.uint64))
MASK = Tensor(np.array([True, False, True]))


@pytest.mark.parametrize("call, error, message", [
    (lambda: I64 + U64, TypeError, r"^add: int64 and uint64 have no common integer dtype; convert one of them"),
    (lambda: F.concatenate([I64, U64]), TypeError, r"^concatenate: int64 and uint64 have no common integer dtype"),
    (lambda: F.clamp(I64, U64), TypeError, r"^clamp: int64 and uint64 have no common integer dtype"),
    (lambda: U8 + 256, ValueError, r"^add: 256 does not fit into uint8, which holds the integers 0 to 255; convert"),
    (lambda: F.maximum(U8, -1), ValueError, r"^maximum: -1 does not fit into uint8"),
    (lambda: F.clamp(U8, 0, 300), ValueError, r"^clamp: 300 does not fit into uint8"),
    (lambda: F.pad(U8, (1, 1), value=-1), ValueError, r"^pad\(value\): -1 does not fit into uint8"),
    (lambda: F.pad(U8, (1, 1), value=0.5), ValueError, r"^pad\(value\): 0.5 does not fit into uint8"),
    (lambda: F.pad(I64, (1, 1), value=-np.inf), ValueError, r"^pad\(value\): -inf does not fit into int64"),
    (lambda: F.pad(I64, (1, 1), value=np.nan), ValueError, r"^pad\(value\): nan does not fit into int64"),
    (lambda: MASK - MASK, TypeError, r"^sub: got bool, which has no sign; convert it with .* or invert a mask with ~x"),
    (lambda: 1 - MASK, TypeError, r"^sub: got bool"),
    (lambda: I64 - True, TypeError, r"^sub: got bool"),
    (lambda: -MASK, TypeError, r"^neg: got bool"),
    (lambda: F.matmul(MASK, MASK), TypeError, r"^matmul: got bool"),
    (lambda: F.mean(U8), TypeError, r"^mean: input must be floats, got uint8; convert with .astype\('float32'\)"),
    (lambda: I64 ** -1, ValueError, r"^pow\(exponent=-1\): integers \(int64\) have no negative integer powers;"),
    (lambda: U8 ** 300, ValueError, r"^pow\(exponent\): 300 does not fit into uint8"),
])
def test_refusals(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_joined_and_multiplied_integers_become_floats_beside_floats():
    x = Tensor(np.array([0.5, 1.5, 2.5], np.float32), requires_grad=True)
    y = F.concatenate([I64, x, MASK])
    assert y.dtype == np.float32 and y.data.tolist() == [1, -2, 3, 0.5, 1.5, 2.5, 1, 0, 1]
    z = F.matmul(U8, x)
    assert z.dtype == np.float32 and z.item() == 2.5 + 255 * 2.5
    (y.sum() + z).backward()
    assert x.grad.tolist() == [6, 1, 256]
    assert F.stack([U8, Tensor(np.array([1, -2, 3], np.int8))]).dtype == np.int16


# ---------------------------------------------------------------------------------------------------------
# Labels and indices
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "uint64"])
def test_labels_of_any_integers(dtype):
    scores, labels = Tensor(np.arange(12.0).reshape(4, 3) % 5), np.array([0, 2, 1, 1], dtype)
    for op in (F.cross_entropy, F.nll_loss):
        assert op(scores, labels).item() == op(scores, labels.astype(np.int64)).item()
        assert op(scores, labels, ignore_index=1).item() == op(scores[:2], labels[:2]).item()


def test_labels_at_the_ends_of_their_dtype_are_no_classes():
    scores = Tensor(np.zeros((1, 3)))
    for dtype in ("uint8", "int8", "uint16", "int32", "int64", "uint64"):
        for label in (np.iinfo(dtype).max, np.iinfo(dtype).min):
            if label:
                shown = min(int(label), np.iinfo("int64").max)
                with pytest.raises(ValueError, match=f"target {shown} is neither one of the 3 classes"):
                    F.cross_entropy(scores, np.array([label], dtype), ignore_index=-1)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "uint64"])
def test_indices_of_any_integers(dtype):
    index = np.array([2, 0, 2], dtype)
    for places in (index, Tensor(index)):
        x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
        y = x[places]
        y.backward(np.array([1.0, 2.0, 4.0]))
        assert y.data.tolist() == [3, 1, 3] and x.grad.tolist() == [2, 0, 5]
    x = Tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    x[index[0]].backward()
    assert x.grad.tolist() == [0, 0, 1]
