import numpy as np
import pytest

import minicv
import minicv.ops as F
from minicv import Tensor
from tests import strict_device  # noqa: F401 - makes the device "strict" known


def leaf(*values, device="numpy"):
    return Tensor(minicv.backend.to_device(np.array(values), device), requires_grad=True)


@pytest.mark.parametrize("device", ["numpy", "strict"])
def test_forward_names_the_first_operation(device):
    x = leaf(1.0, 0.0, 2.0, device=device)
    with minicv.detect_anomaly(), np.errstate(divide="ignore"), pytest.raises(FloatingPointError) as error:
        (F.log(x * 1.0) + 1.0).sum()
    assert str(error.value) == ("Log forward: 1 of 3 values of the result (3,) are NaN or infinite, of arguments (3,); "
                                "no operation before it made any")


def test_backward_names_the_first_operation():
    x = leaf(4.0, 0.0)
    with minicv.detect_anomaly(), np.errstate(divide="ignore"):
        y = F.sqrt(x * 1.0).sum()  # sqrt's slope at 0 is infinite
        with pytest.raises(FloatingPointError, match=r"Sqrt backward: 1 of 2 values of the gradient 0 \(2,\) are NaN"):
            y.backward()


def test_outside_nothing_is_looked_at():
    x = leaf(0.0)
    with minicv.detect_anomaly(), minicv.detect_anomaly():
        pass
    with np.errstate(divide="ignore"):
        assert F.log(x).data[0] == -np.inf


def test_integers_and_missing_gradients_are_no_anomaly():
    x, weight = leaf(1.0, 2.0), Tensor(np.array([1.0, 0.5]))
    with minicv.detect_anomaly():
        F.cross_entropy(x.reshape((1, 2)), Tensor(np.array([1])), weight=weight).backward()
    assert np.isfinite(x.grad).all()
