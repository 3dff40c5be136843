"""Every case of every op against PyTorch, and the same network on both."""
import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor
from minicv.autograd import Function, substitute
from minicv.autograd.graph import calls
from tests import harness
from tests.harness import CASES, FUNCTIONS
from tests.oracle import require

torch = require("torch")

from tests.oracle_ops import OURS, TABLE, TorchFunction, to_torch, twin_of  # noqa: E402


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_op_and_gradients_are_pytorchs(case):
    with substitute(TABLE), minicv.plain():
        run = harness.Run(case, case.arrays())
    used = {type(call) for call in calls(run.first)}
    assert used <= {*TABLE.values(), *OURS}
    outputs, gradients = run.values()
    expected_outputs, expected_gradients = harness.reference(case)
    harness.compare(expected_outputs, outputs, 1e-10, f"{case}: output, beside PyTorch's,")
    harness.compare(expected_gradients, gradients, 1e-10, f"{case}: gradient, beside PyTorch's,")


def test_every_function_has_a_twin_or_a_reason():
    without = {f.__name__ for f in FUNCTIONS if f not in TABLE and f not in OURS}
    assert sorted(without) == []
    assert not TABLE.keys() & OURS.keys() and all(len(reason) > 20 for reason in OURS.values())


def test_twins_of_nothing_are_gone():
    assert {*TABLE, *OURS} <= set(FUNCTIONS)


def network(x, weights, averages):
    """A small U-Net: skip, up-convolution, batch norm, dropout and the loss."""
    w1, b1, w2, gamma, beta, w3, w4 = weights
    minicv.seed(1)
    a = F.relu(F.conv2d(x, w1, b1, padding=1))
    h = F.conv2d(F.max_pool2d(a, 2), w2, padding="same")
    h = F.dropout(F.relu(F.batch_norm(h, *averages, gamma, beta, training=True)), 0.3)
    h = F.concatenate([F.conv_transpose2d(h, w3, stride=2), F.center_crop(a, (8, 10))], 1)
    scores = F.conv2d(h, w4)
    return F.cross_entropy(scores, np.arange(2 * 8 * 10).reshape(2, 8, 10) % 3), scores


def test_a_network_runs_on_both():
    rng = np.random.default_rng(0)
    shapes = [(4, 1, 3, 3), (4,), (6, 4, 2, 2), (6,), (6,), (6, 4, 2, 2), (3, 8, 1, 1)]
    arrays = [rng.standard_normal(s) for s in shapes]
    x = rng.standard_normal((2, 1, 8, 10))

    def run():
        weights = [Tensor(a, requires_grad=True) for a in arrays]
        averages = [np.zeros(6), np.ones(6)]
        value, scores = network(Tensor(x), weights, averages)
        names = [call.name() for call in calls(value)]
        value.backward()
        return names, [value.data, scores.data, *averages], [w.grad for w in weights]

    names, outputs, gradients = run()
    with substitute(TABLE):
        torch_names, torch_outputs, torch_gradients = run()
    assert torch_names == [f"Torch{name}" for name in names] and len(names) == 12
    harness.compare(outputs, torch_outputs, 1e-10, "output")
    harness.compare(gradients, torch_gradients, 1e-10, "gradient")


# ---------------------------------------------------------------------------------------------------------
# The way between the libraries
# ---------------------------------------------------------------------------------------------------------
def test_arrays_go_to_pytorch_without_a_copy_and_channels_last():
    x = np.zeros((2, 4, 5, 3), np.float32).transpose(0, 3, 1, 2)  # channels-last
    assert to_torch(x).is_contiguous(memory_format=torch.channels_last)
    assert np.shares_memory(to_torch(x).numpy(), x)
    with substitute(TABLE):
        y = F.relu(F.conv2d(Tensor(x), Tensor(np.zeros((5, 3, 3, 3), np.float32))))
    assert y.data.transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("array", [np.broadcast_to(np.float64(2), (2, 3)), np.arange(6.0)[::-1].reshape(2, 3)[:, ::-1],
                                   np.array(1.5), np.zeros((0, 3)), np.arange(3), np.array([True, False])],
                         ids=["read-only", "backwards", "0-d", "empty", "integers", "booleans"])
def test_any_array_goes_to_pytorch(array):
    tensor = to_torch(array)
    assert tuple(tensor.shape) == array.shape and np.array_equal(tensor.numpy(), array)


def test_a_wrong_op_would_be_noticed():
    class Half(Function):
        def forward(ctx, x):
            return x / 2

        def backward(ctx, gy):
            return gy / 2 * (1 + 1e-8)

    twin_of(Half)(lambda x: x / 2)
    twin = TABLE.pop(Half)
    assert issubclass(twin, TorchFunction) and twin.name() == "TorchHalf"
    x, y = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    Half.apply(x).backward(np.ones(3))
    with substitute({Half: twin}):
        Half.apply(y).backward(np.ones(3))
    with pytest.raises(AssertionError, match="gradient"):
        harness.compare([x.grad], [y.grad], 1e-10, "gradient")


def test_an_input_without_influence_gets_zeros():
    class First(Function):
        def forward(ctx, a, b):
            return a * 1

        def backward(ctx, gy):
            return gy, 0 * gy

    twin_of(First)(lambda a, b: a * 1)
    a, b = (Tensor(np.ones(3), requires_grad=True) for _ in range(2))
    with substitute({First: TABLE.pop(First)}):
        First.apply(a, b).backward(np.ones(3))
    assert np.array_equal(b.grad, np.zeros(3))


def test_without_gradients_nothing_is_recorded():
    with substitute(TABLE), minicv.no_grad():
        y = F.relu(Tensor(np.ones(3), requires_grad=True))
    assert y.node is None and np.array_equal(y.data, np.ones(3))
