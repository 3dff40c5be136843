import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from minicv.ops.conv import conv_output_size, conv_transpose_output_size
from tests.oracle import require


def numbers(*shape):
    return np.random.default_rng(shape).standard_normal(shape)


# ---------------------------------------------------------------------------------------------------------
# By hand
# ---------------------------------------------------------------------------------------------------------
def test_a_convolution_by_hand():
    x = Tensor(np.arange(16.0).reshape(1, 1, 4, 4))
    w = Tensor(np.array([[[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [0.0, 0.0, 0.0]]]]))
    # Each window: (x00 - x02) + 2 (x10 - x12) = -2 + 2 * -2 = -6, as each row rises by 1 from pixel to pixel.
    assert F.conv2d(x, w).data.tolist() == [[[[-6, -6], [-6, -6]]]]
    # With a border of zeros, top left: 0 + 2 * (0 - x01) = -2; the right end of that row: 2 * (x02 - 0) = 4
    padded = F.conv2d(x, w, padding=1).data[0, 0]
    assert padded.shape == (4, 4) and padded[0].tolist() == [-2, -4, -4, 4]


def test_a_transposed_convolution_by_hand():
    x = Tensor(np.array([[[[1.0, 2.0]]]]))
    w = Tensor(np.array([[[[1.0, 10.0, 100.0]]]]))
    # Stride 2: 1 stamps 1 10 100 at 0, 2 stamps 2 20 200 at 2: 1 10 102 20 200
    assert F.conv_transpose2d(x, w, stride=2).data.ravel().tolist() == [1, 10, 102, 20, 200]
    assert F.conv_transpose2d(x, w, stride=2, padding=(0, 1)).data.ravel().tolist() == [10, 102, 20]
    longer = F.conv_transpose2d(x, w, stride=(1, 2), output_padding=(0, 1)).data.ravel()
    assert longer.tolist() == [1, 10, 102, 20, 200, 0]


def test_the_matrix_of_a_3x3_kernel_on_a_4x4_image_is_4x16():
    w = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    C = F.conv_matrix(w, (4, 4))
    assert C.shape == (4, 16) and C.T.shape == (16, 4)
    assert C.toarray()[0].tolist() == [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]
    assert C.toarray()[3].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9]


# Dumoulin and Visin (2016), figures 4.1 to 4.7: i, k, s, p
SEVEN = [(4, 3, 1, 0), (5, 4, 1, 2), (5, 3, 1, 1), (5, 3, 1, 2), (5, 3, 2, 0), (5, 3, 2, 1), (6, 3, 2, 1)]


@pytest.mark.parametrize("i, k, s, p", SEVEN)
def test_conv_is_the_matrix_and_its_transpose_the_transposed_conv(i, k, s, p):
    w, x = numbers(3, 2, k, k), numbers(2, i, i)
    C = F.conv_matrix(w, (i, i), s, p)
    y = F.conv2d(Tensor(x[None]), Tensor(w), stride=s, padding=p).data[0]
    np.testing.assert_allclose(C @ x.ravel(), y.ravel(), atol=1e-12)
    g = numbers(*y.shape)
    back = F.conv_transpose2d(Tensor(g[None]), Tensor(w), stride=s, padding=p,
                              output_padding=(i + 2 * p - k) % s).data[0]
    np.testing.assert_allclose(C.T @ g.ravel(), back.ravel(), atol=1e-12)


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"dilation": 3}, {"groups": 2, "padding": 2}])
def test_conv_and_transposed_conv_are_adjoint(options):
    x, w = numbers(2, 4, 9, 9), numbers(6, 4 // options.get("groups", 1), 3, 3)
    y = F.conv2d(Tensor(x), Tensor(w), **options).data
    g = numbers(*y.shape)
    back = F.conv_transpose2d(Tensor(g), Tensor(w), **options).data
    assert back.shape == x.shape
    assert np.sum(y * g) == pytest.approx(np.sum(x * back), rel=1e-12)  # <C x, g> = <x, C' g>


@pytest.mark.parametrize("i, k, s, p, d, size", [(572, 3, 1, 0, 1, 570), (224, 7, 2, 3, 1, 112), (7, 3, 1, 2, 2, 7)])
def test_sizes(i, k, s, p, d, size):
    assert conv_output_size(i, k, s, p, d) == size
    left = (i + 2 * p - d * (k - 1) - 1) % s
    assert conv_transpose_output_size(size, k, s, p, left, dilation=d) == i


# ---------------------------------------------------------------------------------------------------------
# PyTorch
# ---------------------------------------------------------------------------------------------------------
def agree(f, torch_f, inputs):
    """Outputs and all gradients equal, float64."""
    torch = require("torch")
    ours = [Tensor(a, requires_grad=True) for a in inputs]
    theirs = [torch.from_numpy(a).requires_grad_() for a in inputs]
    y, ty = f(*ours), torch_f(*theirs)
    assert y.shape == tuple(ty.shape)
    gy = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(gy)
    grads = torch.autograd.grad(ty, theirs, torch.from_numpy(gy))
    for a, b in zip([y.data, *(t.grad for t in ours)], [ty.detach(), *grads], strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-10)


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # PyTorch says that it copies
@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 2), c=st.integers(1, 3), o=st.integers(1, 3), groups=st.integers(1, 3),
       h=st.integers(1, 9), w=st.integers(1, 9), kernel=pairs, stride=pairs, dilation=pairs,
       padding=st.one_of(st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 3), st.integers(0, 3))),
       bias=st.booleans())
def test_conv2d_against_pytorch(n, c, o, groups, h, w, kernel, stride, dilation, padding, bias):
    torch = require("torch")
    stride = (1, 1) if padding == "same" else stride
    room = (0, 0) if isinstance(padding, str) else padding
    if padding != "same" and any(i + 2 * p < d * (k - 1) + 1 for i, p, d, k in
                                 zip((h, w), room, dilation, kernel, strict=True)):
        return  # smaller than the kernel: an error, below
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    agree(lambda x, w, b=None: F.conv2d(x, w, b, **options),
          lambda x, w, b=None: torch.nn.functional.conv2d(x, w, b, **options),
          [numbers(n, c * groups, h, w), numbers(o * groups, c, *kernel), numbers(o * groups)][:2 + bias])


@settings(max_examples=80, deadline=None)
@given(n=st.integers(0, 2), c=st.integers(1, 3), o=st.integers(1, 3), groups=st.integers(1, 3), h=st.integers(1, 6),
       w=st.integers(1, 6), kernel=pairs, stride=pairs, dilation=pairs,
       padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
       extra=st.tuples(st.integers(0, 2), st.integers(0, 2)), bias=st.booleans())
def test_conv_transpose2d_against_pytorch(n, c, o, groups, h, w, kernel, stride, dilation, padding, extra, bias):
    torch = require("torch")
    extra = tuple(min(e, max(s, d) - 1) for e, s, d in zip(extra, stride, dilation, strict=True))
    sizes = [conv_transpose_output_size(*a) for a in zip((h, w), kernel, stride, padding, extra, dilation, strict=True)]
    if min(sizes) < 1:
        return
    options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    agree(lambda x, w, b=None: F.conv_transpose2d(x, w, b, **options),
          lambda x, w, b=None: torch.nn.functional.conv_transpose2d(x, w, b, **options),
          [numbers(n, c * groups, h, w), numbers(c * groups, o, *kernel), numbers(o * groups)][:2 + bias])


def test_large_float32_layers_agree_with_pytorch():
    torch = require("torch")
    for channels, kernel, options in itertools.product((1, 16, 80), (1, 2, 3), ({}, {"stride": 2}, {"dilation": 2})):
        x = numbers(2, channels, 40, 52).astype(np.float32)
        w = numbers(24, channels, kernel, kernel).astype(np.float32)
        ours = [Tensor(v, requires_grad=True) for v in (x, w)]
        theirs = [torch.from_numpy(v).requires_grad_() for v in (x, w)]
        y = F.conv2d(*ours, padding=1, **options)
        expected = torch.nn.functional.conv2d(*theirs, padding=1, **options)
        gy = numbers(*y.shape).astype(np.float32)
        y.backward(gy)
        expected.backward(torch.from_numpy(gy))
        for a, b in [(y.data, expected.detach()), *((o.grad, t.grad) for o, t in zip(ours, theirs, strict=True))]:
            assert a.dtype == np.float32  # roundings of sums of some thousand numbers: 3e-6 were seen
            np.testing.assert_allclose(a, b.numpy(), rtol=0, atol=1e-5 * max(abs(b.numpy()).max(), 1))


# ---------------------------------------------------------------------------------------------------------
# Errors
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shapes, options, message", [
    (((1, 3, 5, 5), (2, 4, 3, 3)), {}, r"conv2d: input \(1, 3, 5, 5\) has 3 channels, weight \(2, 4, 3, 3\) with "
                                       r"groups=1 takes 4"),
    (((1, 4, 5, 5), (2, 2, 3, 3)), {"groups": 3}, r"conv2d\(groups=3\) must divide weight's first axis, 2"),
    (((3, 5, 5), (2, 3, 3, 3)), {}, r"conv2d: input must be \(N, C, H, W\) and weight 4-D, got \(3, 5, 5\)"),
    (((1, 3, 2, 5), (2, 3, 3, 3)), {}, r"conv2d: the padded input is 2x5, smaller than the dilated kernel 3x3"),
    (((1, 3, 5, 5), (2, 3, 3, 3)), {"stride": 0}, r"conv2d\(stride\) must be an integer of at least 1.*got 0"),
    (((1, 3, 5, 5), (2, 3, 3, 3)), {"stride": None}, r"conv2d\(stride\) must be an integer of at least 1.*got None"),
    (((1, 3, 5, 5), (2, 3, 3, 3)), {"stride": 2.0}, r"conv2d\(stride\) must be an integer of at least 1.*got 2.0"),
    (((1, 3, 5, 5), (2, 3, 3, 3)), {"padding": -1}, r"conv2d\(padding\) must be an integer of at least 0"),
    (((1, 3, 5, 5), (2, 3, 3, 3)), {"padding": "full"},
     r"conv2d\(padding='full'\): use a number, a pair, 'valid' or 'same'"),
    (((1, 3, 5, 5), (2, 3, 3, 3)), {"padding": "same", "stride": 2}, r"conv2d\(padding='same'\) needs stride 1"),
    (((1, 3, 5, 5), (2, 3, 0, 3)), {}, r"conv2d: weight \(2, 3, 0, 3\) has an empty kernel"),
])
def test_conv2d_errors(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        F.conv2d(*(Tensor(np.ones(s)) for s in shapes), **options)


@pytest.mark.parametrize("shapes, options, message", [
    (((1, 3, 5, 5), (4, 2, 3, 3)), {}, r"conv_transpose2d: input \(1, 3, 5, 5\) has 3 channels, weight .* takes 4"),
    (((1, 4, 5, 5), (4, 2, 3, 3)), {"output_padding": 1}, r"conv_transpose2d\(output_padding=1\) must be less than "
                                                          r"stride \(1, 1\) or dilation \(1, 1\)"),
    (((1, 4, 1, 1), (4, 2, 2, 2)), {"padding": 1}, r"conv_transpose2d: input \(1, 4, 1, 1\) with kernel 2x2, padding "
                                                   r"\(1, 1\) gives an output of 0x0"),
])
def test_conv_transpose2d_errors(shapes, options, message):
    with pytest.raises(ValueError, match=message):
        F.conv_transpose2d(*(Tensor(np.ones(s)) for s in shapes), **options)


@pytest.mark.parametrize("arguments, options, message", [
    ((np.ones((1, 1, 2, 2)), (4, 4)), {"stride": 0}, r"conv_matrix\(stride\) must be an integer of at least 1"),
    ((np.ones((1, 1, 2, 2)), (4, 4)), {"dilation": 0}, r"conv_matrix\(dilation\) must be an integer of at least 1"),
    ((np.ones((1, 1, 2, 2)), (4, 4)), {"padding": -1}, r"conv_matrix\(padding\) must be an integer of at least 0"),
    ((np.ones((1, 1, 2, 2)), (0, 4)), {}, r"conv_matrix\(input_size\) must be an integer of at least 1.*\(0, 4\)"),
    ((np.ones((1, 1, 3, 2)), (2, 4)), {"dilation": 2}, "conv_matrix: the padded image is 2x4, smaller than the "
                                                       "dilated kernel 5x3"),
    ((np.ones((3, 3)), (4, 4)), {}, r"conv_matrix: weight must be \(O, C, KH, KW\), got \(3, 3\)"),
])
def test_conv_matrix_errors(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        F.conv_matrix(*arguments, **options)


def test_conv_matrix_takes_a_tensor():
    w = numbers(2, 1, 3, 3)
    assert (F.conv_matrix(Tensor(w), (4, 5)) != F.conv_matrix(w, (4, 5))).nnz == 0


def test_numbers_may_be_numpys():
    x, w = Tensor(numbers(1, 4, 5, 5)), Tensor(numbers(4, 2, 3, 3))
    two = np.int64(2)
    np.testing.assert_array_equal(F.conv2d(x, w, stride=two, padding=(two, 1), groups=two).data,
                                  F.conv2d(x, w, stride=2, padding=(2, 1), groups=2).data)


def test_a_bias_of_the_wrong_length():
    with pytest.raises(ValueError, match=r"conv2d: bias has shape \(3,\), but the output has 2 channels: \(2,\)"):
        F.conv2d(Tensor(np.ones((1, 3, 5, 5))), Tensor(np.ones((2, 3, 3, 3))), Tensor(np.ones(3)))
