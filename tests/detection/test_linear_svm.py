import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize

from minicv.detection.linear_svm import (
    LinearSVM,
    MiningRound,
    projected_gradient,
    train_svm,
    train_svm_with_mining,
)


def svm_objective(svm, x, y, C=1e-3, positive_weight=2.0, bias_scale=10.0):
    """Return the sum that training minimizes."""
    loss = np.maximum(0, 1 - y * svm.scores(x))
    squared_norm = svm.weight.astype(np.float64) @ svm.weight + (svm.bias / bias_scale) ** 2
    return float(squared_norm / 2 + C * (np.where(y > 0, positive_weight, 1) * loss).sum())


def clouds(n, d, seed=0, apart=1.0):
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.3, 1, -1)
    y[:2] = 1, -1
    x = rng.standard_normal((n, d)) + apart * y[:, None] * rng.standard_normal(d) + 0.5
    return x, y


def test_two_points_by_hand():
    # x = 1 is positive, x = -1 negative, no bias to speak of (s = 1, by symmetry b = 0): the widest margin has w = 1,
    # reached if C allows a_1 + a_2 = 1, each 1/2.
    svm = train_svm(np.array([[1.0], [-1.0]]), np.array([1, -1]), C=10, bias_scale=1, tolerance=1e-9)
    np.testing.assert_allclose([svm.weight[0], svm.bias], [1, 0], atol=1e-6)
    # C = 0.1, positives count twice: both stay within the margin, a = (0.2, 0.1), w = 0.2 + 0.1, b = 0.2 - 0.1
    svm = train_svm(np.array([[1.0], [-1.0]]), np.array([1, -1]), C=0.1, bias_scale=1, tolerance=1e-9)
    np.testing.assert_allclose([svm.weight[0], svm.bias], [0.3, 0.1], atol=1e-7)
    # a larger s makes the bias cheaper: b = s * s * (0.2 - 0.1) = 0.4 for s = 2
    svm = train_svm(np.array([[1.0], [-1.0]]), np.array([1, -1]), C=0.1, bias_scale=2, tolerance=1e-9)
    np.testing.assert_allclose([svm.weight[0], svm.bias], [0.3, 0.4], atol=1e-7)


def test_objective_by_hand():
    svm = LinearSVM(np.array([2.0, 0.0]), 3.0)
    x, y = np.array([[0.5, 9.0], [-1.0, 9.0], [-3.0, 9.0]]), np.array([-1, 1, -1])
    # scores 4, 1, -3: losses 5, 0, 0; 1/2 (4 + (3/10)^2) + 0.1 * 5
    assert svm_objective(svm, x, y, C=0.1) == pytest.approx(2.045 + 0.5)
    # the positive at -1 weighs 2: scores 4, -1 with bias 1
    assert svm_objective(LinearSVM(np.array([2.0, 0.0]), 1.0), x, y, C=0.1) == pytest.approx(
        0.5 * (4 + 0.01) + 0.1 * (3 + 2 * 2 + 0))


@pytest.mark.parametrize(("n", "d", "C"), [(30, 3, 0.05), (20, 40, 0.01), (25, 2, 0.2)])
def test_equals_the_quadratic_programme_of_scipy(n, d, C):
    """SciPy's bounded quasi-Newton method on the dual: 1/2 |sum a_i y_i x_i|^2 - sum a_i, 0 <= a_i <= C_i."""
    x, y = clouds(n, d, seed=d)
    yx = y[:, None] * np.hstack([x, np.full((n, 1), 2.0)])
    most = np.where(y > 0, 2 * C, C)
    found = optimize.minimize(lambda a: (0.5 * np.sum((a @ yx) ** 2) - a.sum(), yx @ (a @ yx) - 1), np.zeros(n),
                              jac=True, bounds=[(0, c) for c in most], method="L-BFGS-B",
                              options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 20000, "maxfun": 100000})
    w = found.x @ yx
    svm = train_svm(x, y, C, bias_scale=2, tolerance=1e-7, max_sweeps=20000)
    np.testing.assert_allclose(svm.weight, w[:-1], atol=2e-4 * abs(w).max())  # L-BFGS-B's own accuracy
    # strong duality: the primal's value is the dual's
    assert svm_objective(svm, x, y, C, bias_scale=2) == pytest.approx(-found.fun, rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 40), st.integers(1, 6), st.sampled_from([1e-3, 0.01, 0.1]), st.integers(0, 100))
def test_nothing_near_is_better(n, d, C, seed):
    """The problem is convex: if no small step improves, nothing does."""
    x, y = clouds(n, d, seed)
    svm = train_svm(x, y, C, bias_scale=1, tolerance=1e-6, max_sweeps=5000)
    best, rng = svm_objective(svm, x, y, C, bias_scale=1), np.random.default_rng(seed)
    for size in (1e-3, 0.1):
        for _ in range(10):
            step = size * rng.standard_normal(d + 1)
            other = LinearSVM(svm.weight + step[:-1], svm.bias + step[-1])
            assert svm_objective(other, x, y, C, bias_scale=1) >= best - 1e-6 * (1 + best)  # weights are float32


def test_projected_gradient_by_hand():
    # at 0 only a negative gradient lets alpha grow, at the end only a positive one lets it fall, inside both count
    np.testing.assert_array_equal(projected_gradient(np.array([3.0, -3, 3, -3, 3, -3]), np.array([0, 0, 1, 1, 2, 2]),
                                            np.full(6, 2.0)), [0, -3, 3, -3, 3, 0])


def test_no_positives_or_no_negatives_work():
    x = np.random.default_rng(0).standard_normal((20, 3))
    assert (train_svm(x, np.full(20, -1), C=1.0).scores(x) < -0.9).all()
    assert (train_svm(x, np.full(20, 1), C=1.0).scores(x) > 0.9).all()
    svm = train_svm(np.zeros((0, 3)), np.zeros(0))
    np.testing.assert_array_equal(svm.scores(x), np.zeros(20))


def test_it_is_deterministic_and_float32():
    x, y = clouds(50, 5)
    one, two = train_svm(x.astype(np.float32), y), train_svm(x.astype(np.float32), y)
    np.testing.assert_array_equal(one.weight, two.weight)
    assert one.weight.dtype == np.float32 and one.scores(x.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(("x", "y", "C", "message"), [
    (np.zeros((3, 2)), [1, 0, -1], 1.0, r"train_svm: y must be \(3,\) numbers, each 1 or -1, got \(3,\) with values"),
    (np.zeros((3, 2)), [1, -1], 1.0, r"train_svm: y must be \(3,\) numbers"),
    (np.zeros(3), [1, -1, 1], 1.0, r"train_svm: features must be finite numbers \(N, D\), got \(3,\)"),
    (np.array([[np.nan], [1.0]]), [1, -1], 1.0, r"got \(2, 1\) with 1 that are not finite"),
    (np.zeros((1, 1)), [1], 0.0, "train_svm: C must be positive, got 0.0"),
])
def test_errors(x, y, C, message):
    with pytest.raises(ValueError, match=message):
        train_svm(x, np.array(y), C)


# ---------------------------------------------------------------------------------------------- hard negative mining

def images_of(x, size):
    return [x[i:i + size] for i in range(0, len(x), size)]


def test_mining_comes_close_to_training_on_all_negatives():
    x, y = clouds(2000, 8, apart=0.8)
    everything = train_svm(x, y, C=1e-2)
    mined, history = train_svm_with_mining(x[y > 0], images_of(x[y < 0], 100), C=1e-2, retrain_limit=300)
    few = train_svm(np.concatenate([x[y > 0], x[y < 0][:history[-1].kept]]),
                    np.repeat([1, -1], [(y > 0).sum(), history[-1].kept]), C=1e-2)
    best, found, blind = (svm_objective(svm, x, y, C=1e-2) for svm in (everything, mined, few))
    assert history[-1].kept < 0.7 * (y < 0).sum() and history[-1].seen == (y < 0).sum()
    assert found < best + 0.5 * (blind - best)  # better than as many negatives that nobody chose
    assert found < 1.02 * best


def test_mining_step_by_step():
    # Images of two negatives each, a training after every two that are hard.
    negatives = [np.array([[-1.0], [-9.0]]), np.array([[-8.0], [-7.0]]), np.array([[0.5], [-6.0]])]
    svm, history = train_svm_with_mining(np.array([[1.0], [2.0]]), negatives, C=100.0, retrain_limit=2,
                                             bias_scale=1, tolerance=1e-9)
    # 1: both score 0 before any training, so both are kept; then 1 and -1 are the margin's ends: w = 1, b = 0, and -9
    # is forgotten. 2: -8 and -7 are easy, nothing comes. 3: 0.5 scores 0.5, -6 is easy; at the end -1 and 0.5 are left.
    assert history == [MiningRound(seen=2, kept=2, support=1), MiningRound(seen=6, kept=2, support=1)]
    # the margin lies between 0.5 and 1: w + b = 1, w/2 + b = -1
    np.testing.assert_allclose([svm.weight[0], svm.bias], [4, -3], atol=1e-5)


@pytest.mark.parametrize("negatives", [[], [np.zeros((0, 3))]])
def test_mining_without_negatives(negatives):
    svm, history = train_svm_with_mining(np.ones((4, 3)), negatives, C=1.0)
    assert (svm.scores(np.ones((4, 3))) > 0.9).all() and len(history) == 1 and history[0].seen == 0


def test_mining_without_positives_rejects_everything():
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    svm, _ = train_svm_with_mining(np.zeros((0, 3), np.float32), images_of(x, 10), C=1.0)
    assert (svm.scores(x) < 0).all()


def test_every_image_is_looked_at_once():
    looked = itertools.count()

    def negatives():
        for _ in range(3):
            next(looked)
            yield np.full((2, 1), -1.0)
    train_svm_with_mining(np.ones((1, 1)), negatives())
    assert next(looked) == 3
