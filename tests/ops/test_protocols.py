"""Python's and NumPy's protocols on Tensors: what the tables of docs/tensor.md do not show."""
import warnings
from collections import Counter

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor, no_grad
from tests.oracle import require
from tests.strict_device import StrictArray, strict


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


# ---------------------------------------------------------------------------------------------------------
# Numbers and sequences
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("function, expected", [
    (lambda x: sum(x), [1, 1, 1]),
    (lambda x: sum(value * (i + 1) for i, value in enumerate(x)), [1, 2, 3]),
    (lambda x: max(x), [0, 0, 1]),
    (lambda x: min(x), [1, 0, 0]),
    (lambda x: sorted(x, reverse=True)[0], [0, 0, 1]),
    (lambda x: (lambda a, b, c: a * 2 + c)(*x), [2, 0, 1]),
    (lambda x: list(reversed(x))[0], [0, 0, 1]),
    (lambda x: F.stack(list(x)).sum(), [1, 1, 1]),
    (lambda x: [*x, 0.0][1], [0, 1, 0])])
def test_gradients_flow_through_python(function, expected):
    x = leaf(1.0, 2.0, 3.0)
    function(x).backward()
    assert x.grad.tolist() == expected


def test_rows_of_a_matrix():
    x = Tensor(np.arange(6.0).reshape(3, 2))
    assert [row.tolist() for row in x] == [[0, 1], [2, 3], [4, 5]] and len(x) == 3
    assert list(Tensor(np.zeros((0, 2)))) == [] and [4.0, 9.0] not in [row.tolist() for row in x]
    assert 5.0 in x and 7.0 not in x and np.float32(5) in x and Tensor(5.0) in x and True in Tensor([True])
    assert float("nan") not in Tensor([float("nan")])


def test_a_loss_as_a_condition():
    for value in (0.0, 1.0, float("nan"), -2.0):
        loss = Tensor(np.array(value), requires_grad=True) * 1.0
        assert bool(loss) == bool(value) and (loss > 0) == (value > 0)
        with pytest.raises(TypeError, match=r"bool\(t\): a Tensor of shape \(2,\) has 2 elements, and must have one"):
            bool(Tensor([value, value]))


def test_int_of_what_is_no_integer():
    for value, error in ((float("nan"), ValueError), (float("inf"), OverflowError)):
        with pytest.raises(error):
            int(Tensor(value))
    assert int(Tensor([-2.7])) == -2 and int(Tensor([[True]])) == 1


@pytest.mark.parametrize("spec", ["", ".3f", ">8", "e", ".1%"])
def test_formats_are_those_of_the_number(spec):
    assert format(Tensor(np.array(0.125)), spec) == format(0.125, spec)
    assert format(Tensor([0.125]), "") == repr(Tensor([0.125]))


def test_a_large_tensor_is_shown_in_short():
    assert len(repr(Tensor(np.zeros((1000, 1000))))) < 500


# ---------------------------------------------------------------------------------------------------------
# Operators
# ---------------------------------------------------------------------------------------------------------
def test_numbers_take_the_dtype_of_the_tensor():
    assert (Tensor([0.1]) == 0.1).tolist() == [True]  # as float32
    assert (Tensor([0.1]) == np.float64(0.1)).tolist() == [True]
    assert (Tensor(np.uint8([5])) & 1).dtype == np.uint8 and (Tensor(np.int8([5])) // 2).dtype == np.int8
    assert (Tensor([5.0]) % 2).dtype == np.float32 and (2 ** Tensor([5.0])).dtype == np.float32
    assert (Tensor([5]) // 2.5).dtype == (2.5 % Tensor([5])).dtype == np.float32  # as 2.5 + Tensor([5])
    assert (Tensor([5]) // Tensor([2.0])).dtype == np.float32 and (Tensor([2 ** 24 + 1]) > 2.0 ** 24).tolist() == [True]
    with pytest.raises(TypeError, match="//: got float32 on numpy and float64 on numpy; use .astype"):
        Tensor([5.0]) // np.array([2.0])
    for wrong in ("2", None, [2]):
        with pytest.raises(TypeError, match="unsupported operand"):
            Tensor([5]) // wrong


def test_division_by_zero():
    for f in (lambda t: t // 0, lambda t: t % 0, lambda t: 1 // (t * 0), lambda t: 1 % (t * 0)):
        with pytest.raises(ZeroDivisionError, match="write .astype"):
            f(Tensor([1, 2]))
    assert (Tensor([1.0, -1.0]) // 0).tolist() == [np.inf, -np.inf] and np.isnan((Tensor([1.0]) % 0).item())


def test_an_integer_leaf_gets_no_gradient_however_it_is_asked_for():
    t = Tensor([1, 2])
    t.requires_grad = True
    with pytest.raises(TypeError, match=r"requires_grad was set on a leaf of int64 \(2,\), and only floats have"):
        (t * 0.5).sum().backward()


def test_comparisons_broadcast_and_lie_outside_the_graph():
    x = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    for result in (x == x[0], x < x[:, :1], x >= 2, x != np.arange(3.0)):
        assert result.shape == (2, 3) and result.dtype == bool and not result.requires_grad and result.node is None
    with pytest.raises(ValueError, match="broadcast"):
        x == np.zeros(2)  # noqa: B015
    assert F.where(x > 2, x, 0.0).sum().item() == 12


def test_a_tensor_is_found_by_what_it_is():
    a, b = Tensor([1.0, 2.0]), Tensor([1.0, 2.0])
    assert len({a, b, a}) == 2 and {a: 1, b: 2}[b] == 2 and Counter([a, b, a])[a] == 2
    assert a in {a} and b not in {a} and hash(a) == hash(a) != hash(b)
    a += 1
    assert a in {a: 1}  # the hash stays when the values change


@pytest.mark.parametrize("f", [
    lambda a, t: a + t, lambda a, t: a - t, lambda a, t: a * t, lambda a, t: a / t,
    lambda a, t: np.add(t, a), lambda a, t: np.multiply(t, t), lambda a, t: np.subtract(a, t)])
def test_an_array_beside_a_tensor_keeps_the_gradient(f):
    a, x = np.array([1.0, 2.0]), leaf(3.0, 4.0)
    y = f(a, x)
    assert isinstance(y, Tensor) and y.requires_grad
    y.sum().backward()
    expected = leaf(3.0, 4.0)
    f(Tensor(a), expected).sum().backward()
    assert x.grad.tolist() == expected.grad.tolist()


def test_an_array_beside_a_tensor_compares_elements():
    a, t = np.array([1.0, 5.0]), Tensor(np.array([3.0, 3.0]))
    for result in (a < t, a <= t, a == t, a != t, a > t, a >= t, np.less(a, t)):
        assert isinstance(result, Tensor)
    assert (a < t).tolist() == [True, False] and (a > t).tolist() == [False, True]
    assert (np.array([True, False]) & Tensor([True, True])).tolist() == [True, False]


def test_reflected_operators():
    t = Tensor([2.0, 4.0])
    assert (7 // t).tolist() == [3, 1] and (7 % t).tolist() == [1, 3] and (2 ** t).tolist() == [4, 16]
    assert (1 | Tensor([2])).tolist() == [3] and (3 ^ Tensor([1])).tolist() == [2]
    with pytest.raises(TypeError, match=r"\*\* has no gradient for Tensors; write F.exp\(t \* math.log\(base\)\)"):
        2 ** leaf(1.0)
    with pytest.raises(TypeError, match="% has no gradient"):
        Tensor(np.array([5.0])) % leaf(2.0)
    with no_grad():
        assert (2 ** leaf(1.0)).tolist() == [2]


@pytest.mark.parametrize("f", [
    lambda t: t + [1.0], lambda t: [1.0] + t, lambda t: t * None, lambda t: "a" - t, lambda t: t / "a",
    lambda t: t ** [2], lambda t: t * 1j, lambda t: [1.0] * t, lambda t: {} - t])
def test_what_an_operator_does_not_take_is_refused_by_python(f):
    with pytest.raises(TypeError, match="unsupported operand|can only concatenate|an index must be an integer Tensor"):
        f(Tensor([1.0, 2.0]))
    assert [0] * Tensor(3) == [0, 0, 0] and "ab" * Tensor([2]) == "abab"  # a sequence is repeated


def test_numpy_scalars_and_methods_of_ufuncs():
    t = Tensor([1.0, 2.0])
    assert np.power(2, t).tolist() == (np.float64(2) ** t).tolist() == [2, 4]
    target = np.zeros(3)
    np.add.at(target, Tensor([0, 0]), t)
    assert target.tolist() == [3, 0, 0]


def test_matrix_products_name_what_is_no_tensor():
    t = Tensor(np.ones((2, 2)))
    for f in (lambda: t @ np.ones((2, 2)), lambda: np.ones((2, 2)) @ t, lambda: [1.0, 1.0] @ t, lambda: t @ [1.0, 1.0]):
        with pytest.raises(TypeError, match="MatMul: argument [01] is of type (ndarray|list); wrap it in minicv"):
            f()


# ---------------------------------------------------------------------------------------------------------
# In place
# ---------------------------------------------------------------------------------------------------------
def test_gradients_through_a_change_in_place_are_those_of_pytorch():
    torch = require("torch")

    def run(tensor):
        x, w = tensor([1.0, 2.0], requires_grad=True), tensor([3.0, 4.0], requires_grad=True)
        y = x * w
        kept = y * 3.0  # of the old y
        y += w
        y *= 2
        y -= x
        y /= 4
        total = tensor([0.0, 0.0])
        total += y  # a leaf without a gradient joins the graph
        (total + kept).sum().backward()
        return x.grad.tolist(), w.grad.tolist(), y.tolist(), total.tolist()

    def ours(values, requires_grad=False):
        return Tensor(np.array(values), requires_grad=requires_grad)

    def theirs(values, requires_grad=False):
        return torch.tensor(values, dtype=torch.float64, requires_grad=requires_grad)
    assert run(ours) == run(theirs)


def test_a_product_of_values_that_are_replaced_keeps_the_old_ones():
    x = leaf(3.0)
    y = x * 2
    square = y * y  # 4 x^2; PyTorch raises, as its += writes into y's memory
    y += 100
    square.backward()
    assert x.grad.tolist() == [24]


def test_a_training_step_written_by_hand_changes_the_weights():
    w = leaf(1.0, 2.0)
    same = w
    (w * w).sum().backward()
    with no_grad():
        w -= 0.5 * w.grad
    assert w is same and w.tolist() == [0, 0] and w.requires_grad and w.node is None


def test_a_change_in_place_leaves_the_array_and_what_shares_it_alone():
    array = np.array([1.0, 2.0])
    t = Tensor(array)
    view = t[:1]
    t += 1
    assert array.tolist() == [1, 2] and view.tolist() == [1] and t.tolist() == [2, 3]
    t[0] = 9
    assert t.tolist() == [9, 3]


def test_an_assignment_reaches_the_array():
    array = np.zeros((2, 2), np.float32)
    t = Tensor(array)
    t[0, 1], t[np.array([1])], t[t == 0] = 5, Tensor([7.0, 0.0]), 1
    assert array.tolist() == [[1, 5], [7, 1]]


def test_a_change_in_place_through_a_function_that_refuses_changes_nothing():
    t = Tensor([1.0, 2.0])
    for wrong in ("a", None, np.zeros(3, np.float32)):
        with pytest.raises((TypeError, ValueError)):
            t += wrong
    assert t.tolist() == [1, 2]


# ---------------------------------------------------------------------------------------------------------
# NumPy, and other devices
# ---------------------------------------------------------------------------------------------------------
def test_numpy_functions_take_arrays_from_anywhere_in_their_arguments():
    t = Tensor([1.0, 2.0])
    assert np.stack([t, t], axis=1).tolist() == [[1, 1], [2, 2]] and np.concatenate((t, [3.0])).tolist() == [1, 2, 3]
    assert np.mean(a=t) == 1.5 and np.where([True, False], t, 0).tolist() == [1, 0] and np.size(t) == 2
    assert np.allclose(t, [1, 2]) and np.array_equal(t, [1, 2]) and np.add.reduce(t).item() == 3
    assert [type(v) for v in np.modf(t)] == [Tensor, Tensor]
    for f in (lambda x: np.stack([t, x]), lambda x: np.mean(a=x), lambda x: np.concatenate((t, x)), np.sort,
              np.linalg.norm, np.add.reduce, lambda x: np.einsum("i,i", x, t), np.modf):
        with pytest.raises(TypeError, match=r"np\.\w+ of a Tensor that requires a gradient, which NumPy would lose"):
            f(leaf(1.0, 2.0))


def test_an_array_of_a_tensor_keeps_its_dtype_and_memory():
    t = Tensor(np.array([1, 2], np.int16))
    assert np.asarray(t) is t.data and np.asarray(t).dtype == np.int16 and np.array(t, float).dtype == np.float64
    assert not np.shares_memory(np.array(t), t.data)
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, dtype=float, copy=False)


@pytest.mark.parametrize("f", [
    np.asarray, np.mean, np.exp, lambda t: np.stack([t, t]), lambda t: np.zeros(2) + np.sort(t)])
def test_numpy_does_not_fetch_from_another_device(f):
    with pytest.raises(TypeError, match=r"of a Tensor on strict: write t.numpy\(\) for a copy"):
        f(Tensor(strict.asarray(np.ones(2))))


def test_python_on_another_device():
    t, there = Tensor(np.array([1.0, 2.0])), Tensor(strict.asarray(np.array([1.0, 2.0])))
    assert isinstance((there == 2).data, StrictArray) and (there > 1).tolist() == [False, True]
    assert 2.0 in there and float(there[1]) == 2 and [x.item() for x in there] == [1, 2] and sum(there).item() == 3
    there += 1
    there[0] = 5
    assert there.tolist() == [5, 3] and f"{there[0]:.1f}" == "5.0" and (there // 2).tolist() == [2, 1]
    with pytest.raises(TypeError, match="one Tensor lies on strict, the other on numpy"):
        there < t  # noqa: B015


def test_an_array_that_asks_the_object_for_array_ufunc_leaves_the_operator_to_the_tensor():
    """CuPy's rule: ``array * t`` is the Tensor's business where ``t.__array_ufunc__`` is None."""
    class Array:
        def __mul__(self, other):
            return NotImplemented if other.__array_ufunc__ is None else "its own"

    class Doubled(Tensor):
        __slots__ = ()
        __rmul__ = staticmethod(lambda other: "the Tensor's")

    assert Tensor.__array_ufunc__ is not None
    assert Array() * Doubled([1.0]) == "the Tensor's"


def test_a_list_of_tensors_becomes_one_tensor_or_is_refused():
    assert Tensor([Tensor(1.0), Tensor(2.0)]).tolist() == [1, 2]
    with pytest.raises(TypeError, match="requires a gradient"):
        Tensor(list(leaf(1.0, 2.0)))


@pytest.mark.parametrize("name", ["requires_gard", "gradient", "foo"])
def test_a_misspelled_attribute_is_an_error(name):
    for t in (Tensor([1.0]), leaf(1.0)):
        with pytest.raises(AttributeError, match=name):
            setattr(t, name, True)


def test_sizes_of_any_integers():
    x = Tensor(np.arange(6.0))
    for sizes in ((np.int64(2), 3), ((np.int32(2), 3),), ([2, np.prod([3])],), (Tensor(2), -1), (np.array(2), 3)):
        assert x.reshape(*sizes).shape == (2, 3)
    assert x.reshape(2, 3).permute(np.int64(1), 0).shape == (3, 2)
    assert Tensor(np.ones((1, 3))).expand(np.int64(2), 3).shape == (2, 3)
    for wrong in ((2.0, 3), ("2", 3), (None,)):
        with pytest.raises(TypeError):
            x.reshape(*wrong)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = Tensor([1.0, 2.0])
        assert float(t[0]) == 1 and np.asarray(t).sum() == 3 and (t == t).tolist() == [True, True]
