import numpy as np
import pytest

import minicv
from minicv import Tensor, backend, nn
from minicv.autograd import graph
from minicv.models.summary import summarize
from minicv.optim import SGD
from minicv.training.checkpoint import read_checkpoint, save_checkpoint
from tests.oracle import require
from tests.strict_device import StrictArray


class Scale(nn.Module):
    """A module with a parameter, a buffer and a plain attribute of its own."""

    def __init__(self, channels):
        self.weight = nn.Parameter(np.full(channels, 2, np.float32))
        self.register_buffer("running_mean", np.zeros(channels, np.float32))
        self.register_buffer("num_batches_tracked", np.array(0, np.int64))
        self.eps = 1e-5


class Net(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2d(3, 4, 3, bias=False)
        self.norm = Scale(4)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Sequential(nn.ConvTranspose2d(4, 2, 2)))
        self.branches = nn.ModuleList([nn.Linear(2, 3), nn.Linear(3, 5, bias=False)])
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
    assert [name for name, _ in net.named_buffers()] == BUFFERS
    assert list(net.state_dict()) == NAMES + BUFFERS
    assert [name for name, _ in net.named_modules()] == [
        "", "conv1", "norm", "body", "body.0", "body.1", "body.2", "body.2.0", "branches", "branches.0", "branches.1"]
    # 1 + 3*4*9 + 4 + (4*4*9 + 4) + (4*2*4 + 2) + (2*3 + 3) + 3*5
    assert net.num_parameters() == 1 + 108 + 4 + 148 + 34 + 9 + 15
    assert len(list(net.parameters())) == len(NAMES)


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


@pytest.mark.parametrize(("value", "got"), [
    (None, "NoneType"), ([1.0], "list"), (np.array(["a"]), "<U1"), (np.array([None]), "object")])
def test_a_state_without_numbers_is_named_and_changes_nothing(value, got):
    net = Net()
    before = net.state_dict()
    with pytest.raises(TypeError, match=f"Net.load_state_dict: scale must be an array of numbers, got {got}"):
        net.load_state_dict({**{name: v + 1 for name, v in before.items()}, "scale": value})
    for name, v in net.state_dict().items():
        np.testing.assert_array_equal(v, before[name])


def test_a_state_may_hold_tensors():
    net, other = Net(), Net()
    net.load_state_dict({name: Tensor(v) for name, v in other.state_dict().items()})
    for name, v in net.state_dict().items():
        np.testing.assert_array_equal(v, other.state_dict()[name])


def test_train_and_eval_reach_every_module():
    net = Net()
    assert all(module.training for module in net.modules())
    assert net.eval() is net
    assert not any(module.training for module in net.modules())
    assert net.train() is net
    assert all(module.training for module in net.modules())
    net.body.eval()
    evaluated = [name for name, module in net.named_modules() if not module.training]
    assert evaluated == ["body", "body.0", "body.1", "body.2", "body.2.0"]
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
    with pytest.raises(ValueError, match="'tpu'.*unknown device; use one of .*'cupy'.*'numpy'"):
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
    layers = nn.ModuleList([nn.Linear(1, n) for n in range(1, 13)])
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
    assert backend.current_device() == "numpy"


# ---------------------------------------------------------------------------------------------------------
# Modules and weights in several places
# ---------------------------------------------------------------------------------------------------------
class TiedLayer(nn.Module):
    """One layer under two names."""

    def __init__(self):
        self.a = nn.Linear(2, 2)
        self.b = self.a


class TiedWeight(nn.Module):
    """Two layers with one weight, as an embedding and the output of a language model."""

    def __init__(self):
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)
        self.b.weight = self.a.weight


class Shared(nn.Module):
    """Two layers with one buffer."""

    def __init__(self):
        self.a, self.b = Scale(3), Scale(3)
        self.b.running_mean = self.a.running_mean


class Repeated(nn.Module):
    """One layer twice in a list, and a weight under two names in one module."""

    def __init__(self):
        layer = nn.Linear(2, 2)
        self.list = nn.ModuleList([layer, nn.ReLU(), layer])
        self.first = layer.weight
        self.second = self.first


class Loop(nn.Module):
    """A module whose part holds it."""

    def __init__(self):
        self.weight = nn.Parameter(np.ones(2, np.float32))
        self.part = nn.Sequential(nn.Linear(2, 2))
        self.part.whole = self


TIED = [TiedLayer, TiedWeight, Shared, Repeated, Loop]


def in_torch(torch, make):
    """The same network in PyTorch, with the same ties."""
    class Torch(torch.nn.Module):
        def __init__(self):
            super().__init__()
            t = torch.nn
            if make is TiedLayer:
                self.a = t.Linear(2, 2)
                self.b = self.a
            elif make is TiedWeight:
                self.a, self.b = t.Linear(2, 2), t.Linear(2, 2)
                self.b.weight = self.a.weight
            else:
                layer = t.Linear(2, 2)
                self.first = layer.weight
                self.second = self.first
                self.list = t.ModuleList([layer, t.ReLU(), layer])
    return Torch()


@pytest.mark.parametrize("make", [TiedLayer, TiedWeight, Repeated])
def test_names_of_tied_parameters_are_those_of_pytorch(make):
    theirs, ours = in_torch(require("torch"), make), make()
    own = {name for name, _ in ours.named_parameters()}
    if make is not Repeated:  # there PyTorch lists a module's own parameters before its parts'
        assert own == {name for name, _ in theirs.named_parameters()}
    assert len(own) == len(list(theirs.parameters())) == len(list(ours.parameters()))
    assert ours.num_parameters() == sum(p.numel() for p in theirs.parameters())
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    assert sorted(name for name, _ in ours.named_modules()) == sorted(name for name, _ in theirs.named_modules())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(value, theirs.state_dict()[name].numpy())


@pytest.mark.parametrize("make, parameters, numbers", [
    (TiedLayer, 2, 6), (TiedWeight, 3, 8), (Shared, 2, 6), (Repeated, 2, 6), (Loop, 3, 8)])
def test_what_is_tied_counts_once(make, parameters, numbers):
    net = make()
    assert len(list(net.parameters())) == len({id(p) for p in net.parameters()}) == parameters
    assert net.num_parameters() == numbers
    SGD(net.parameters(), 0.1).step()


def ties(net):
    """Which names stand for one array."""
    arrays = {name: p.data for name, p in net.named_parameters(remove_duplicate=False)}
    arrays |= dict(net.named_buffers(remove_duplicate=False))
    return sorted((a, b) for a in arrays for b in arrays if a < b and arrays[a] is arrays[b])


@pytest.mark.parametrize("make", TIED)
@pytest.mark.parametrize("change", [
    lambda net: net.to("strict"), lambda net: net.to("strict").to("numpy"), lambda net: net.to("numpy"),
    lambda net: net.load_state_dict({name: value + 1 for name, value in net.state_dict().items()}),
    lambda net: net.load_state_dict(net.state_dict()), lambda net: net.eval().train()])
def test_what_is_tied_stays_tied(make, change):
    net = make()
    before = ties(net)
    change(net)
    assert ties(net) == before and (make is Loop or before)


def test_a_state_with_two_values_for_one_weight_is_refused():
    net = TiedWeight()
    before = net.state_dict()
    state = {**before, "b.weight": before["b.weight"] + 1}
    with pytest.raises(ValueError, match="a.weight and b.weight are one array in the model and differ in the state"):
        net.load_state_dict(state)
    np.testing.assert_array_equal(net.a.weight.data, before["a.weight"])
    state = {name: value for name, value in before.items() if name != "b.weight"}
    with pytest.raises(ValueError, match="missing b.weight"):
        net.load_state_dict(state)


@pytest.mark.parametrize("make", TIED)
def test_modes_gradients_and_repr_with_ties(make):
    net = make()
    assert net.eval() is net and not any(module.training for _, module in net.named_modules(remove_duplicate=False))
    with nn.evaluating(net.train()):
        assert not any(module.training for module in net.modules())
    assert all(module.training for module in net.modules())
    for p in net.parameters():
        p.grad = np.ones_like(p.data)
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert repr(net).startswith(make.__name__)


def test_a_module_inside_itself_is_left_out():
    net = Loop()
    assert [name for name, _ in net.named_modules()] == ["", "part", "part.0"]
    assert [name for name, _ in net.named_modules(remove_duplicate=False)] == ["", "part", "part.0"]
    assert list(net.state_dict()) == ["weight", "part.0.weight", "part.0.bias"]
    assert "(whole): ..." in repr(net)


def test_a_tied_weight_gets_the_sum_of_its_gradients():
    net = TiedWeight()
    net.a.weight.data[:], net.a.bias.data[:], net.b.bias.data[:] = [[2, 0], [0, 3]], 0, 0
    net.b(net.a(Tensor([[1.0, 1.0]]))).sum().backward()
    # y = W (W x): dy/dW = (W' 1) x' + 1 (W x)' = [[2, 2], [3, 3]] + [[2, 3], [2, 3]]
    assert net.a.weight.grad.tolist() == [[4, 5], [5, 6]] and net.b.weight.grad is net.a.weight.grad


def test_the_sum_of_a_tied_gradients_parts_is_reported_once():
    net, ready = TiedWeight(), []
    loss = net.b(net.a(Tensor([[1.0, 1.0]]))).sum()
    graph.backward(loss, ready=lambda p: ready.append((p, p.grad.copy())))
    weights = [grad for p, grad in ready if p is net.a.weight]
    assert len(weights) == 1 and np.array_equal(weights[0], net.a.weight.grad) and len(ready) == 3


def test_a_summary_counts_a_tied_layer_once():
    class Net(nn.Module):
        def __init__(self):
            self.a = nn.Conv2d(1, 1, 3, padding=1)
            self.b = self.a

        def forward(self, x):
            return self.b(self.a(x))

    summary = summarize(Net(), (1, 8, 8))
    assert summary.parameters == 10 and [row.parameters for row in summary.rows] == [10, 0]
    assert summary.macs == 2 * 9 * 64


@pytest.mark.parametrize("make", TIED)
def test_a_checkpoint_of_a_model_with_ties(make, tmp_path):
    net, other = make(), make()
    net.build_args = {"model": "tied", "preset": "compact", "options": {}}
    save_checkpoint(tmp_path / "tied.safetensors", net)
    _, _, state = read_checkpoint(tmp_path / "tied.safetensors")
    other.load_state_dict(state)
    assert ties(other) == ties(net) and sorted(state) == sorted(net.state_dict())
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, net.state_dict()[name])


def test_children_and_what_a_module_has_itself():
    net = Net()
    tied = nn.Sequential(net.body, net.body)
    assert list(tied.named_children()) == [("0", net.body)] and list(tied.children()) == [net.body]
    norm = nn.Sequential(nn.BatchNorm2d(3))
    assert [name for name, _ in norm.named_buffers("net")] == ["net.0.running_mean", "net.0.running_var"]
    assert [array.shape for array in norm.buffers()] == [(3,), (3,)] and not list(norm.buffers(recurse=False))
    assert not list(norm.parameters(recurse=False)) and len(list(norm[0].parameters(recurse=False))) == 2
    assert [name for name, _ in norm.named_parameters("net")] == ["net.0.weight", "net.0.bias"]
