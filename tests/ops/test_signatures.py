"""Arguments mean what they mean in PyTorch: names, order, defaults, and the corners of each."""
import inspect
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv.ops as F
from minicv import Tensor
from tests.oracle import require

# PyTorch's arguments that are left out on purpose; docs/conventions.md gives the reasons
LEFT_OUT = {"size_average", "reduce", "inplace", "out", "dtype", "_stacklevel", "rounding_mode", "antialias"}
LEFT_OUT_OF = {"mse_loss": {"weight"}, "add": {"alpha"}, "sub": {"alpha"}}
OWN = {"batch_norm": {"group"}, "cross_entropy": {"pixel_weight"}}  # PyTorch has no such arguments
OWN_OPS = {"astype", "center_crop", "crop", "expand", "getitem", "hinge_loss", "roi_align", "roi_pool",
           "spatial_pyramid_pool", "unpool_bed_of_nails", "unpool_nearest", "bilinear_kernel", "bilinear_weight",
           "conv_matrix", "cases"}
# No test imports torchvision's operators; their signatures are those of its ops/roi_pool.py, ops/roi_align.py and
# transforms/functional.py at https://github.com/pytorch/vision, where ``input`` of the crops is ``img``
TORCHVISIONS = {"roi_pool": "(input, boxes, output_size, spatial_scale=1.0)",
                "roi_align": "(input, boxes, output_size, spatial_scale=1.0, sampling_ratio=-1, aligned=False)",
                "crop": "(input, top, left, height, width)", "center_crop": "(input, output_size)"}


def torchs_arguments(name):
    """{name: default} of PyTorch's function, from its signature or the first line of its documentation."""
    torch = require("torch")
    function = getattr(torch.nn.functional, name, None) or getattr(torch, name)
    if name in ("max_pool2d", "adaptive_max_pool2d"):
        function = getattr(torch.nn.functional, name + "_with_indices")
    try:
        parameters = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in parameters}
    except ValueError:
        inside = re.match(r"\s*\w+\((.*?)\) ?->", function.__doc__).group(1)
        words = [w.split("=") for w in re.sub(r": [\w\[\], ]*?\]*(?=,|$)", "", inside).split(", ") if w != "*"]
        return {w[0]: w[1] if len(w) > 1 else inspect.Parameter.empty for w in words}


NAMES = sorted({f.__name__ for f in (getattr(F, n) for n in F.__all__) if inspect.isfunction(f)} - OWN_OPS)


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_pytorchs(name):
    theirs = [a for a in torchs_arguments(name) if a not in LEFT_OUT and a not in LEFT_OUT_OF.get(name, ())]
    ours = [a for a in inspect.signature(getattr(F, name)).parameters if a not in OWN.get(name, ())]
    if name in ("sum", "mean"):  # the first of two signatures in the documentation
        theirs += ["dim", "keepdim"]
    if name in ("concatenate", "squeeze"):  # whose documentation is not of the usual form
        theirs = {"concatenate": ["tensors", "dim"], "squeeze": ["input", "dim"]}[name]
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_pytorchs(name):
    ours = {p.name: p.default for p in inspect.signature(getattr(F, name)).parameters.values()}
    for argument, default in torchs_arguments(name).items():
        if argument in ours and not isinstance(default, str) and (name, argument) != ("pad", "value"):  # there None: 0
            assert ours[argument] == default or argument == "dim", argument  # softmax's None is deprecated


@pytest.mark.parametrize("name", TORCHVISIONS)
def test_arguments_and_defaults_are_torchvisions(name):
    parameters = inspect.signature(getattr(F, name)).parameters.values()
    assert str(inspect.Signature([p.replace(annotation=p.empty) for p in parameters])) == TORCHVISIONS[name]


# ---------------------------------------------------------------------------------------------------------
# A number has the axes 0 and -1
# ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dim", [0, -1, 1, -2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "sum", "mean", "amax", "amin", "squeeze", "unsqueeze",
                                  "flip"])
def test_axes_of_a_number_are_pytorchs(name, dim):
    torch = require("torch")
    x, t = Tensor(np.array(2.0), requires_grad=True), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    arguments = ((dim,),) if name == "flip" else (dim,)
    try:
        expected = getattr(torch, name)(t, *arguments)
    except IndexError:
        with pytest.raises(ValueError, match=name):
            getattr(F, name)(x, *arguments)
        return
    y = getattr(F, name)(x, *arguments)
    assert y.shape == tuple(expected.shape) and y.data.tolist() == expected.tolist()
    y.backward(np.ones(y.shape))
    expected.backward(torch.ones_like(expected))
    assert x.grad.tolist() == t.grad.tolist()


def test_a_number_is_moved_and_joined_as_pytorchs():
    x = Tensor(np.array(2.0))
    assert F.transpose(x, 0, -1).data.tolist() == F.permute(x, ()).data.tolist() == 2
    assert F.flatten(x).data.tolist() == F.stack([x]).data.tolist() == [2]
    with pytest.raises(ValueError, match=r"permute\(dims=\(0,\)\): must name each of the 0 axes"):
        F.permute(x, (0,))
    with pytest.raises(ValueError, match=r"concatenate: shapes \[\(\), \(\)\]: numbers have no axis .* use stack"):
        F.concatenate([x, x])


def test_squeeze_takes_several_axes_and_expand_keeps_one():
    torch = require("torch")
    x = np.ones((1, 2, 1, 3))
    for dim in ((0, 2), (0, 1), (-2,), ()):
        assert F.squeeze(Tensor(x), dim).shape == tuple(torch.from_numpy(x).squeeze(dim).shape)
    for size in ((4, -1, 5, -1), (2, 1, -1, -1, -1), (-1, 2, 7, 3)):
        assert F.expand(Tensor(x), size).shape == tuple(torch.from_numpy(x).expand(size).shape)
    with pytest.raises(ValueError, match=r"expand: \(1, 2, 1, 3\) does not broadcast to \(-1, 1, 2, 1, 3\)"):
        F.expand(Tensor(x), (-1, 1, 2, 1, 3))


# ---------------------------------------------------------------------------------------------------------
# Sizes in tuples
# ---------------------------------------------------------------------------------------------------------
sizes = st.sampled_from([(), (1,), (2,), [2], (2, 1), (1, 2, 3), None, 2, 2.0])
PLACES = [("conv2d", a) for a in ("stride", "padding", "dilation")] + [
    ("conv_transpose2d", a) for a in ("stride", "padding", "output_padding", "dilation")] + [
    ("max_pool2d", a) for a in ("kernel_size", "stride", "padding", "dilation")] + [
    ("avg_pool2d", a) for a in ("kernel_size", "stride", "padding")] + [
    ("adaptive_avg_pool2d", "output_size"), ("adaptive_max_pool2d", "output_size"), ("interpolate", "size"),
    ("interpolate", "scale_factor")]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(PLACES), sizes)
def test_sizes_in_tuples_are_pytorchs(place, size):
    torch, (name, argument) = require("torch"), place
    if size is None and argument in ("output_size", "size", "scale_factor"):
        return  # None keeps both sides here; in PyTorch (None, None) does
    x, w = np.random.default_rng(0).standard_normal((1, 2, 8, 9)), np.ones((2, 2, 3, 3))
    arrays = [x, w] if name.startswith("conv") else [x]
    options = {"kernel_size": 4} if name in ("max_pool2d", "avg_pool2d") else {}
    options |= {"stride": 3} if argument == "output_padding" else {}
    options[argument] = size
    try:
        expected = getattr(torch.nn.functional, name)(*map(torch.from_numpy, arrays), **options)
    except (RuntimeError, TypeError, ValueError):
        expected = None
    if expected is None:
        with pytest.raises(ValueError, match=rf"{name}.*({argument}|kernel)"):
            getattr(F, name)(*map(Tensor, arrays), **options)
        return
    np.testing.assert_allclose(getattr(F, name)(*map(Tensor, arrays), **options).data, expected.numpy(), rtol=1e-12)


# ---------------------------------------------------------------------------------------------------------
# Interpolation by the true ratio; running averages as Tensors; clamp by Tensors
# ---------------------------------------------------------------------------------------------------------
@settings(deadline=None, max_examples=60)
@given(st.sampled_from([0.7, 1.3, 2.3, (1.7, 0.6)]), st.sampled_from(["nearest", "bilinear"]),
       st.sampled_from([None, True, False]))
def test_recomputed_factors_are_pytorchs(factor, mode, recompute):
    torch = require("torch")
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 7))
    y = F.interpolate(Tensor(x), scale_factor=factor, mode=mode, recompute_scale_factor=recompute)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), scale_factor=factor, mode=mode,
                                               recompute_scale_factor=recompute)
    np.testing.assert_allclose(y.data, expected.numpy(), rtol=1e-12)


def test_nothing_to_recompute_without_a_factor():
    with pytest.raises(ValueError, match=r"recompute_scale_factor=True\): no scale_factor to recompute"):
        F.interpolate(Tensor(np.ones((1, 1, 2, 2))), size=3, recompute_scale_factor=True)


def test_running_averages_may_be_tensors():
    torch = require("torch")
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 3))
    ours, theirs = [Tensor(np.zeros(2)), Tensor(np.ones(2))], [torch.zeros(2).double(), torch.ones(2).double()]
    for training in (True, False):
        y = F.batch_norm(Tensor(x), *ours, training=training)
        expected = torch.nn.functional.batch_norm(torch.from_numpy(x), *theirs, training=training)
        np.testing.assert_allclose(y.data, expected.numpy(), rtol=1e-10, atol=1e-12)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.data, b.numpy(), rtol=1e-13)
    with pytest.raises(ValueError, match="running_mean requires a gradient, but is updated in place; pass"):
        F.batch_norm(Tensor(x), Tensor(np.zeros(2), requires_grad=True), ours[1])
    with pytest.raises(TypeError, match="running_var must be an array or a Tensor of floats, got int64"):
        F.batch_norm(Tensor(x), ours[0], np.ones(2, int))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_clamp_between_tensors_is_pytorchs(data):
    torch = require("torch")
    x_shape, other = data.draw(st.sampled_from([((3,), ()), ((2, 3), (3,)), ((2, 1), (3,)), ((), (2,)),
                                                ((0, 2), (1, 2))]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    which = data.draw(st.sampled_from(["min", "max", "both"]))
    values = {"x": rng.integers(-2, 3, x_shape).astype(float)}  # whole numbers tie
    for name in ("min", "max"):
        if which in (name, "both"):
            values[name] = np.asarray(rng.integers(-2, 3, other).astype(float))
    if values["x"].size and data.draw(st.booleans(), label="NaN"):
        values["x"].flat[0] = np.nan
    leaves = {name: Tensor(v, requires_grad=True) for name, v in values.items()}
    theirs = {name: torch.tensor(v, requires_grad=True) for name, v in values.items()}
    y = F.clamp(leaves["x"], leaves.get("min"), leaves.get("max"))
    expected = torch.clamp(theirs["x"], theirs.get("min"), theirs.get("max"))
    np.testing.assert_array_equal(y.data, expected.detach().numpy())
    gy = rng.standard_normal(y.shape)
    y.backward(np.asarray(gy))
    expected.backward(torch.tensor(gy))
    for name in values:
        np.testing.assert_allclose(leaves[name].grad, theirs[name].grad.numpy(), rtol=1e-13, atol=1e-15)


def test_clamp_needs_a_bound_and_takes_a_number_beside_a_tensor():
    x = Tensor(np.array([1.0, 2.0, 3.0]))
    assert F.clamp(x, Tensor(np.array(2.0)), 2.5).data.tolist() == [2, 2, 2.5]
    with pytest.raises(ValueError, match="clamp: min and max are both None; give at least one"):
        F.clamp(x)
