import numpy as np
import pytest

import minicv
from minicv import Tensor
from minicv.backend import seeded
from minicv.models.detection.rpn import RPN, RPNConfig
from tests.models.detection.learning import truth
from tests.oracle import require


def rpn(channels=4, stride=8, **options):
    minicv.seed(0)
    return RPN(channels, stride, RPNConfig(**{"anchor_scales": (8.0, 16.0), "anchor_ratios": (0.5, 1.0),
                                             "allowed_border": float("inf"), "rpn_min_size": 1.0, **options}))


def test_nine_anchors_and_54_channels():
    """Sec. 3.1: k = 9, 2k scores and 4k box deltas at each place."""
    net = RPN(512, 16, RPNConfig())
    assert len(net.base) == 9
    assert (len(net.score.weight), len(net.box_deltas.weight)) == (18, 36)
    assert len(net.score.weight) + len(net.box_deltas.weight) == 54
    assert net.conv.weight.shape == (512, 512, 3, 3)
    assert net.anchors((37, 62)).shape == (37 * 62 * 9, 4)
    assert abs(net.conv.weight.data.std() - 0.01) < 1e-4  # sec. 3.1.3


def test_scores_and_box_deltas_belong_to_their_anchors():
    """Anchor a at row i, column j: the channels 2a, 2a + 1 and 4a ... 4a + 3 at that place, number (i W + j) k + a."""
    net, x = rpn(), Tensor(np.random.default_rng(0).standard_normal((2, 4, 3, 5)).astype(np.float32))
    score, box_deltas = net(x)
    h = minicv.ops.relu(net.conv(x))
    maps, deltas = net.score(h).data, net.box_deltas(h).data
    assert score.shape == (2, 60, 2) and box_deltas.shape == (2, 60, 4)
    for n, i, j, a in ((0, 0, 0, 0), (1, 2, 4, 3), (0, 1, 3, 2)):
        r = (i * 5 + j) * 4 + a
        np.testing.assert_array_equal(score.data[n, r], maps[n, 2 * a:2 * a + 2, i, j])
        np.testing.assert_array_equal(box_deltas.data[n, r], deltas[n, 4 * a:4 * a + 4, i, j])


def test_targets_by_hand():
    # One square anchor of 8 at each of 2 x 2 places, 8 apart: (0,0)-(8,8), (8,0)-(16,8), ...
    net = rpn(anchor_scales=(8.0,), anchor_ratios=(1.0,), allowed_border=0.0, anchors_per_image=4)
    anchors = net.anchors((2, 2))
    np.testing.assert_allclose(anchors, [[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]])
    # IoU with (8, 0, 16, 6): 48/64 = 0.75 for anchor 1, 0 for the others
    found = net.targets(anchors, truth([8, 0, 16, 6], size=(16, 16)), np.random.default_rng(0))
    assert found.labels.tolist() == [0, 1, 0, 0] and found.positive.tolist() == [1]
    assert found.negative.tolist() == [0, 2, 3]
    np.testing.assert_allclose(found.box_deltas, [[0, -1 / 8, 0, np.log(6 / 8)]], atol=1e-6)  # (12, 3) from (12, 4)
    # In an image 15 wide, anchors 1 and 3 cross the border and are not used, so the best that is left is positive.
    found = net.targets(anchors, truth([6, 0, 14, 8], size=(16, 15)), np.random.default_rng(0))
    assert found.labels.tolist() == [1, -1, 0, -1]  # 2 of 14 columns in common, the highest there is


def test_an_image_without_objects_has_negatives_only():
    net = rpn()
    anchors = net.anchors((6, 8))
    found = net.targets(anchors, truth(), np.random.default_rng(0))
    assert not found.labels.any() and len(found.positive) == 0 and found.box_deltas.shape == (0, 4)
    score, box_deltas = net(Tensor(np.ones((1, 4, 6, 8), np.float32)))
    losses = net.losses(score, box_deltas, anchors, [truth()])
    assert losses["rpn_box"].item() == 0 and losses["rpn_class"].item() == pytest.approx(
        np.log(2) * min(192, 256) / 256, rel=0.05)


def test_at_most_half_of_256_are_positive():
    net = rpn(anchor_scales=(8.0,) * 300, anchor_ratios=(1.0,))
    found = net.targets(net.anchors((1, 2)), truth([0, 0, 8, 8], size=(8, 16)), np.random.default_rng(0))
    assert (found.labels == 1).sum() == 300 and len(found.positive) == len(found.negative) == 128


def test_losses_by_hand():
    """Eq. (1): N_cls = 256 anchors, lambda = 10, N_reg = 4 places."""
    net = rpn(anchor_scales=(8.0,), anchor_ratios=(1.0,), allowed_border=0.0)
    anchors, target = net.anchors((2, 2)), truth([8, 0, 16, 6], size=(16, 16))
    score = np.zeros((1, 4, 2), np.float32)
    score[0, 1, 1] = 2.0
    losses = net.losses(Tensor(score), Tensor(np.zeros((1, 4, 4), np.float32)), anchors, [target])
    assert losses["rpn_class"].item() == pytest.approx((3 * np.log(2) + np.log(1 + np.exp(-2))) / 256, rel=1e-5)
    # deltas 0 against (0, -1/8, 0, log 3/4): both beyond 1/9, so |d| - 1/18
    expected = 10 / 4 * ((1 / 8 - 1 / 18) + (-np.log(3 / 4) - 1 / 18))
    assert losses["rpn_box"].item() == pytest.approx(expected, rel=1e-5)


def test_losses_are_means_over_the_images():
    net, rng = rpn(anchors_per_image=1000), np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 4, 6, 8)).astype(np.float32))
    targets, anchors = [truth([4, 4, 20, 12]), truth()], net.anchors((6, 8))
    score, box_deltas = net(x)
    both = net.losses(score, box_deltas, anchors, targets)
    one, two = (net.losses(score[n:n + 1], box_deltas[n:n + 1], anchors, [targets[n]]) for n in range(2))
    for name, value in both.items():
        assert value.item() == pytest.approx((one[name].item() + two[name].item()) / 2, rel=1e-5)


def test_the_sample_comes_from_minicvs_generator():
    net, target = rpn(anchors_per_image=8), truth([4, 4, 20, 12])
    anchors = net.anchors((6, 8))
    score, box_deltas = net(Tensor(np.random.default_rng(0).standard_normal((1, 4, 6, 8)).astype(np.float32)))

    def loss(seed):
        with seeded(seed):
            return net.losses(score, box_deltas, anchors, [target])["rpn_class"].item()

    assert loss(0) == loss(0) != loss(1)


def test_proposals_equal_plain_pytorch():
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    net, rng = rpn(pre_nms_top_n=(40, 40), post_nms_top_n=(12, 5), rpn_min_size=6.0), np.random.default_rng(0)
    anchors, size = net.anchors((6, 8)), (45, 60)
    score, box_deltas = rng.standard_normal((1, 192, 2)), 0.4 * rng.standard_normal((1, 192, 4))
    for training, most in ((True, 12), (False, 5)):
        mine, = net.select_proposals(Tensor(score), Tensor(box_deltas), anchors, [size], training)
        p = torch.from_numpy(score[0]).softmax(1)[:, 1]
        top = p.argsort(descending=True)[:40]
        boxes = torch_boxes.decode(torch.from_numpy(box_deltas[0])[top], torch.from_numpy(anchors).double()[top])
        boxes = torch.stack([boxes[:, k].clamp(0, (60, 45)[k % 2]) for k in range(4)], 1)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= 6).all(1)
        boxes, p = boxes[large], p[top][large]
        expected = boxes[torch_boxes.nms(boxes, p, 0.7)][:most]
        np.testing.assert_allclose(mine, expected.numpy(), atol=1e-4)  # deltas are float32, boxes about 50
        assert mine.dtype == np.float32


def test_no_proposal_is_left():
    net = rpn(rpn_min_size=1000.0)
    found, = net.select_proposals(Tensor(np.zeros((1, 192, 2))), Tensor(np.zeros((1, 192, 4))), net.anchors((6, 8)),
                                  [(48, 64)], True)
    assert found.shape == (0, 4)


def test_degenerate_objects_and_wild_box_deltas_make_no_nan():
    net = rpn()
    anchors = net.anchors((6, 8))
    target = truth([5, 5, 5, 9], [7, 7, 3, 2], [0, 0, 64, 48])
    score = Tensor(np.zeros((1, 192, 2), np.float32), requires_grad=True)
    box_deltas = Tensor(np.full((1, 192, 4), 90, np.float32), requires_grad=True)
    losses = net.losses(score, box_deltas, anchors, [target])
    sum(losses.values()).backward()
    assert all(np.isfinite(loss.item()) for loss in losses.values())
    assert np.isfinite(score.grad).all() and np.isfinite(box_deltas.grad).all()
    assert np.isfinite(net.select_proposals(score, box_deltas, anchors, [(48, 64)], True)[0]).all()
