"""Copies of tensors and graphs, and graphs of any depth."""
import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor, nn
from minicv.autograd import Function
from minicv.autograd.graph import calls
from tests.oracle import require
from tests.strict_device import strict

REFUSED = "only leaves can be copied; write t.detach.. for its values"
DEEP = 300_000


def pickled(value):
    return pickle.loads(pickle.dumps(value))


both = pytest.mark.parametrize("copied", [copy.deepcopy, pickled])


def leaf(*values):
    return Tensor(np.array(values), requires_grad=True)


@both
@pytest.mark.parametrize("make", [
    lambda: Tensor([1.0, 2.0]), lambda: Tensor(3), lambda: Tensor([True]), lambda: leaf(1.0), lambda: Tensor(2.5),
    lambda: nn.Parameter(np.ones((2, 3), np.float32)), lambda: Tensor(np.zeros((0, 2)))])
def test_a_leaf(copied, make):
    t = make()
    other = copied(t)
    assert type(other) is type(t) and other.dtype == t.dtype and other.requires_grad == t.requires_grad
    assert other.node is None and other.grad is None
    np.testing.assert_array_equal(other.data, t.data)
    assert not np.shares_memory(other.data, t.data)


@both
def test_a_leaf_with_its_gradient(copied):
    t = leaf(1.0, 2.0)
    (t * t).backward(np.ones(2))
    other = copied(t)
    assert other.grad.tolist() == [2, 4] and not np.shares_memory(other.grad, t.grad)


@both
def test_the_order_of_axes_in_memory_is_kept(copied):
    w = nn.Conv2d(3, 4, 5).weight  # kernels that the convolution reads without a copy
    F.conv2d(Tensor(np.ones((1, 3, 6, 6), np.float32)), w).sum().backward()
    other = copied(w)
    assert other.data.strides == w.data.strides and other.grad.strides == w.grad.strides
    np.testing.assert_array_equal(other.data, w.data)
    np.testing.assert_array_equal(other.grad, w.grad)


def test_on_another_device():
    t = leaf(1.0, 2.0).to("strict")
    other = copy.deepcopy(t)
    assert other.device == "strict" and other.numpy().tolist() == [1, 2]
    other.data += strict.asarray(np.ones(2))
    assert t.numpy().tolist() == [1, 2]


def test_one_tensor_in_two_places_stays_one():
    t = leaf(1.0)
    a, b = copy.deepcopy([t, t])
    assert a is b and a is not t


def test_a_shallow_copy_shares_the_array_but_not_the_gradient():
    t = leaf(1.0, 2.0)
    t.grad = np.ones(2)
    other = copy.copy(t)
    assert other.data is t.data and other.grad is None and other.requires_grad


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, copy.copy])
def test_a_result_is_refused(copied):
    y = leaf(1.0) * 2
    for value in (y, y * y, [y], {"y": y}) if copied is not copy.copy else (y, y * y):
        with pytest.raises(RuntimeError, match=f"copy or pickle of a result, made by Mul: {REFUSED}"):
            copied(value)
    assert copied(y.detach()).data.tolist() == [2]


def test_deepcopy_of_a_result_is_refused_by_pytorch_too():
    torch = require("torch")
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(torch.ones(1, requires_grad=True) * 2)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, copy.copy])
def test_a_call_is_refused(copied):
    with pytest.raises(RuntimeError, match="copy or pickle of a call of Mul: it belongs to its graph"):
        copied((leaf(1.0) * 2).node)


# ---------------------------------------------------------------------------------------------------------
# Modules
# ---------------------------------------------------------------------------------------------------------
@both
def test_a_network(copied):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 3))
    net(Tensor(np.random.default_rng(0).standard_normal((2, 1, 8, 8)).astype(np.float32))).sum().backward()
    net[1].eval()
    other = copied(net)
    assert [m.training for m in other.modules()] == [m.training for m in net.modules()]
    for (name, p), (_, q) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, name)
        np.testing.assert_array_equal(p.grad, q.grad, name)
        assert not np.shares_memory(p.data, q.data) and not np.shares_memory(p.grad, q.grad)
    before = net.state_dict()
    other.load_state_dict({name: value + 1 for name, value in before.items()})
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@both
def test_what_is_tied_stays_tied(copied):
    layer = nn.Linear(2, 2)
    other = copied(nn.Sequential(layer, nn.ReLU(), layer))
    assert other[0] is other[2] and len(list(other.parameters())) == 2
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    first, second = copied((a, b))
    assert first.weight is second.weight and first.bias is not second.bias
    first.around = nn.Sequential(first)  # a module that holds one around it
    assert copied(first).around[0].around[0].weight.shape == (2, 2)


# ---------------------------------------------------------------------------------------------------------
# Depth
# ---------------------------------------------------------------------------------------------------------
class Same(Function):
    def forward(ctx, x):
        return x

    def backward(ctx, gy):
        return gy


def deep():
    x = y = leaf(1.0)
    for _ in range(DEEP):
        y = Same.apply(y)
    return x, y


def test_no_depth_is_too_deep():
    """Walked, freed without a walk, listed, copied, shown: none of them calls itself once for each call."""
    x, y = deep()
    for copied in (copy.deepcopy, pickle.dumps, copy.copy):
        with pytest.raises(RuntimeError, match="only leaves can be copied"):
            copied(y)
        with pytest.raises(RuntimeError, match="belongs to its graph"):
            copied(y.node)
    assert len(calls(y)) == DEEP and "from Same" in repr(y) and len({y}) == 1 and y == y
    y.backward()
    assert x.grad.tolist() == [1]


def test_a_deep_graph_is_freed_without_a_walk():
    x, y = deep()
    gone = weakref.ref(y.node)
    del y
    assert gone() is None
    x, y = deep()
    cycle = [y]
    cycle.append(cycle)  # only the garbage collector can free it
    gone = weakref.ref(y.node)
    del y, cycle
    gc.collect()
    assert gone() is None
