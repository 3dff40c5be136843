import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor
from minicv.backend import seeded
from minicv.models.detection.config import PostprocessConfig
from minicv.models.detection.roi_heads import (
    BoxHead,
    RoIHeadConfig,
    RoISamplingConfig,
    roi_features,
    sample_batch_rois,
    sample_rois,
)
from tests.models.detection.learning import truth
from tests.oracle import require

SMALL = RoIHeadConfig(roi_size=3, hidden=5)


def sampling(count, fraction=0.25, background_iou=(0.1, 0.5)):
    return RoISamplingConfig(rois_per_image=count, foreground_fraction=fraction, background_iou=background_iou)


def test_sample_by_hand():
    # IoU with the object (0, 0, 10, 10): 80/100, 30/100, 5/100, 0
    proposals = np.array([[0, 0, 8, 10], [0, 0, 3, 10], [0, 0, 5, 1], [20, 20, 30, 30]], np.float32)
    target = truth([0, 0, 10, 10], labels=[2])
    rois = sample_rois(proposals, target, sampling(8), np.random.default_rng(0))
    assert rois.labels.tolist() == [3, 3, 0] and rois.num_foreground == 2  # class 2 is column 3; the object is first
    assert rois.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 8, 10], [0, 0, 3, 10]]
    rois = sample_rois(proposals, target, sampling(8, 0.25, (0.0, 0.5)), np.random.default_rng(0))
    assert rois.labels.tolist() == [3, 3, 0, 0, 0]


def test_without_objects_every_proposal_is_background():
    proposals = np.array([[0, 0, 8, 10], [20, 20, 30, 30]], np.float32)
    rois = sample_rois(proposals, truth(), sampling(8), np.random.default_rng(0))
    assert rois.labels.tolist() == [0, 0]
    assert len(sample_rois(proposals[:0], truth(), sampling(8), np.random.default_rng(0)).boxes) == 0


@given(st.integers(0, 9), st.integers(0, 40), st.integers(1, 32), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_hierarchical_sampling(objects, boxes, count, seed):
    """So many RoIs of each image, at most a quarter objects, each with its label and an IoU in the right range."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (objects + boxes, 2))
    every = np.concatenate([corner, corner + rng.uniform(1, 20, (objects + boxes, 2))], axis=1).astype(np.float32)
    target = truth(*every[:objects].tolist())
    with seeded(seed):
        found = sample_batch_rois([every[objects:], every[:0]], [target, truth()], sampling(count))
    rois = found[0]
    assert len(rois.boxes) <= count and rois.num_foreground <= count // 4
    assert (rois.labels[:rois.num_foreground] > 0).all() and not rois.labels[rois.num_foreground:].any()
    if objects:
        iou = minicv.detection.box_iou(rois.boxes, target.boxes)
        best = iou.max(axis=1)
        assert (best[:rois.num_foreground] >= 0.5).all() and (best[rois.num_foreground:] < 0.5).all()
        assert (rois.labels[:rois.num_foreground] == target.labels[rois.matched[:rois.num_foreground]] + 1).all()


def test_losses_equal_plain_pytorch_with_more_rois_than_images():
    torch, torch_boxes = require("torch"), require("tests.detection.torch_boxes")
    import torch.nn.functional as TF
    rng, K = np.random.default_rng(0), 3
    targets = [truth([2, 2, 20, 30], [30, 10, 60, 40]), truth(), truth([5, 5, 25, 20])]
    proposals = []
    for target in targets:
        noise = np.repeat(target.boxes, 4, axis=0) + rng.uniform(-3, 3, (4 * len(target.boxes), 4))
        corner = rng.uniform(0, 30, (9, 2))
        proposals.append(np.concatenate([noise, np.concatenate([corner, corner + 9], 1)]).astype(np.float32))
    with seeded(1):
        rois = sample_batch_rois(proposals, targets, sampling(10, 0.5, (0.0, 0.5)))
    R = sum(len(r.boxes) for r in rois)
    head = BoxHead(2, K, SMALL)
    score, box_deltas = rng.standard_normal((R, K + 1)), rng.standard_normal((R, K, 4))
    x, t = Tensor(score, requires_grad=True), Tensor(box_deltas, requires_grad=True)
    losses = head.losses(x, t, rois, targets)
    sum(losses.values()).backward()

    xs, ts = torch.tensor(score, requires_grad=True), torch.tensor(box_deltas, requires_grad=True)
    class_loss, box_loss, r = 0, 0, 0
    for roi, target in zip(rois, targets, strict=True):
        for box, u in zip(torch.from_numpy(roi.boxes).double(), roi.labels.tolist(), strict=True):
            class_loss = class_loss - torch.log_softmax(xs[r], 0)[u]
            if u:
                there = torch.from_numpy(target.boxes).double()
                g = torch_boxes.iou(box[None], there)[0].argmax()
                assert u == target.labels[g] + 1
                v = torch_boxes.encode(there[g], box) * torch.tensor([10, 10, 5, 5])
                box_loss = box_loss + TF.smooth_l1_loss(ts[r, u - 1], v, reduction="sum")
            r += 1
    assert R > 20 and r == R
    (class_loss / R + box_loss / R).backward()
    assert losses["class"].item() == pytest.approx(class_loss.item() / R, rel=1e-10)
    assert losses["box"].item() == pytest.approx(box_loss.item() / R, rel=1e-5)  # the targets are float32
    np.testing.assert_allclose(x.grad, xs.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(t.grad, ts.grad.numpy(), atol=1e-6)  # likewise


def test_no_roi_at_all_gives_losses_of_zero_and_no_nan():
    head = BoxHead(2, 3, SMALL)
    x = Tensor(np.ones((2, 2, 6, 6), np.float32), requires_grad=True)
    targets = [truth(), truth()]
    rois = sample_batch_rois([np.zeros((0, 4), np.float32)] * 2, targets, sampling(8))
    losses = head.losses(*head(roi_features(x, [r.boxes for r in rois], 3, 8, "pool")), rois, targets)
    assert {name: loss.item() for name, loss in losses.items()} == {"class": 0, "box": 0}
    sum(losses.values()).backward()
    assert not x.grad.any()


def test_detections_invert_the_targets():
    """Deltas that point exactly to the object, in the right class's column, give its box back."""
    head, target = BoxHead(2, 3, SMALL), truth([10, 8, 40, 30], labels=[1])
    proposals = [np.array([[12, 9, 37, 33]], np.float32), np.zeros((0, 4), np.float32)]
    v = minicv.detection.encode_boxes(target.boxes, proposals[0], (10, 10, 5, 5))
    score, box_deltas = np.zeros((1, 4), np.float32), np.zeros((1, 3, 4), np.float32)
    score[0, 2], box_deltas[0, 1] = 9, v[0]
    one, none = head.detections(Tensor(score), Tensor(box_deltas), proposals, [(48, 64)] * 2,
                                PostprocessConfig(max_detections=10))
    np.testing.assert_allclose(one.boxes, target.boxes, rtol=1e-5)
    assert one.labels.tolist() == [1] and len(none) == 0
    assert one.scores[0] == pytest.approx(np.exp(9) / (np.exp(9) + 3), rel=1e-5)


def test_initial_weights():
    """Fast R-CNN, sec. 2.3: deviations of 0.01 and 0.001, biases 0."""
    minicv.seed(0)
    head = BoxHead(8, 20, RoIHeadConfig(hidden=256))
    assert head.score.weight.data.std() == pytest.approx(0.01, rel=0.05)
    assert head.box_deltas.weight.data.std() == pytest.approx(0.001, rel=0.05)
    assert head.score.weight.shape == (21, 256) and head.box_deltas.weight.shape == (80, 256)
    assert not head.score.bias.data.any()
