import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from minicv.detection import encode_boxes
from minicv.detection.ridge import BoxRegressors, ridge


def test_by_hand():
    # x = -1, 1 and t = 1, 5: means 0 and 3, so X'X = 2, X'T = 4, w = 4 / (2 + lambda)
    x, t = np.array([[-1.0], [1.0]]), np.array([[1.0], [5.0]])
    for lam, w in ((2.0, 1.0), (6.0, 0.5)):
        weight, bias = ridge(x, t, lam)
        np.testing.assert_allclose(weight, [[w]], rtol=1e-6)
        np.testing.assert_allclose(bias, [3.0], rtol=1e-6)
    # shifted features, the same slope; bias = 3 - 10 w
    weight, bias = ridge(x + 10, t, 2.0)
    np.testing.assert_allclose(weight, [[1.0]], rtol=1e-6)
    np.testing.assert_allclose(bias, [-7.0], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from([0.1, 10.0, 1000.0]),
       st.integers(0, 99))
def test_equals_least_squares_with_more_rows(N, D, M, lam, seed):
    """Ridge is plain least squares with sqrt(lambda) I below the features and 0 below the targets."""
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((N, D)) + 1, rng.standard_normal((N, M)) + 2
    weight, bias = ridge(x, t, lam)
    rows = np.vstack([np.hstack([x, np.ones((N, 1))]), np.hstack([np.sqrt(lam) * np.eye(D), np.zeros((D, 1))])])
    expected = np.linalg.lstsq(rows, np.vstack([t, np.zeros((D, M))]), rcond=None)[0]
    np.testing.assert_allclose(weight, expected[:-1], rtol=1e-4, atol=1e-6)  # float32
    np.testing.assert_allclose(bias, expected[-1], rtol=1e-4, atol=1e-6)


def test_minimizes_equation_5():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((30, 4)), rng.standard_normal((30, 1))

    def eq_5(w):
        return np.sum((t[:, 0] - x @ w[:-1] - w[-1]) ** 2) + 5 * np.sum(w[:-1] ** 2)
    found = optimize.minimize(eq_5, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    weight, bias = ridge(x, t, 5.0)
    np.testing.assert_allclose([*weight[:, 0], *bias], found.x, atol=1e-5)


def test_no_pairs_move_nothing_and_one_pair_moves_all_alike():
    weight, bias = ridge(np.zeros((0, 3)), np.zeros((0, 4)))
    assert not weight.any() and not bias.any() and weight.shape == (3, 4) and bias.shape == (4,)
    weight, bias = ridge(np.array([[1.0, 2, 3]]), np.array([[0.1, 0.2, 0.3, 0.4]]))
    np.testing.assert_allclose(weight, np.zeros((3, 4)), atol=1e-12)
    np.testing.assert_allclose(bias, [0.1, 0.2, 0.3, 0.4], rtol=1e-6)


def test_classes_are_told_apart_and_boxes_move_to_their_objects():
    """Class 0's objects lie right of the proposals, class 1's are higher, class 2 has none."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (60, 2))
    P = np.concatenate([corner, corner + rng.uniform(10, 40, (60, 2))], axis=1)
    labels = np.repeat([0, 1], 30)
    w, h = (P[:, 2:] - P[:, :2]).T
    G = P.copy()
    G[:30, 0::2] += 0.25 * w[:30, None]
    G[30:, 1] -= 0.5 * h[30:]
    G[30:, 3] += 0.5 * h[30:]
    x = rng.standard_normal((60, 5))
    fitted = BoxRegressors.fit(x, encode_boxes(G, P), labels, 3)
    np.testing.assert_allclose(fitted.boxes(x[:30], P[:30], 0), G[:30], rtol=1e-4)
    np.testing.assert_allclose(fitted.boxes(x[30:], P[30:], 1), G[30:], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(fitted.boxes(x, P, 2), P, rtol=1e-6)
    # the bias moves by hand: t = (1/4, 0, 0, 0), and t = (0, 0, 0, log 2)
    np.testing.assert_allclose(fitted.bias[:2], [[0.25, 0, 0, 0], [0, 0, 0, np.log(2)]], atol=1e-5)


def test_no_boxes():
    fitted = BoxRegressors(np.zeros((2, 5, 4), np.float32), np.zeros((2, 4), np.float32))
    assert fitted.boxes(np.zeros((0, 5), np.float32), np.zeros((0, 4), np.float32), 1).shape == (0, 4)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: ridge(np.zeros((3, 2)), np.zeros((2, 4))), r"ridge: needs features .* got \(3, 2\) and \(2, 4\)"),
    (lambda: ridge(np.zeros((3, 2)), np.zeros((3, 4)), 0), "ridge: lambda must be positive, got 0"),
    (lambda: BoxRegressors.fit(np.zeros((3, 2)), np.zeros((3, 4)), np.zeros(2), 1),
     r"BoxRegressors.fit: needs .* got \(3, 2\), \(3, 4\) and \(2,\)"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
