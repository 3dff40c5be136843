import copy
import pickle

import numpy as np
import pytest

from minicv import Tensor, backend, nn
from minicv.optim import SGD, Adam, LambdaLR, Optimizer, constant, cosine, multistep, poly, steps, warmup
from tests import strict_device  # noqa: F401 - makes the device "strict" known
from tests.oracle import require

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((12, 4)), RNG.standard_normal((12, 2))
W, B, GAIN = RNG.standard_normal((4, 2)), RNG.standard_normal(2), RNG.standard_normal(2)


def parameters(make):
    """W, B and GAIN of |(X W + B) GAIN - Y|^2, and one that the loss does not use: it never has a gradient."""
    return [make(a.copy()) for a in (W, B, GAIN, np.ones(3))]


def leaf(array):
    return Tensor(array, requires_grad=True)


def loss(params, x, y):
    w, b, gain, _ = params
    e = (x @ w + b) * gain - y
    return (e * e).sum()


def run(optimizer, params, count=20, start=0):
    """``count`` steps, each on another half of the rows; the values of all parameters after every step."""
    seen = []
    for step in range(start, start + count):
        rows = slice(step % 3, 12, 2)
        optimizer.zero_grad()
        loss(params, Tensor(X[rows]), Tensor(Y[rows])).backward()
        optimizer.step()
        seen.append(np.concatenate([p.data.ravel() for p in params]))
    return np.array(seen)


def run_torch(torch, make, count=20):
    params = parameters(lambda a: torch.tensor(a, requires_grad=True))
    optimizer = make(torch.optim, params)
    seen = []
    for step in range(count):
        rows = slice(step % 3, 12, 2)
        optimizer.zero_grad()
        loss(params, torch.tensor(X[rows]), torch.tensor(Y[rows])).backward()
        optimizer.step()
        seen.append(np.concatenate([p.detach().numpy().ravel() for p in params]))
    return np.array(seen)


class Ours:
    SGD, Adam = SGD, Adam


@pytest.mark.parametrize("make", [
    lambda o, p: o.SGD(p, lr=0.01),
    lambda o, p: o.SGD(p, lr=0.003, momentum=0.9),
    lambda o, p: o.SGD(p, lr=0.01, weight_decay=0.1),
    lambda o, p: o.SGD(p, lr=0.003, momentum=0.9, weight_decay=0.1),
    lambda o, p: o.SGD([{"params": p[:1], "lr": 0.001}, {"params": p[1:], "momentum": 0.5, "weight_decay": 0.2}],
                       lr=0.004, momentum=0.9),
    lambda o, p: o.Adam(p),
    lambda o, p: o.Adam(p, lr=0.1, betas=(0.7, 0.9), eps=1e-3),
    lambda o, p: o.Adam(p, lr=0.02, weight_decay=0.3),
    lambda o, p: o.Adam([{"params": p[:2], "lr": 0.1}, {"params": p[2:], "betas": (0.5, 0.8)}], lr=0.02),
], ids=["sgd", "momentum", "weight decay", "both", "sgd groups", "adam", "adam betas eps", "adam weight decay",
        "adam groups"])
def test_equals_pytorch_over_20_steps(make):
    expected = run_torch(require("torch"), make)
    params = parameters(leaf)
    actual = run(make(Ours, params), params)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)
    assert abs(actual[-1] - actual[0]).max() > 1e-3  # something was trained
    np.testing.assert_array_equal(actual[:, -3:], 1)  # without a gradient, not even weight decay moves it


def test_sgd_by_hand():
    p = leaf(np.array([1.0, 2.0]))
    sgd = SGD([p], lr=0.1, momentum=0.5, weight_decay=0.2)
    p.grad = np.array([1.0, -1.0])
    sgd.step()
    # g = (1, -1) + 0.2 (1, 2) = (1.2, -0.6), v = g, p = (1, 2) - 0.1 v
    np.testing.assert_allclose(p.data, [0.88, 2.06], rtol=1e-15)
    p.grad = np.array([1.0, -1.0])
    sgd.step()
    # g = (1, -1) + 0.2 (0.88, 2.06) = (1.176, -0.588); v = 0.5 (1.2, -0.6) + g = (1.776, -0.888); p - 0.1 v
    np.testing.assert_allclose(p.data, [0.7024, 2.1488], rtol=1e-15)


def test_adam_by_hand():
    p = leaf(np.array([1.0, 1.0, 1.0]))
    adam = Adam([p], lr=0.1, eps=0.0)
    p.grad = np.array([2.0, -0.001, 3.0])
    adam.step()
    # In the first step m_hat = g and v_hat = g^2, so each coordinate moves by lr against its sign, however large g is.
    np.testing.assert_allclose(p.data, [0.9, 1.1, 0.9], rtol=1e-14)
    p.grad = np.array([2.0, -0.001, -3.0])
    adam.step()
    # Third: m_hat = (0.1 * 0.9 * 3 - 0.1 * 3) / (1 - 0.81) = -0.03 / 0.19, v_hat = 9; 0.9 + 0.1 * (0.03 / 0.19) / 3
    np.testing.assert_allclose(p.data, [0.8, 1.2, 0.9 + 0.001 / 0.19], rtol=1e-14)


def test_steps_keep_float32_and_leave_the_old_array_alone():
    def by_hand(p):
        sgd = SGD(p, 0.1)
        sgd.param_groups[0]["lr"] = np.float64(0.2)
        return sgd

    ours, point1 = np.float64(0.9), np.float64(0.1)  # beside which NumPy would make float64 of float32
    for make in (lambda p: SGD(p, 0.1, 0.9, 0.1), lambda p: Adam(p, 0.1, weight_decay=0.1), by_hand,
                 lambda p: SGD(p, point1, ours, point1), lambda p: Adam(p, point1, (ours, ours), point1, point1)):
        p = leaf(np.ones(3, np.float32))
        before, gradient = p.data, np.full(3, 2, np.float32)
        optimizer = make([p])
        for _ in range(3):
            p.grad = gradient
            optimizer.step()
        assert p.dtype == np.float32 and all(v.dtype == np.float32 for v in optimizer.state[0].values()
                                             if hasattr(v, "dtype"))
        assert (before == 1).all() and (gradient == 2).all() and (p.data != 1).all()


@pytest.mark.parametrize("make, error, message", [
    (lambda p: SGD([np.ones(2)], 0.1), TypeError, r"SGD\(params\): parameters are Tensors of floats, got ndarray"),
    (lambda p: SGD([Tensor(np.ones(2, int))], 0.1), TypeError, r"SGD\(params\): .* floats, got one of int64"),
    (lambda p: SGD(p, float("nan")), ValueError, r"SGD\(lr=nan\): must be a finite number and must not be negative"),
    (lambda p: SGD(p, "fast"), ValueError, r"SGD\(lr='fast'\): must be a finite number"),
    (lambda p: SGD(p, 0.1, momentum=-1), ValueError, r"SGD\(momentum=-1\): must be a finite number"),
    (lambda p: Adam(p, betas=(0.9, 1.0)), ValueError, r"Adam\(betas=\(0.9, 1.0\)\): must be two numbers .* below 1"),
    (lambda p: Adam(p, betas=0.9), ValueError, r"Adam\(betas=0.9\): must be two numbers"),
    (lambda p: SGD([{"params": p}, leaf(np.ones(2))], 0.1), TypeError, r"SGD\(params\): pass a list of Tensors, or"),
    (lambda p: SGD([{"params": p[0]}], 0.1), TypeError, r"SGD\(params\): pass .* dicts with such a list as 'params'"),
    (lambda p: SGD([{"lr": 1}], 0.1), TypeError, r"SGD\(params\): pass a list of Tensors, or of dicts"),
    (lambda p: SGD([p[0] * 2], 0.1), ValueError, r"SGD\(params\): a parameter \(2,\) is the result of Mul"),
    (lambda p: SGD([{"params": p, "rate": 1}], 0.1), ValueError, "a group has no option rate; it has lr, momentum"),
])
def test_what_cannot_work_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make([leaf(np.ones(2))])


def test_zero_grad_forgets_and_a_step_without_gradients_changes_nothing():
    p, q = leaf(np.ones(2)), leaf(np.ones(2))
    sgd = SGD([{"params": [p]}, {"params": [q]}], lr=1.0, momentum=0.9)
    p.grad, q.grad = np.ones(2), np.ones(2)
    sgd.zero_grad()
    assert p.grad is None and q.grad is None
    sgd.step()
    np.testing.assert_array_equal([p.data, q.data], 1)


def test_params_may_be_any_iterable():
    layer = nn.Linear(2, 2)
    assert SGD((p for p in layer.parameters()), lr=1.0).param_groups[0]["params"] == list(layer.parameters())


# --------------------------------------------------------------------------------------------- going on from a state

@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.003, 0.9, 0.1), lambda p: Adam(p, 0.05)], ids=["sgd", "adam"])
def test_continuing_from_a_state_is_continuing(make):
    params = parameters(leaf)
    whole = run(make(params), params, 20)

    params = parameters(leaf)
    first = make(params)
    run(first, params, 8)
    state = copy.deepcopy(first.state_dict())
    again = [leaf(p.data.copy()) for p in params]
    second = make(again)
    second.load_state_dict(state)
    for value in state.values():
        if hasattr(value, "shape"):
            value[...] = np.nan  # the optimizer has its own copy
    np.testing.assert_array_equal(run(second, again, 12, start=8), whole[8:])


def test_state_dict_names_parameters_by_number():
    p, q = leaf(np.ones((2, 3))), leaf(np.ones(2))
    adam = Adam([{"params": [p]}, {"params": [q]}])
    assert adam.state_dict() == {}
    q.grad = np.ones(2)
    adam.step()
    state = adam.state_dict()
    assert sorted(state) == ["1.m", "1.t", "1.v"] and state["1.t"] == 1
    state["1.m"][:] = 5
    assert (adam.state[1]["m"] != 5).all()


def test_state_goes_to_the_device_of_its_parameter():
    p = leaf(np.ones(2))
    sgd = SGD([p], 0.1, 0.9)
    p.grad = np.ones(2)
    sgd.step()
    state = sgd.state_dict()
    assert type(state["0.v"]) is np.ndarray
    there = leaf(backend.to_device(np.ones(2), "strict"))
    other = SGD([there], 0.1, 0.9)
    other.load_state_dict(state)
    there.grad = backend.to_device(np.ones(2), "strict")
    other.step()  # 1 - 0.1 (0.9 * 1 + 1)
    np.testing.assert_allclose(there.numpy(), 0.81)
    assert type(other.state_dict()["0.v"]) is np.ndarray


@pytest.mark.parametrize(("saved", "message"), [
    ({"0.v": np.ones((2, 3)), "7.v": np.ones(2)}, "SGD.load_state_dict: 7.v: there are 2 parameters"),
    ({"0.v": np.ones((2, 3)), "-1.v": np.ones(2)}, "SGD.load_state_dict: -1.v: there are 2 parameters"),
    ({"v": np.ones(2)}, "SGD.load_state_dict: v: there are 2 parameters"),
    ({"0.m": np.ones((2, 3)), "0.t": 1}, "0.m is of another optimizer; this one remembers v"),
    ({"0.v": np.ones((2, 3)), "1.v": np.ones((1, 2))},
     r"SGD.load_state_dict: 1.v has shape \(1, 2\), parameter 1 has \(2,\)"),
])
def test_a_state_of_other_parameters_changes_nothing(saved, message):
    sgd = SGD([leaf(np.ones((2, 3))), leaf(np.ones(2))], 0.1, 0.9)
    for p in sgd.param_groups[0]["params"]:
        p.grad = np.full(p.shape, 4.0)
    sgd.step()
    with pytest.raises(ValueError, match=message):
        sgd.load_state_dict(saved)
    state = sgd.state_dict()
    assert sorted(state) == ["0.v", "1.v"] and (state["0.v"] == 4).all()


# ------------------------------------------------------------------------------------------------- memory and copies

OPTIMIZERS = [lambda p: SGD(p, 0.1), lambda p: SGD(p, 0.1, 0.9), lambda p: SGD(p, 0.1, 0.9, 0.01),
              lambda p: Adam(p, 0.1), lambda p: Adam(p, 0.1, weight_decay=0.01)]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_gradient_that_is_written_to_after_a_step_changes_nothing_else(make):
    def train(spoil):
        p = leaf(np.array([1.0, 2.0]))
        optimizer = make([p])
        for step in range(3):
            p.grad = np.array([3.0, -1.0]) * (step + 1)
            optimizer.step()
            if spoil:
                p.grad[:] = 0  # what PyTorch's zero_grad(set_to_none=False) does
            assert not any(np.shares_memory(p.grad, v) for v in optimizer.state[0].values() if hasattr(v, "shape"))
            assert not np.shares_memory(p.grad, p.data)
        return p.data
    np.testing.assert_array_equal(train(True), train(False))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_step_of_the_first_buffer_keeps_the_weights_order_in_memory(make):
    p = leaf(np.ones((3, 4)).T)
    optimizer = make([p])
    p.grad = np.ones((3, 4)).T
    optimizer.step()
    assert all(v.strides == p.data.strides for v in optimizer.state[0].values() if hasattr(v, "shape"))


@pytest.mark.parametrize("make", [
    lambda o, p: o.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.01),
    lambda o, p: o.Adam(p, lr=0.01, weight_decay=0.01),
])
def test_equals_pytorch_over_500_steps(make):
    expected = run_torch(require("torch"), make, 500)
    params = parameters(leaf)
    actual = run(make(Ours, params), params, 500)
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9)


def test_a_tied_weight_is_stepped_once_as_in_pytorch():
    class Tied(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    torch = require("torch")
    net, w = Tied(), np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
    net.a.weight.data = w.copy()
    weight = torch.tensor(w, requires_grad=True)
    ours, theirs = SGD(net.parameters(), 0.1, 0.9), torch.optim.SGD([weight], 0.1, 0.9)
    for _ in range(5):
        x = np.array([[1.0, 2.0]], np.float32)
        ours.zero_grad()
        theirs.zero_grad()
        net(Tensor(x)).sum().backward()
        (torch.tensor(x) @ weight.T @ weight.T).sum().backward()
        ours.step()
        theirs.step()
    np.testing.assert_allclose(net.b.weight.data, weight.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("grad, got", [
    (1.0, "got float"), (np.ones(3), r"got float64 \(3,\)"), (np.ones(2, np.float32), "got float32"),
    (Tensor(np.ones(2)), "got Tensor"), (backend.to_device(np.ones(2), "strict"), "on strict")])
def test_a_gradient_of_another_kind_is_refused(grad, got):
    p = leaf(np.ones(2))
    p.grad = grad
    with pytest.raises(TypeError, match=rf"SGD.step: the .grad of a parameter float64 \(2,\) on numpy .*{got}"):
        SGD([p], 0.1).step()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@pytest.mark.parametrize("schedule", [
    constant(), poly(10), steps(2), multistep([1, 3]), cosine(10), warmup(3, multistep([4]), 0.1)])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_model_with_its_optimizer_and_schedule_can_be_copied(copied, schedule, make):
    def go_on(net, schedule):
        optimizer = schedule.optimizer
        for _ in range(3):
            optimizer.zero_grad()
            net(Tensor(X[:, :4].astype(np.float32))).sum().backward()
            optimizer.step()
            schedule.step()
        return net.state_dict()

    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    plan = LambdaLR(make(net.parameters()), schedule)
    go_on(net, plan)
    other, other_plan = copied((net, plan))
    assert other_plan.optimizer.param_groups[0]["params"][0] is other[0].weight and other_plan.last_epoch == 3
    before = other.state_dict()
    expected = go_on(net, plan)
    for name, value in other.state_dict().items():
        np.testing.assert_array_equal(value, before[name])  # memory of its own
    for name, value in go_on(other, other_plan).items():
        np.testing.assert_array_equal(value, expected[name])


# --------------------------------------------------------------------------------------------------------- schedules

def rates(factor, count, lr=1.0):
    optimizer = SGD([leaf(np.ones(1))], lr=lr)
    schedule = LambdaLR(optimizer, factor)
    seen = []
    for _ in range(count):
        seen.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return seen


def test_constant():
    assert rates(constant(), 3, lr=0.3) == [0.3, 0.3, 0.3]


def test_poly():
    # (1 - t/4)^0.9: 1, 0.75^0.9, 0.5^0.9, 0.25^0.9, then 0, also past the end
    expected = [1, 0.771890, 0.535887, 0.287175, 0, 0]
    np.testing.assert_allclose(rates(poly(4), 6), expected, rtol=1e-5)
    np.testing.assert_allclose(rates(poly(4, power=1), 3, lr=2.0), [2, 1.5, 1])


def test_steps():
    np.testing.assert_allclose(rates(steps(2), 5), [1, 1, 0.1, 0.1, 0.01])
    np.testing.assert_allclose(rates(steps(1, gamma=0.5), 4, lr=8.0), [8, 4, 2, 1])


def test_cosine():
    # (1 + cos(pi t / 4)) / 2 with cos(pi/4) = 0.707107: then it stays at 0
    np.testing.assert_allclose(rates(cosine(4), 6), [1, 0.853553, 0.5, 0.146447, 0, 0], rtol=1e-5, atol=1e-15)


def test_warmup():
    np.testing.assert_allclose(rates(warmup(4, constant()), 6), [0.25, 0.5, 0.75, 1, 1, 1])
    # times the schedule below: 1/2 * 1, 1 * 0.75, 1 * 0.5
    np.testing.assert_allclose(rates(warmup(2, poly(4, power=1)), 3), [0.5, 0.75, 0.5])
    assert rates(warmup(0, constant()), 2) == [1, 1]


def test_a_schedule_keeps_the_ratio_of_the_groups():
    optimizer = SGD([{"params": [leaf(np.ones(1))], "lr": 10.0}, {"params": [leaf(np.ones(1))]}], lr=1.0)
    schedule = LambdaLR(optimizer, steps(1))
    schedule.step()
    np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], [1.0, 0.1])


def test_a_new_schedule_starts_from_the_first_rate():
    optimizer = SGD([leaf(np.ones(1))], lr=1.0)
    LambdaLR(optimizer, steps(1)).step()
    LambdaLR(optimizer, constant())
    assert optimizer.param_groups[0]["lr"] == 1


# ------------------------------------------------------------------------------------------------------------ errors

P = leaf(np.ones((2, 3)))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: SGD([], lr=0.1), ValueError, r"SGD\(params\): got no parameters"),
    (lambda: Adam([{"params": []}, {"params": []}]), ValueError, r"Adam\(params\): got no parameters"),
    (lambda: SGD([P], lr=-0.1), ValueError, r"SGD\(lr=-0.1\): must be a finite number and must not be negative"),
    (lambda: Adam([{"params": [P], "lr": -1}]), ValueError, r"Adam\(lr=-1\): must .* must not be negative"),
    (lambda: SGD(P, lr=0.1), TypeError, r"SGD\(params\): got one Tensor of shape \(2, 3\); pass a list, as in \[te"),
    (lambda: SGD([{"params": [P]}, {"params": [P]}], lr=0.1), ValueError, r"SGD\(params\): a parameter occurs twice"),
    (lambda: poly(0), ValueError, r"poly\(total_iters=0\): must be at least 1, a number of steps"),
    (lambda: steps(0), ValueError, r"steps\(step_size=0\): must be at least 1"),
    (lambda: poly(5, -1), ValueError, r"poly\(power=-1\): must be a finite number of at least 0"),
    (lambda: steps(5, np.nan), ValueError, r"steps\(gamma=nan\): must be a finite number"),
    (lambda: multistep([5], -0.1), ValueError, r"multistep\(gamma=-0.1\): must be a finite number of at least 0"),
    (lambda: warmup(5, constant(), np.inf), ValueError, r"warmup\(start=inf\): must be a finite number"),
    (lambda: cosine(-3), ValueError, r"cosine\(total_iters=-3\): must be at least 1"),
])
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_an_optimizer_without_an_update():
    optimizer = Optimizer([leaf(np.ones(1))], lr=1.0)
    optimizer.param_groups[0]["params"][0].grad = np.ones(1)
    with pytest.raises(TypeError, match="Optimizer has no update"):
        optimizer.step()


@pytest.mark.parametrize("make", [lambda p: SGD(p, lr=0.25, momentum=0.5), lambda p: Adam(p, lr=0.25)])
def test_float16_parameters_are_moved_as_float32_would_be(make):
    start, gradients = np.array([1.0, 2.0, 4.0]), np.array([0.0, 1e-4, -3.0])
    moved = {}
    for dtype in (np.float16, np.float32):
        p = Tensor(start.astype(dtype), requires_grad=True)
        optimizer = make([p])
        for _ in range(3):
            p.grad = gradients.astype(np.float16).astype(dtype)
            optimizer.step()
        again = make([p])
        again.load_state_dict(optimizer.state_dict())
        remembered = {v.dtype.name for v in again.state[0].values() if hasattr(v, "dtype")}
        assert p.dtype == dtype and remembered == {"float32"}
        moved[dtype] = p.data.astype(float)
    np.testing.assert_allclose(moved[np.float16], moved[np.float32], rtol=2e-3)  # 0 / (0 + 1e-8) is no NaN either
