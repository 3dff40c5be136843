"""Measures count on the host, and take the arrays of a model on another device as they are."""
import numpy as np
import pytest

from minicv import backend, metrics
from tests import strict_device  # noqa: F401 - makes the device "strict" known

rng = np.random.default_rng(0)
TRUTH, FOUND = rng.integers(0, 3, (12, 14)), rng.integers(0, 3, (12, 14))
P = rng.random((12, 14)).astype(np.float32)


def counted(meter, what):
    def measure(found, truth):
        meter_of_this = meter()
        meter_of_this.update(found, truth)
        return getattr(meter_of_this, what)
    return measure


MEASURES = {
    "mean_iu": (counted(lambda: metrics.ConfusionMatrix(3, 255), "mean_iu"), FOUND, TRUTH),
    "boundary": (counted(lambda: metrics.BoundaryFScore(3, 1.0), "mean"), FOUND, TRUTH),
    "by size": (counted(lambda: metrics.ObjectSizeScores(3, (4,)), "mean_iu"), FOUND, TRUTH),
    "iou": (metrics.iou, FOUND == 1, TRUTH == 1),
    "pixel_error": (metrics.pixel_error, P, TRUTH > 0),
    "rand_error": (metrics.rand_error, FOUND, TRUTH),
    "rand_f_score": (metrics.rand_f_score, FOUND, TRUTH),
    "rand_f_score_at": (lambda p, truth: metrics.rand_f_score_at(p, truth, 0.5), P, TRUTH > 0),
    "warping_error": (metrics.warping_error, FOUND > 0, TRUTH > 0),
    "connected_components": (lambda found, truth: metrics.connected_components(found), FOUND > 0, TRUTH),
}


@pytest.mark.parametrize("device", ["strict", pytest.param("cupy", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", MEASURES)
def test_arrays_of_another_device_are_measured_as_numpys(name, device):
    measure, found, truth = MEASURES[name]
    expected = measure(found, truth)
    assert np.isfinite(expected).all() and np.any(expected)
    np.testing.assert_array_equal(measure(backend.to_device(found, device), backend.to_device(truth, device)), expected)
