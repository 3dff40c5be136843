"""What a GPU would do to numbers: widen the mean of many, and add in no fixed order."""
import re
from pathlib import Path

import numpy as np
import pytest

import minicv.ops as F
from minicv import Tensor, backend
from tests import harness, strict_device

P = 65_536
ones = np.ones(P, np.float32)
MEANS = {
    "mean": lambda x: x.mean(),
    "mse_loss": lambda x: F.mse_loss(x, ones),
    "smooth_l1_loss": lambda x: F.smooth_l1_loss(x, ones),
    "hinge_loss": lambda x: F.hinge_loss(x, ones),
    "binary_cross_entropy": lambda x: F.binary_cross_entropy_with_logits(x, ones),
    "cross_entropy": lambda x: F.cross_entropy(x.reshape(P // 2, 2), Tensor(np.zeros(P // 2, np.int64)).to(x.device)),
    "batch_norm": lambda x: F.batch_norm(x.reshape(P, 1), None, None, training=True).sum(),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x.reshape(1, 1, 256, 256), 1).sum(),
    "local_response_norm": lambda x: F.local_response_norm(x.reshape(1, 4, 128, 128), 3).sum(),
}


@pytest.mark.parametrize("storey", ["plain", "fast"])
@pytest.mark.parametrize("device", ["strict", pytest.param("cupy", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", MEANS)
def test_a_mean_over_many_keeps_its_dtype(name, device, storey, monkeypatch):
    """Whatever CuPy's version: see ``strict_device.operand``."""
    monkeypatch.setitem(globals(), "ones", backend.to_device(ones, device))
    x = Tensor(np.linspace(-1, 1, P, dtype=np.float32), requires_grad=True).to(device)
    with harness.on_storey(storey):
        y = MEANS[name](x)
        y.backward()
    assert y.dtype == np.float32 and x.grad.dtype == np.float32


def ops_that_add_at_one_index(storey: str, monkeypatch) -> set[str]:
    """Names of the operations that, in some case, add several floats other than 0 at one index."""
    found = set()

    def scatter(self, a, indices, b):
        if self.name == "add" and a.dtype.kind == "f":
            times = np.zeros(a.shape, int)
            np.add.at(times, strict_device.unwrap(indices, "add.at"), strict_device.unwrap(b, "add.at") != 0)
            if times.max(initial=0) > 1:
                found.add(case.name)
        return original(self, a, indices, b)
    original = strict_device.StrictUfunc.scatter
    monkeypatch.setattr(strict_device.StrictUfunc, "scatter", scatter)
    with harness.on_storey(storey):
        for case in harness.CASES:
            harness.Run(case, harness.on("strict", case.arrays()))
    return found


def test_the_page_names_the_operations_that_add_in_no_fixed_order(monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "reproducibility.md").read_text(encoding="utf-8")
    entry = page.partition("- **A GPU.**")[2].partition("- **")[0]
    always, plain = entry.split("on the plain storey also")
    always, plain = (set(re.findall(r"`(\w+)`", part)) for part in (always, plain))
    assert ops_that_add_at_one_index("fast", monkeypatch) == always
    assert ops_that_add_at_one_index("plain", monkeypatch) == always | plain
