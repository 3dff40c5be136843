import numpy as np
import pytest

from minicv.data import IGNORE, Sample, class_weights


class Labels:
    """A data set of given labels."""

    def __init__(self, num_classes, *labels):
        self.num_classes, self.labels = num_classes, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        label = np.array(self.labels[i])
        return Sample(np.zeros((3, *label.shape), np.float32), label, None, str(i))


def test_by_hand():
    """Six labeled pixels in all: class 0 has 3, class 1 has 2, class 2 none, class 3 has 1."""
    w = class_weights(Labels(4, [[0, 0], [1, IGNORE]], [[3, 1, 0]]))
    assert w.dtype == np.float32
    # 1 / ln(1.02 + 3/6), 1 / ln(1.02 + 2/6), 1 / ln(1.02), 1 / ln(1.02 + 1/6)
    np.testing.assert_allclose(w, [2.388286, 3.305013, 50.498350, 5.842887], rtol=1e-6)


def test_nothing_is_labeled():
    with pytest.raises(ValueError, match="no pixel of the data set has a label"):
        class_weights(Labels(2, [[IGNORE]]))
