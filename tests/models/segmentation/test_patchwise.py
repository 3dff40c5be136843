import numpy as np
import pytest

import minicv
from minicv import Tensor, nn
from minicv.data import mirror_pad
from minicv.models.segmentation.convolutionalize import convolutionalize
from minicv.models.segmentation.patchwise import PatchNet, PixelwiseNet, sampled, slide
from minicv.models.segmentation.shift_and_stitch import shift_and_stitch
from minicv.models.summary import summarize
from tests.models.segmentation.dispatched import check_dispatched, check_strict_step


def test_sides_of_the_papers_network():
    """N4 of Ciresan et al.: 95 -> 92 -> 46 -> 42 -> 21 -> 18 -> 9 -> 6 -> 3, 48 maps each, then 200 and 2."""
    with nn.init.blank():
        net = PatchNet(**PatchNet.PRESETS["paper"], in_channels=1)
    sides = [row.shape[1] for row in summarize(net, (1, 95, 95)).rows if len(row.shape) == 3]
    assert sides == [92, 46, 42, 21, 18, 9, 6, 3]
    # 48 maps of 1 * 16 + 1; 48 * 25 + 1; twice 48 * 16 + 1; 432 * 200 + 200; 200 * 2 + 2
    assert net.num_parameters() == 48 * (17 + 1201 + 2 * 769) + 86_600 + 402


@pytest.mark.parametrize("patch", [5, 9, 17, 25, 33, 49])
def test_naive_stitched_and_rarefied_scores_agree(patch):
    minicv.seed(0)
    net = PatchNet(3, 1, patch=patch, width=3, hidden=5)
    side = patch + net.stride + 2
    x = Tensor(np.random.default_rng(0).standard_normal((2, 1, side, side + 1)).astype(np.float32))
    with minicv.no_grad():
        naive = slide(net, x, patch, batch=7).numpy()
        grid = convolutionalize(net)
        assert naive.shape == (2, 3, side - patch + 1, side - patch + 2)
        np.testing.assert_allclose(slide(net, x, patch, net.stride).numpy(), grid(x).numpy(), rtol=0, atol=1e-5)
        np.testing.assert_allclose(shift_and_stitch(grid, x, net.stride).numpy(), naive, rtol=0, atol=1e-5)
        np.testing.assert_allclose(net.dense()(x).numpy(), naive, rtol=0, atol=1e-5)


def test_mirrored_by_half_a_patch_every_pixel_has_a_score():
    image = np.random.default_rng(0).random((1, 6, 7)).astype(np.float32)
    x = Tensor(mirror_pad(image, 4, 4, 4, 4)[None])
    center = lambda p: p[:, :, 4:5, 4:5].reshape(-1, 1)  # noqa: E731 - a "network" that returns the center pixel
    np.testing.assert_array_equal(slide(center, x, 9).numpy()[0], image)


@pytest.mark.parametrize("train", [True, False])
def test_pixelwise_scores_and_gradients_equal_those_by_pytorchs_operations(train):
    minicv.seed(0)
    check_dispatched(PixelwiseNet(3, 2, width=4, depth=3), (2, 2, 9, 12), train)


def test_pixelwise_on_the_strict_device():
    check_strict_step(lambda: PixelwiseNet(3, 2, width=4, depth=2), (2, 2, 9, 8))


def test_pixelwise_receptive_field():
    """2 depth + 1; the size is kept, even of a single pixel."""
    net = PixelwiseNet(3, 2, width=2, depth=4)
    rows = summarize(net, (2, 20, 31)).rows
    assert rows[-1].field == (9, 9) and rows[-1].shape == (3, 20, 31)
    assert net.eval()(Tensor(np.zeros((1, 2, 1, 1), np.float32))).shape == (1, 3, 1, 1)


def test_sampled_keeps_a_share():
    mask = sampled((4, 50, 50), 0.3, np.random.default_rng(0))
    assert mask.dtype == np.float32 and set(np.unique(mask)) == {0, 1}
    assert abs(mask.mean() - 0.3) < 0.02  # 10,000 pixels: a standard deviation of 0.0046
    assert sampled((1, 2, 2), 1e-9, np.random.default_rng(0)).sum() == 1
    assert sampled((1, 2, 2), 1, np.random.default_rng(0)).all()


def test_a_sampled_loss_is_the_loss_of_the_patches():
    """FCN, sec. 3.4: whole-image training with all other losses left out equals training on those patches."""
    minicv.seed(0)
    net = PatchNet(3, 1, patch=9, width=3, hidden=4)
    rng = np.random.default_rng(0)
    x, label = rng.standard_normal((1, 1, 14, 15)).astype("f4"), rng.integers(0, 3, (1, 6, 7))
    mask = sampled(label.shape, 0.2, rng)
    whole = minicv.ops.cross_entropy(net.dense()(Tensor(x)), label, pixel_weight=mask)
    whole.backward()
    gradient = net.features[0].weight.grad
    net.zero_grad()
    places = np.argwhere(mask[0])
    patches = np.concatenate([x[:, :, i:i + 9, j:j + 9] for i, j in places])
    by_patches = minicv.ops.cross_entropy(net(Tensor(patches)), label[0][tuple(places.T)])
    by_patches.backward()
    assert len(places) > 3 and abs(whole.item() - by_patches.item()) < 1e-5
    np.testing.assert_allclose(gradient, net.features[0].weight.grad, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: PatchNet(patch=32), r"PatchNet\(patch=32\): the side must be odd"),
    (lambda: PatchNet(patch=3), r"PatchNet\(patch=3\).*at least 5"),
    (lambda: slide(None, Tensor(np.zeros((1, 1, 8, 20))), 9), r"slide\(patch=9\): the images are 8x20"),
    (lambda: PixelwiseNet(depth=0), r"PixelwiseNet\(num_classes=2, in_channels=3, width=16, depth=0\)"),
    (lambda: sampled((2, 2), 0, None), r"sampled\(p=0\)"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
