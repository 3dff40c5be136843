"""Cross entropy and nll_loss: values by hand, weights and ignored pixels, PyTorch's numbers, errors."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicv import Tensor
from minicv.ops.loss import cross_entropy, nll_loss
from minicv.ops.softmax import log_softmax
from tests.oracle import require

# Two pixels with scores (0, log 3): p = (1/4, 3/4). Their targets are 1 and 0, their losses log 4/3 and log 4.
SCORES = np.array([[0.0, np.log(3.0)], [0.0, np.log(3.0)]])
TARGET = np.array([1, 0])
A, B = np.log(4 / 3), np.log(4.0)


def run(**options):
    """Loss and gradient for SCORES."""
    x = Tensor(SCORES, requires_grad=True)
    options.setdefault("target", TARGET)
    loss = cross_entropy(x, **options)
    loss.backward(np.ones(loss.shape))
    return loss.data, x.grad


def test_mean_sum_and_none():
    loss, grad = run()
    np.testing.assert_allclose(loss, (A + B) / 2, rtol=1e-15)
    np.testing.assert_allclose(grad, [[1 / 8, -1 / 8], [-3 / 8, 3 / 8]], rtol=1e-14)  # (p - onehot) / 2
    np.testing.assert_allclose(run(reduction="sum")[0], A + B, rtol=1e-15)
    np.testing.assert_allclose(run(reduction="none")[0], [A, B], rtol=1e-15)


def test_class_weights_divide_the_mean():
    loss, grad = run(weight=np.array([2.0, 1.0]))
    np.testing.assert_allclose(loss, (A + 2 * B) / 3, rtol=1e-15)
    np.testing.assert_allclose(grad, [[1 / 12, -1 / 12], [-1 / 2, 1 / 2]], rtol=1e-14)  # w_t (p - onehot) / 3


def test_pixel_weights_are_unets_and_divide_the_mean():
    weights = np.array([1.0, 3.0])
    np.testing.assert_allclose(run(pixel_weight=weights, reduction="sum")[0], A + 3 * B, rtol=1e-15)  # U-Net, eq. (1)
    np.testing.assert_allclose(run(pixel_weight=weights)[0], (A + 3 * B) / 4, rtol=1e-15)
    np.testing.assert_allclose(run(pixel_weight=np.full(2, 7.0))[0], run()[0], rtol=1e-15)
    both = run(pixel_weight=weights, weight=np.array([2.0, 1.0]))[0]
    np.testing.assert_allclose(both, (1 * 1 * A + 3 * 2 * B) / (1 * 1 + 3 * 2), rtol=1e-15)


def test_ignored_pixels_do_not_count():
    loss, grad = run(target=np.array([1, -100]))
    np.testing.assert_allclose(loss, A, rtol=1e-15)
    np.testing.assert_allclose(grad, [[1 / 4, -1 / 4], [0, 0]], atol=1e-15)
    loss, _ = run(target=np.array([255, 0], np.uint8), ignore_index=255, reduction="none")
    np.testing.assert_allclose(loss, [0, B], rtol=1e-15)
    loss, _ = run(target=np.array([1, 0]), ignore_index=1)  # a class may be ignored, too
    np.testing.assert_allclose(loss, B, rtol=1e-15)


def test_an_ignored_pixel_may_have_infinite_scores():
    scores = np.array([[-np.inf, 0.0], [0.0, 0.0]])
    assert cross_entropy(Tensor(scores), np.array([-100, 0]), reduction="sum").item() == np.log(2.0)
    assert cross_entropy(Tensor(scores), np.array([-100, 0]), label_smoothing=0.5).item() == np.log(2.0)
    assert nll_loss(Tensor(scores - 1), np.array([-100, 0]), reduction="sum").item() == 1


def test_nothing_counts():
    loss, grad = run(target=np.array([-100, -100]))
    assert np.isnan(loss)
    np.testing.assert_array_equal(grad, 0)
    loss, grad = run(target=np.array([-100, -100]), reduction="sum")
    assert loss == 0
    assert np.isnan(cross_entropy(Tensor(np.zeros((0, 3))), np.zeros(0, int)).item())


def test_label_smoothing():
    # s = 0.2: targets become (0.1, 0.9) and (0.9, 0.1)
    loss, grad = run(label_smoothing=0.2, reduction="none")
    np.testing.assert_allclose(loss, [0.9 * A + 0.1 * B, 0.1 * A + 0.9 * B], rtol=1e-14)
    np.testing.assert_allclose(grad, [[0.15, -0.15], [-0.65, 0.65]], rtol=1e-14)  # p - q


def test_scores_far_apart():
    x = Tensor(np.array([[0, 2000], [1e4, 1e4 + 1]], np.float32), requires_grad=True)
    loss = cross_entropy(x, np.array([0, 1]), reduction="none")
    # log(1 + exp(-1)) = 0.313262; the scores are exact in float32, so its rounding is all that is lost
    np.testing.assert_allclose(loss.data, np.float32([2000, np.log1p(np.exp(-1))]), rtol=1e-6)
    loss.backward(np.ones(2, np.float32))
    assert np.isfinite(x.grad).all()


def test_class_probabilities():
    loss, grad = run(target=np.array([[0.5, 0.5], [1.0, 0.0]]), reduction="none")
    np.testing.assert_allclose(loss, [(A + B) / 2, B], rtol=1e-15)
    np.testing.assert_allclose(grad, [[-0.25, 0.25], [-0.75, 0.75]], rtol=1e-14)  # p - q
    of_numbers = run(target=TARGET, label_smoothing=0.3)
    of_probabilities = run(target=np.eye(2)[TARGET], label_smoothing=0.3)
    for a, b in zip(of_numbers, of_probabilities, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    loss, _ = run(target=np.eye(2)[TARGET], weight=np.array([2.0, 1.0]))  # the mean is over pixels, as PyTorch's
    np.testing.assert_allclose(loss, (A + 2 * B) / 2, rtol=1e-15)
    weights = np.array([1.0, 3.0])
    np.testing.assert_allclose(run(target=np.eye(2)[TARGET], pixel_weight=weights)[0], (A + 3 * B) / 4, rtol=1e-15)
    impossible = Tensor(np.array([[-np.inf, 0.0]]), requires_grad=True)
    loss = cross_entropy(impossible, np.array([[0.0, 1.0]]))
    loss.backward()
    assert loss.item() == 0 and impossible.grad.tolist() == [[0, 0]]  # 0 log 0 = 0


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_class_probabilities_are_pytorchs(data):
    torch = require("torch")
    shape = data.draw(st.sampled_from([(4,), (3, 4), (2, 3, 5), (2, 4, 2, 3), (0, 2, 3), (2, 1, 3)]), label="shape")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    K = shape[min(1, len(shape) - 1)]
    weight = rng.uniform(0, 2, K) * (rng.random(K) < 0.8) if data.draw(st.booleans(), label="weights") else None
    options = {"reduction": data.draw(st.sampled_from(["mean", "sum", "none"])),
               "label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0]))}
    scores, q = rng.normal(0, 2, shape), rng.uniform(0, 1, shape)
    x, t = (Tensor(a, requires_grad=True) for a in (scores, q))
    u, v = (torch.tensor(a, requires_grad=True) for a in (scores, q))
    y = cross_entropy(x, t, weight, **options)
    z = torch.nn.functional.cross_entropy(u, v, None if weight is None else torch.tensor(weight), **options)
    np.testing.assert_allclose(y.data, z.detach().numpy(), rtol=1e-12, atol=1e-13)
    cotangent = np.asarray(rng.normal(size=y.shape))
    y.backward(cotangent)
    z.backward(torch.tensor(cotangent))
    for ours, theirs in ((x, u), (t, v)):
        np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), atol=1e-13)


def test_cross_entropy_is_nll_of_log_softmax():
    x, t = Tensor(np.random.default_rng(0).normal(size=(3, 5, 2))), np.array([[0, 4], [2, 2], [1, 3]])
    np.testing.assert_allclose(nll_loss(log_softmax(x, 1), t).data, cross_entropy(x, t).data, rtol=1e-14)


@settings(deadline=None, max_examples=120)
@given(st.data())
def test_pytorch_agrees(data):
    torch = require("torch")
    functional = torch.nn.functional
    N, K = data.draw(st.integers(0, 3), label="N"), data.draw(st.integers(1, 5), label="K")
    d = data.draw(st.lists(st.integers(1, 4), max_size=2), label="d")
    single = not d and data.draw(st.booleans(), label="one image without N")
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    target = rng.integers(0, K, () if single else (N, *d))
    ignore_index = data.draw(st.sampled_from([-100, 0, 255]), label="ignore_index")
    if data.draw(st.booleans(), label="ignored pixels"):
        target = np.where(rng.random(target.shape) < 0.4, ignore_index, target)
    weight = rng.uniform(0.1, 2, K) if data.draw(st.booleans(), label="weights") else None
    options = {"ignore_index": ignore_index, "reduction": data.draw(st.sampled_from(["mean", "sum", "none"]))}
    smoothing = {"label_smoothing": data.draw(st.sampled_from([0.0, 0.1, 1.0]))}
    scores = rng.normal(0, 2, (K,) if single else (N, K, *d))
    nothing_counts = not (target != ignore_index).any()
    for op, theirs, more in ((cross_entropy, functional.cross_entropy, smoothing), (nll_loss, functional.nll_loss, {})):
        x, t = Tensor(scores, requires_grad=True), torch.tensor(scores, requires_grad=True)
        y = op(x, target, weight, **options, **more)
        u = theirs(t, torch.tensor(target), None if weight is None else torch.tensor(weight), **options, **more)
        np.testing.assert_allclose(y.data, u.detach().numpy(), rtol=1e-11, atol=1e-11)
        cotangent = rng.normal(size=y.shape)
        y.backward(np.asarray(cotangent))
        u.backward(torch.tensor(cotangent))
        if nothing_counts:  # PyTorch's gradient is 0 or nan, depending on the arguments
            np.testing.assert_array_equal(x.grad, 0)
        else:
            np.testing.assert_allclose(x.grad, t.grad.numpy(), atol=1e-11)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"target": np.array([[0, 1]])}, ValueError, r"input \(2, 2\) needs a target of shape \(2,\), got \(1, 2\)"),
    ({"target": np.array([0, 2])}, ValueError,
     "target 2 is neither one of the 2 classes, 0 to 1, nor ignore_index=-100"),
    ({"target": np.array([-1, 0])}, ValueError, r"target -1 is neither one of the 2 classes"),
    ({"target": np.array([0.0, 1.0])}, TypeError, r"target must be integer class numbers .* float64 \(2,\)"),
    ({"target": np.array([False, True])}, TypeError, r"target must be integer class numbers .* got bool \(2,\)"),
    ({"ignore_index": None}, TypeError, r"\(ignore_index=None\) must be an integer"),
    ({"weight": Tensor(np.ones(2), requires_grad=True)}, ValueError, r"\(weight\) requires a gradient, but the loss"),
    ({"weight": np.ones(3)}, ValueError, r"weight has shape \(3,\); input \(2, 2\) has 2 classes: \(2,\)"),
    ({"reduction": "avg"}, ValueError, r"\(reduction='avg'\): use 'none', 'mean' or 'sum'"),
    ({"input": np.zeros((2, 0))}, ValueError, r"input must be scores \(N, K, ...\), floats, of at least one class"),
    ({"input": np.zeros((2, 2), int)}, ValueError, r"input must be scores .*floats.* got int64 \(2, 2\)"),
])
@pytest.mark.parametrize("op", [cross_entropy, nll_loss])
def test_errors(op, change, error, message):
    arguments = {"input": SCORES, "target": TARGET, **change}
    arguments["input"] = Tensor(arguments["input"])
    with pytest.raises(error, match=f"{op.__name__}.*{message}"):
        op(**arguments)


def test_errors_of_cross_entropy_alone():
    with pytest.raises(ValueError, match=r"pixel_weight has shape \(2, 2\), but must have one number per pixel, "
                                         r"\(2,\)"):
        run(pixel_weight=np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"cross_entropy\(label_smoothing=1.5\) must lie in \[0, 1\]"):
        run(label_smoothing=1.5)
    with pytest.raises(ValueError, match=r"\(ignore_index=255\): class probabilities have no class to ignore; give"):
        run(target=np.full((2, 2), 0.5), ignore_index=255)
    with pytest.raises(TypeError, match=r"of shape \(2,\), or class probabilities of input's shape \(2, 2\)"):
        run(target=np.full((2, 3), 0.5))
