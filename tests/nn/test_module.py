import numpy as np
import pytest

import minicv
from minicv import Tensor, backend, nn
from tests.oracle import require
from tests.strict_device import StrictArray


class Scale(nn.Module):
    """A module with a parameter, a buffer and a plain attribute of its own."""

    def __init__(self, channels):
        self.weight = nn.Parameter(np.full(channels, 2, np.float32))
        self.buffer("running_mean", np.zeros(channels, np.float32))
        self.buffer("num_batches_tracked", np.array(0, np.int64))
        self.eps = 1e-5


class Net(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = Scale(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Sequential(nn.ConvTranspose2d(4, 2, 2)))
        self.branches = nn.ModuleList(nn.Linear(2, 3), nn.Linear(3, 5, bias=False))
        self.scale = nn.Parameter(np.ones(1, np.float32))


def torch_net(torch):
    class TorchScale(torch.nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((channels,), 2.0))
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("num_batches_tracked", torch.tensor(0))

    class TorchNet(torch.nn.Module):
        def __init__(self):
            super().__init__()
            t = torch.nn
            self.conv1 = t.Conv2d(3, 4, 3, bias=False)
            self.norm = TorchScale(4)
            self.body = t.Sequential(t.Conv2d(4, 4, 3), t.ReLU(), t.Sequential(t.ConvTranspose2d(4, 2, 2)))
            self.branches = t.ModuleList([t.Linear(2, 3), t.Linear(3, 5, bias=False)])
            self.scale = t.Parameter(torch.ones(1))

    return TorchNet()


NAMES = ["scale", "conv1.weight", "norm.weight", "body.0.weight", "body.0.bias", "body.2.0.weight", "body.2.0.bias",
         "branches.0.weight", "branches.0.bias", "branches.1.weight"]
BUFFERS = ["norm.running_mean", "norm.num_batches_tracked"]


def test_names_of_parameters_and_buffers():
    net = Net()
    assert [name for name, _ in net.named_parameters()] == NAMES
    assert [name for name, _, _ in net.named_buffers()] == BUFFERS
    assert list(net.state_dict()) == NAMES + BUFFERS
    assert [name for name, _ in net.modules()] == [
        "", "conv1", "norm", "body", "body.0", "body.1", "body.2", "body.2.0", "branches", "branches.0", "branches.1"]
    # 1 + 3*4*9 + 4 + (4*4*9 + 4) + (4*2*4 + 2) + (2*3 + 3) + 3*5
    assert net.num_parameters() == 1 + 108 + 4 + 148 + 34 + 9 + 15
    assert len(net.parameters()) == len(NAMES)


def test_names_and_shapes_are_those_of_pytorch():
    theirs = torch_net(require("torch"))
    assert [name for name, _ in theirs.named_parameters()] == [name for name, _ in Net().named_parameters()]
    assert {name: tuple(v.shape) for name, v in theirs.state_dict().items()} == {
        name: v.shape for name, v in Net().state_dict().items()}


def test_a_state_of_pytorch_can_be_loaded():
    state = {name: value.numpy() for name, value in torch_net(require("torch")).state_dict().items()}
    net = Net()
    net.load_state_dict(state)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, state[name])


def test_state_dict_is_a_copy():
    net = Net()
    state = net.state_dict()
    state["conv1.weight"][:] = 7
    state["norm.running_mean"][:] = 7
    assert not (net.conv1.weight.data == 7).any() and not net.norm.running_mean.any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_load_state_dict_takes_a_copy_keeps_dtypes_and_forgets_gradients(dtype):
    net, other = Net(), Net()
    other.norm.running_mean = np.arange(4, dtype=np.float32)
    other.norm.num_batches_tracked = np.array(5)
    state = {name: value.astype(dtype) for name, value in other.state_dict().items()}
    expected = other.state_dict()
    net.scale.grad = np.ones(1, np.float32)
    net.load_state_dict(state)
    for value in state.values():
        value[...] = -1
    assert net.scale.grad is None
    for name, value in net.state_dict().items():
        assert value.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(value, expected[name])


def unexpected(state):
    state["head.bias"] = np.zeros(2)
    state["a"] = np.zeros(1)


def several(state):
    unexpected(state)
    del state["scale"]
    state["branches.1.weight"] = state["branches.1.weight"].T


@pytest.mark.parametrize(("change", "message"), [
    (lambda s: s.pop("scale"), "missing scale"),
    (lambda s: (s.pop("body.0.bias"), s.pop("norm.running_mean")), "missing body.0.bias, norm.running_mean"),
    (unexpected, "unexpected a, head.bias"),
    (lambda s: s.update(scale=np.zeros(2)), "scale: (2,) in the state, (1,) in the model"),
    (lambda s: s.update({"norm.running_mean": np.zeros((4, 1))}),
     "norm.running_mean: (4, 1) in the state, (4,) in the model"),
    (several, "missing scale; unexpected a, head.bias; branches.1.weight: (3, 5) in the state, (5, 3) in the model"),
    (lambda s: s.update({name: np.zeros((9, 9)) for name in s}),
     "; ".join(f"{name}: (9, 9) in the state, {value.shape} in the model"
               for name, value in list(Net().state_dict().items())[:5]) + "; and 7 more"),
])
def test_a_state_that_does_not_fit_is_named_and_changes_nothing(change, message):
    net = Net()
    before = net.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    change(state)
    with pytest.raises(ValueError) as error:
        net.load_state_dict(state)
    assert str(error.value) == f"Net.load_state_dict: the state does not fit the model: {message}"
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(module.training for _, module in net.modules())
    assert net.eval() is net
    assert not any(module.training for _, module in net.modules())
    assert net.train() is net
    assert all(module.training for _, module in net.modules())
    net.body.eval()
    assert [name for name, module in net.modules() if not module.training] == ["body", "body.0", "body.1", "body.2",
                                                                              "body.2.0"]
    assert Net().training  # the mode belongs to the instance


def test_zero_grad():
    net = Net()
    net.conv1(Tensor(np.ones((1, 3, 3, 3), np.float32))).sum().backward()
    assert net.conv1.weight.grad is not None
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_to_moves_parameters_and_buffers_and_forgets_gradients():
    net = Net()
    before = net.state_dict()
    net.conv1.weight.grad = np.ones_like(net.conv1.weight.data)
    assert net.to("strict") is net
    assert all(p.device == "strict" and p.grad is None for p in net.parameters())
    assert isinstance(net.norm.running_mean, StrictArray)
    state = net.state_dict()
    assert all(type(value) is np.ndarray for value in state.values())  # also from a GPU: NumPy arrays
    net.load_state_dict({name: value + 1 for name, value in state.items()})
    assert net.scale.device == "strict" and isinstance(net.norm.running_mean, StrictArray)
    net.to("numpy")
    assert type(net.scale.data) is np.ndarray and type(net.norm.running_mean) is np.ndarray
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name] + 1)


def test_to_an_unknown_device():
    with pytest.raises(ValueError, match="'tpu'.*no such device; there are .*'cupy'.*'numpy'"):
        Net().to("tpu")


def test_new_parameters_are_made_on_the_device_in_use():
    minicv.use("strict")
    try:
        net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2))
    finally:
        minicv.use("numpy")
    assert {p.device for p in net.parameters()} == {"strict"}
    minicv.seed(3)
    here = nn.Linear(4, 4).state_dict()
    minicv.use("strict")
    try:
        minicv.seed(3)
        there = nn.Linear(4, 4).state_dict()
    finally:
        minicv.use("numpy")
    np.testing.assert_array_equal(here["weight"], there["weight"])  # a seed gives the same numbers on any device


def test_a_parameter_is_a_float_leaf_that_requires_a_gradient():
    p = nn.Parameter(np.zeros(2))
    assert p.requires_grad and p.node is None and p.dtype == np.float64 and isinstance(p, Tensor)
    with pytest.raises(TypeError, match="dtype is int64, and only floats have gradients"):
        nn.Parameter(np.zeros(2, np.int64))


def test_repr():
    assert repr(Net()) == """\
Net(
  (conv1): Conv2d((4, 3, 3, 3), stride=1, padding=0, dilation=1)
  (norm): Scale()
  (body): Sequential(
    (0): Conv2d((4, 4, 3, 3), stride=1, padding=0, dilation=1)
    (1): ReLU()
    (2): Sequential(
      (0): ConvTranspose2d((4, 2, 2, 2), stride=1, padding=0)
    )
  )
  (branches): ModuleList(
    (0): Linear((3, 2))
    (1): Linear((5, 3))
  )
)"""


def test_sequential_runs_its_modules_in_order():
    double, shift = nn.Linear(1, 1), nn.Linear(1, 1)
    double.weight.data[:], shift.weight.data[:], shift.bias.data[:] = 2, 1, -3
    body = nn.Sequential(double, shift, nn.ReLU())
    # (2x, then -3, then max(., 0)); in another order 5 would give 2 (5 - 3) = 4
    np.testing.assert_array_equal(body(Tensor([[5.0], [1.0]])).numpy(), [[7], [0]])
    assert len(body) == 3 and body[1] is shift and body[-1] is list(body)[2]


def test_module_list_keeps_more_than_ten_modules_in_order():
    layers = nn.ModuleList(*(nn.Linear(1, n) for n in range(1, 13)))
    assert [layer.weight.shape[0] for layer in layers] == list(range(1, 13))
    assert layers[11] is list(layers)[11]


def test_modules_without_a_forward():
    with pytest.raises(TypeError, match="Scale has no forward"):
        Scale(2)(1)
    with pytest.raises(TypeError, match="ModuleList has no forward: call its modules"):
        nn.ModuleList()(1)


def test_call_passes_keywords_on():
    class Add(nn.Module):
        def forward(self, x, y=1):
            return x + y

    assert Add()(2) == 3 and Add()(2, y=5) == 7


def test_the_test_device_is_not_left_in_use():
    assert backend.current() == "numpy"
