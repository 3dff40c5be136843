"""The fast batch norm: mean and variance in one pass, by distances from a rough mean."""
import numpy as np
import pytest

from minicv.fast.normalization import moments


@pytest.mark.parametrize("mean", [0, 100, 1e4, 1e6])
def test_moments_far_from_zero(mean):
    rng = np.random.default_rng(0)
    rows = (rng.normal(0, 1, (6068, 3)) + mean).astype(np.float32)
    exact = rows.astype(np.float64)
    rough, shift, variance = moments(rows, np.empty_like(rows))
    np.testing.assert_allclose(variance, exact.var(0), rtol=1e-5)
    np.testing.assert_allclose(rough.astype(float) + shift, exact.mean(0), rtol=0, atol=1e-6)
