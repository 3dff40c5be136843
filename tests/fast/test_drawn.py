"""Loops = plain = fast on drawn arguments: float64 to 1e-10, float32 to 1e-4 of the largest number."""
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import minicv
import minicv.ops as F
from minicv import Tensor, backend
from minicv.fast import FAST
from minicv.ops.adaptive_pool import adaptive_loop
from minicv.ops.avg_pool import avg_pool2d_loop
from minicv.ops.conv import conv2d_loop, conv_transpose2d_loop
from minicv.ops.interpolate import interpolate_loop
from minicv.ops.loss import cross_entropy_loop
from minicv.ops.max_pool import max_pool2d_loop
from minicv.ops.norm import batch_norm_loop, local_response_norm_loop
from minicv.ops.roi import roi_align_loop, roi_pool_loop
from minicv.ops.softmax import log_softmax_loop, softmax_loop
from minicv.ops.unpool import max_unpool2d_loop, unpool_bed_of_nails_loop, unpool_nearest_loop
from tests import harness
from tests.strict_device import StrictArray  # noqa: F401 - makes the device "strict" known

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}


def size(draw, most=4, least=1):
    """One number for both axes, or two."""
    number = st.integers(least, most)
    return draw(st.one_of(number, st.tuples(number, number)))


def numbers(draw, *shape):
    """Random numbers; often whole ones, which tie."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    return rng.integers(-2, 3, shape).astype(float) if draw(st.booleans()) else rng.standard_normal(shape)


def maps(draw, channels=None, most=13):
    batch, channels = draw(st.integers(0, 3)), channels or draw(st.integers(1, 5))
    return numbers(draw, batch, channels, draw(st.integers(1, most)), draw(st.integers(1, most)))


def conv2d(draw):
    groups = draw(st.integers(1, 3))
    C, O, kernel = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3)), (size(draw), size(draw))
    KH, KW = (k if isinstance(k, int) else k[0] for k in kernel)
    bias = numbers(draw, O) if draw(st.booleans()) else None
    options = {"stride": size(draw, 3), "padding": size(draw, 3, 0), "dilation": size(draw, 3), "groups": groups}
    return F.conv2d, conv2d_loop, [maps(draw, C), numbers(draw, O, C // groups, KH, KW), bias], options


def conv_transpose2d(draw):
    groups = draw(st.integers(1, 3))
    C, OG = groups * draw(st.integers(1, 3)), draw(st.integers(1, 3))
    bias = numbers(draw, OG * groups) if draw(st.booleans()) else None
    options = {"stride": size(draw, 3), "padding": size(draw, 2, 0), "output_padding": draw(st.integers(0, 2)),
               "dilation": size(draw, 3), "groups": groups}
    weight = numbers(draw, C, OG, draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    return F.conv_transpose2d, conv_transpose2d_loop, [maps(draw, C, 7), weight, bias], options


def max_pool2d(draw):
    options = {"kernel_size": size(draw), "stride": draw(st.none() | st.integers(1, 3)), "padding": size(draw, 2, 0),
               "dilation": size(draw, 3), "ceil_mode": draw(st.booleans()), "return_indices": draw(st.booleans())}
    return F.max_pool2d, max_pool2d_loop, [maps(draw)], options


def avg_pool2d(draw):
    options = {"kernel_size": size(draw), "stride": draw(st.none() | st.integers(1, 3)), "padding": size(draw, 2, 0),
               "ceil_mode": draw(st.booleans()), "count_include_pad": draw(st.booleans()),
               "divisor_override": draw(st.none() | st.integers(1, 9))}
    return F.avg_pool2d, avg_pool2d_loop, [maps(draw)], options


def adaptive_max_pool2d(draw):
    return (F.adaptive_max_pool2d, lambda x, output_size: adaptive_loop(x, output_size, np.max), [maps(draw)],
            {"output_size": size(draw, 8)})


def adaptive_avg_pool2d(draw):
    return (F.adaptive_avg_pool2d, lambda x, output_size: adaptive_loop(x, output_size, np.mean), [maps(draw)],
            {"output_size": size(draw, 8)})


def unpool_nearest(draw):
    return F.unpool_nearest, unpool_nearest_loop, [maps(draw, most=6)], {"scale_factor": size(draw, 3)}


def unpool_bed_of_nails(draw):
    return F.unpool_bed_of_nails, unpool_bed_of_nails_loop, [maps(draw, most=6)], {"scale_factor": size(draw, 3)}


def max_unpool2d(draw):
    x = maps(draw, most=6)
    indices = np.random.default_rng(0).integers(0, x[:1, :1].size * 4 if x.size else 1, x.shape)
    return F.max_unpool2d, max_unpool2d_loop, [x, indices], {"kernel_size": 2}


def batch_norm(draw):
    x = maps(draw)
    x = x + draw(st.sampled_from([0, 100.0]))
    C, training = x.shape[1], draw(st.booleans())
    training = training and len(x) > 0 and x.size > C
    mean, var = np.linspace(-1, 1, C), np.linspace(0.5, 2, C)
    options = {"training": training, "momentum": 0.3, "eps": draw(st.sampled_from([1e-5, 0.1]))}

    def op(x, w, b, **options):
        running = (backend.to_device(v.astype(x.dtype), x.device) for v in (mean, var))
        return F.batch_norm(x, *running, w, b, **options)

    def loop(x, w, b, **options):
        return batch_norm_loop(x, w, b, mean.copy(), var.copy(), **options)
    weights = [numbers(draw, C) if draw(st.booleans()) else None for _ in range(2)]
    return op, loop, [x, *weights], options


def local_response_norm(draw):
    options = {"size": draw(st.integers(1, 8)), "alpha": draw(st.sampled_from([1e-4, 2.0])),
               "beta": draw(st.sampled_from([0.5, 0.75, 1.0])), "k": draw(st.sampled_from([1.0, 2.0]))}
    return F.local_response_norm, local_response_norm_loop, [maps(draw)], options


def softmax(draw):
    x = 3 * maps(draw, most=6)
    return F.softmax, softmax_loop, [x], {"dim": draw(st.integers(-4, 3))}


def log_softmax(draw):
    x = 3 * maps(draw, most=6)
    return F.log_softmax, log_softmax_loop, [x], {"dim": draw(st.integers(-4, 3))}


def cross_entropy(draw):
    x = maps(draw, most=6)
    K, shape = x.shape[1], (len(x), *x.shape[2:])
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    target = np.where(rng.random(shape) < 0.3, 255, rng.integers(0, K, shape))
    options = {"ignore_index": 255, "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
               "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0]))}
    options |= {"weight": rng.random(K) + 0.1} if draw(st.booleans()) else {}
    options |= {"pixel_weight": rng.random(shape)} if draw(st.booleans()) else {}

    def op(x, target, **options):
        return F.cross_entropy(x, target, **{name: backend.to_device(v, x.device) if isinstance(v, np.ndarray) else v
                                             for name, v in options.items()})
    return op, cross_entropy_loop, [x, target], options


def interpolate(draw):
    mode = draw(st.sampled_from(["nearest", "bilinear"]))
    options = {"mode": mode, "size": size(draw, 20)}
    options |= {"align_corners": draw(st.booleans())} if mode == "bilinear" else {}
    return F.interpolate, interpolate_loop, [maps(draw)], options


def rois(draw, x):
    R, (N, _, H, W) = draw(st.integers(0, 5)), x.shape
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    corner = np.stack([rng.uniform(-6, W + 3, R), rng.uniform(-6, H + 3, R)], axis=1)
    boxes = np.concatenate([rng.integers(0, N, (R, 1)), corner, corner + rng.uniform(-3, 12, (R, 2))], axis=1)
    return np.concatenate([boxes[:, :1], np.round(2 * boxes[:, 1:]) / 2], axis=1) if draw(st.booleans()) else boxes


def some_maps(draw):
    x = maps(draw)
    return x if len(x) else numbers(draw, 1, *x.shape[1:])


def roi_pool(draw):
    x = some_maps(draw)
    options = {"boxes": rois(draw, x), "output_size": size(draw, 5), "spatial_scale": draw(st.sampled_from([1, 0.3]))}
    return F.roi_pool, roi_pool_loop, [x], options


def roi_align(draw):
    x = some_maps(draw)
    options = {"boxes": rois(draw, x), "output_size": size(draw, 5), "spatial_scale": draw(st.sampled_from([1, 0.3])),
               "sampling_ratio": draw(st.integers(-1, 3)), "aligned": draw(st.booleans())}
    return F.roi_align, roi_align_loop, [x], options


DRAWN = [conv2d, conv_transpose2d, max_pool2d, avg_pool2d, adaptive_max_pool2d, adaptive_avg_pool2d, unpool_nearest,
         unpool_bed_of_nails, max_unpool2d, batch_norm, local_response_norm, softmax, log_softmax, cross_entropy,
         interpolate, roi_pool, roi_align]
ELEMENTWISE = {"ReLU", "Sigmoid"}  # no arguments to draw: tests/ops has their cases


def run(op, arrays, options, dtype, device):
    """Results and gradients, as NumPy arrays; or what is refused, as text."""
    tensors = [None if a is None else Tensor(backend.to_device(a.astype(dtype) if a.dtype.kind == "f" else a, device),
                                             a.dtype.kind == "f") for a in arrays]
    try:
        result = op(*tensors, **options)
    except ValueError as error:
        return str(error)
    results = list(result) if isinstance(result, tuple) else [result]
    results[0].backward(harness.random_like(results[0].data))
    gradients = [t.grad for t in tensors if t is not None and t.grad is not None]
    return [t.numpy() for t in results] + [backend.to_numpy(g) for g in gradients]


@pytest.mark.parametrize("what", DRAWN, ids=lambda f: f.__name__)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_loops_plain_and_fast_agree(what, data):
    op, loop, arrays, options = what(data.draw)
    with minicv.plain():
        plain = run(op, arrays, options, "float64", "numpy")
    if not isinstance(plain, str) and max(a.size for a in arrays if a is not None) < 2000:
        expected = loop(*arrays, **options)
        expected = list(expected) if isinstance(expected, tuple) else [expected]
        harness.compare(plain[:len(expected)], [np.asarray(e) for e in expected], TOLERANCE["float64"], "loops")
    for dtype, device in (("float64", "numpy"), ("float32", "numpy"), ("float64", "strict")):
        fast = run(op, arrays, options, dtype, device)
        with minicv.plain():
            exact = run(op, arrays, options, dtype, device)
        if isinstance(fast, str) or isinstance(exact, str):
            assert fast == exact == plain
        else:
            harness.compare(fast, exact, TOLERANCE[dtype], f"{what.__name__} in {dtype} on {device}")


def test_every_fast_class_is_drawn():
    drawn = {f.__name__ for f in DRAWN}
    by_name = {"MaxPool2d": "max_pool2d", "AvgPool2d": "avg_pool2d", "Conv2d": "conv2d", "BatchNorm": "batch_norm",
               "ConvTranspose2d": "conv_transpose2d", "AdaptiveMaxPool2d": "adaptive_max_pool2d", "Softmax": "softmax",
               "AdaptiveAvgPool2d": "adaptive_avg_pool2d", "LocalResponseNorm": "local_response_norm",
               "LogSoftmax": "log_softmax", "CrossEntropy": "cross_entropy", "Interpolate": "interpolate",
               "Nearest": "interpolate", "RoIPool": "roi_pool", "RoIAlign": "roi_align", "MaxUnpool2d": "max_unpool2d",
               "UnpoolNearest": "unpool_nearest", "UnpoolBedOfNails": "unpool_bed_of_nails"}
    assert {f.__name__ for f in FAST} | {"MaxUnpool2d"} == {*by_name, *ELEMENTWISE} and set(by_name.values()) == drawn
