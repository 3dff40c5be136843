import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor, nn
from minicv.models.segmentation.shift_and_stitch import rarefy, shift_and_stitch


def net(layers):
    """Convolutions (channels, kernel, stride) and poolings (kernel, stride), ReLU after each convolution."""
    built, c = [], 2
    for layer in layers:
        if len(layer) == 3:
            built += [nn.Conv2d(c, layer[0], layer[1], layer[2]), nn.ReLU()]
            c = layer[0]
        else:
            built.append(nn.MaxPool2d(*layer))
    return nn.Sequential(*built)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)),
                          st.tuples(st.integers(1, 3), st.integers(1, 2))), min_size=1, max_size=4),
       st.integers(0, 5), st.integers(0, 5))
def test_stitched_equals_rarefied(layers, more_h, more_w):
    field, stride = 1, 1
    for layer in layers:
        field, stride = field + (layer[-2] - 1) * stride, stride * layer[-1]
    if stride > 12:
        return
    minicv.seed(0)
    coarse = net(layers)
    shape = (2, 2, field + stride - 1 + more_h, field + stride - 1 + more_w)
    x = Tensor(np.random.default_rng(0).standard_normal(shape))
    for p in coarse.parameters():
        p.data = p.data.astype(np.float64)
    stitched, rarefied = shift_and_stitch(coarse, x, stride).numpy(), rarefy(coarse)(x).numpy()
    assert stitched.shape[2:] == (shape[2] - field + 1, shape[3] - field + 1)
    np.testing.assert_allclose(stitched, rarefied, rtol=0, atol=1e-12)


def test_by_hand():
    """A pooling 2x2 of stride 2, dense: the maximum of every 2x2 window of 0 ... 8 in a square of 3x3."""
    pool, x = nn.Sequential(nn.MaxPool2d(2)), Tensor(np.arange(9.0).reshape(1, 1, 3, 3))
    expected = [[4, 5], [7, 8]]
    assert shift_and_stitch(pool, x, 2).numpy()[0, 0].tolist() == expected
    assert rarefy(pool)(x).numpy()[0, 0].tolist() == expected


def test_rarefied_filters_have_zeros_between():
    """FCN, sec. 3.2: f'_ij = f_{i/s, j/s} if s divides both, else 0, as a filter of its own."""
    minicv.seed(0)
    coarse = nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(1, 1, 3, bias=False))
    dense, x = rarefy(coarse), Tensor(np.random.default_rng(0).standard_normal((1, 1, 12, 12)).astype(np.float32))
    sparse = np.zeros((1, 1, 5, 5), np.float32)
    sparse[:, :, ::2, ::2] = coarse[1].weight.data
    expected = minicv.ops.conv2d(minicv.ops.max_pool2d(x, 3, 1), Tensor(sparse)).numpy()
    np.testing.assert_allclose(dense(x).numpy(), expected, rtol=0, atol=1e-6)
    assert dense[1].weight is coarse[1].weight and dense[1].dilation == (2, 2)
    assert coarse[1].dilation == 1 and coarse[0].stride == 2  # left as it was


def test_padding_is_rarefied_too():
    """Inside, where no padding reaches; the zeros at the border do not move with the image."""
    minicv.seed(0)
    coarse = nn.Sequential(nn.Conv2d(1, 2, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(2, 1, 3, padding=1))
    x = Tensor(np.random.default_rng(0).standard_normal((1, 1, 16, 16)).astype(np.float32))
    with minicv.no_grad():
        stitched, rarefied = shift_and_stitch(coarse, x, 2).numpy(), rarefy(coarse)(x).numpy()
    assert stitched.shape == rarefied.shape == (1, 1, 16, 16)
    inside = (..., slice(4, -4), slice(4, -4))
    np.testing.assert_allclose(stitched[inside], rarefied[inside], rtol=0, atol=1e-5)
    assert abs(stitched - rarefied).max() > 1e-3


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: rarefy(nn.Sequential(nn.Linear(3, 2))), TypeError, "rarefy: cannot rarefy a Linear"),
    (lambda: rarefy(nn.Sequential(nn.MaxPool2d(2, ceil_mode=True))), ValueError, "use ceil_mode=False"),
    (lambda: shift_and_stitch(lambda x: x, Tensor(np.zeros((1, 1, 4, 4))), 0), ValueError, r"stride\) must be"),
])
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
