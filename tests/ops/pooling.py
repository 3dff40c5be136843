"""What the tests of the poolings share: one image, and a comparison with PyTorch on any values."""
import numpy as np
import pytest
from hypothesis import strategies as st

from minicv import Tensor
from tests.oracle import require

inf, nan = np.inf, np.nan
sides = st.integers(1, 9)
pairs_of = {least: st.one_of(st.integers(least, 4), st.tuples(st.integers(least, 4), st.integers(least, 4)))
            for least in (0, 1)}
values = st.sampled_from(["normal", "ties", "special"])


def image(rows) -> Tensor:
    """One channel of one image, float64."""
    return Tensor(np.array([[rows]], float), requires_grad=True)


def pooled(op, rows, *args, **options):
    """The op's output on one image, and the gradient where that of the outputs is 1, 2, 4, 8, ..."""
    x = image(rows)
    y = op(x, *args, **options)
    y.backward(2.0 ** np.arange(y.size).reshape(y.shape))
    return y.data[0, 0].tolist(), x.grad[0, 0].tolist()


def numbers(kind: str, shape, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "ties":
        return rng.integers(-2, 3, shape).astype(float)
    if kind == "special":
        return rng.choice([1.0, 2.0, nan, -inf, inf], shape, p=[0.2, 0.2, 0.1, 0.4, 0.1])
    return rng.standard_normal(shape)


def assert_like_torch(ours, theirs, x: np.ndarray, tolerance: float) -> None:
    """The same results and gradients from ``ours(Tensor)`` and ``theirs(torch.Tensor)``, or an error from both."""
    torch = require("torch")
    X, T = Tensor(x, requires_grad=True), torch.from_numpy(x).requires_grad_()
    try:
        expected = theirs(T)
    except RuntimeError:
        with pytest.raises(ValueError):
            ours(X)
        return
    y, expected = ours(X), expected if isinstance(expected, tuple) else (expected,)
    y = y if isinstance(y, tuple) else (y,)
    for a, e in zip(y, expected, strict=True):
        np.testing.assert_allclose(a.data, e.detach().numpy(), rtol=0, atol=tolerance)
    gy = np.random.default_rng(1).standard_normal(y[0].shape)
    y[0].backward(gy)
    expected[0].backward(torch.from_numpy(gy))
    np.testing.assert_allclose(X.grad, T.grad.numpy(), rtol=0, atol=tolerance)


def assert_own_adjoint(op) -> None:
    """A linear op's backward pass is its adjoint: <A x, y> = <x, A' y>."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 3, 7, 8)), requires_grad=True)
    Ax = op(x)
    y = rng.standard_normal(Ax.shape)
    Ax.backward(y)
    np.testing.assert_allclose(np.vdot(Ax.data, y), np.vdot(x.data, x.grad), rtol=1e-12)
