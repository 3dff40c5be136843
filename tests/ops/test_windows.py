"""What the poolings share: sizes and errors."""

import numpy as np
import pytest

from minicv import Tensor
from minicv.ops.avg_pool import avg_pool2d
from minicv.ops.max_pool import max_pool2d


@pytest.mark.parametrize("op", [max_pool2d, avg_pool2d])
def test_errors_of_both(op):
    name, x = op.__name__, Tensor(np.zeros((1, 1, 4, 5)))
    with pytest.raises(ValueError, match=rf"{name}\(kernel_size\) must be an integer of at least 1.*got 0"):
        op(x, 0)
    with pytest.raises(ValueError, match=rf"{name}\(stride\) must be an integer of at least 1.*got \(1, 2, 3\)"):
        op(x, 2, (1, 2, 3))
    with pytest.raises(ValueError, match=rf"{name}\(padding=\(0, 2\)\) is more than half of the kernel, 2x3"):
        op(x, (2, 3), padding=(0, 2))
    with pytest.raises(ValueError, match=f"{name}: a window of 7 pixels does not fit into 4 pixels and a padding "
                                         "of 1; use a smaller"):
        op(x, 7, padding=1)
    with pytest.raises(ValueError, match=rf"{name}: input must be \(N, C, H, W\).*got \(4, 5\)"):
        op(Tensor(np.zeros((4, 5))), 2)
    with pytest.raises(TypeError, match=f"{name}: input must be floats.*int64"):
        op(Tensor(np.zeros((1, 1, 4, 4), int)), 2)
    with pytest.raises(ValueError, match=f"{name}: input must be.*at least one pixel"):
        op(Tensor(np.zeros((1, 1, 0, 4))), 2, padding=1)
