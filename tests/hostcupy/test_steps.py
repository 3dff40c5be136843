"""What a training step asks of a GPU, held to bounds; ``python -m tests.hostcupy.steps`` prints the numbers."""
import os

import pytest

from minicv import models
from tests.hostcupy.steps import count_step
from tests.models.test_device import READS


@pytest.mark.gpu
@pytest.mark.parametrize("name", models.names())
def test_a_training_step_waits_only_for_the_proposals(name):
    if not os.environ.get("HOSTCUPY"):
        pytest.skip("counts waits: pytest -m gpu --hostcupy")
    counts = count_step(name)
    assert counts.waits == counts.to_host == READS.get(name, 0), counts
