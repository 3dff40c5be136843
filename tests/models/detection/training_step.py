"""A training step of a detector, held against PyTorch's operations, plain PyTorch, and the strict device.

See ``models/same.py``.
"""
from __future__ import annotations

import dataclasses
from unittest import mock

import numpy as np
import pytest

import minicv
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.detection.linear_svm import LinearSVM
from minicv.detection.ridge import BoxRegressors
from minicv.models.detection import svm_detector
from minicv.models.detection.base import Target, postprocess
from tests.models.detection.learning import PROPOSING, step
from tests.models.detection.proposals import NearObjects
from tests.models.same import assert_same, doubled, numpys_and_the_strict_devices, ours_and_pytorchs
from tests.oracle import require

EVERY = {"rois_per_image": 1500, "foreground_fraction": 1.0, "anchors_per_image": 10 ** 5, "post_nms_top_n": (12, 6)}
"""Options with which every anchor and every proposal is used: there is nothing to draw"""


def check_dispatched(model, x, targets, tolerance=1e-9, floor=1e-3):
    """Losses and all gradients, by PyTorch's operations, in float64; the losses and gradients by name."""
    ours, theirs = ours_and_pytorchs(doubled(model), lambda model: step(model, x.astype(np.float64), targets))
    assert_same(ours, theirs, tolerance, floor)
    return theirs


def check_strict(make, x, targets, tolerance=1e-4):
    """Losses and all gradients, on the strict device, in float32: other sizes of blocks, other rounding."""
    here, there = numpys_and_the_strict_devices(make, lambda model: step(model, x, targets))
    assert_same(there, here, tolerance, 1e-2)


def check_plain_pytorch(model, x, targets, losses_of):
    """``losses_of(features, weights)``: the losses a second time, from VGG11's map and all weights by name."""
    torch = require("torch")
    from tests.models.detection import torch_rcnn
    ours = step(doubled(model), x.astype(np.float64), targets)
    w = {name: torch.tensor(p.data, requires_grad=True) for name, p in model.named_parameters()}
    losses = losses_of(torch_rcnn.backbone(torch.from_numpy(x).double(), w), w)
    sum(losses.values()).backward()
    assert list(ours) == [*losses, *w]
    for name, loss in losses.items():
        assert ours[name] == pytest.approx(loss.item(), rel=1e-6), name  # the targets of the offsets are float32
    for name, p in w.items():
        # before a batch norm a bias has no gradient but rounding: 1e-9 of the others'
        assert p.grad.any() or name.endswith("bias"), name
    assert_same({name: ours[name] for name in w}, {name: p.grad.numpy() for name, p in w.items()}, 1e-6, 1e-3)


def check_rpn_and_head_by_plain_pytorch(model, x, targets, monkeypatch, pool, masks=None):
    """Faster and Mask R-CNN, built with EVERY; the model's own proposals are the oracle's constants (sec. 3.2)."""
    made, original = [], model.rpn.select_proposals
    monkeypatch.setattr(model.rpn, "select_proposals", lambda *a, **k: made.append(original(*a, **k)) or made[0])

    def losses_of(features, w):
        import torch

        from tests.models.detection import torch_rcnn
        losses = torch_rcnn.rpn_losses(features, w, targets, PROPOSING["anchor_scales"], (0.5, 1.0, 2.0), 4, 10 ** 5)
        proposals = [torch.from_numpy(p).double() for p in made[0]]
        return losses | torch_rcnn.head_losses(features, w, targets, proposals, 0.0, 4, 3, pool, masks=masks)

    check_plain_pytorch(model, x, targets, losses_of)


# ------------------------------------------------------------------------------------- R-CNN and SPPNet, with SVMs

def image_batch(side=40, count=2):
    """A batch of generated images, and their targets, each with proposals near its objects and elsewhere."""
    data = ShapeBoxes(count, side, seed=3, objects=(1, 3), class_names=("disc", "square", "cross"))
    data = [data[i] for i in range(count)]
    proposer = NearObjects(data, 4, 6)
    return np.stack([s.image for s in data]) - np.float32(0.5), [
        Target(s.boxes, s.labels, s.image.shape[1:], proposals=proposer(s.image)) for s in data]


def check_with_svms(make, hidden):
    """A training step, by PyTorch's operations and on the strict device, where SVMs and regressors find the same."""
    x, targets = image_batch()
    model = make()
    theirs = step(doubled(model), x.astype(np.float64), targets)
    assert theirs["class"] > 0.5
    # of a bias before batch norm, whose gradient is rounding, the error counts beside those of the others
    check_dispatched(model, x, targets, 1e-8, 1e-2 * max(abs(g).max() for g in theirs.values()))
    detections = []

    def without_nms(boxes, scores, size, config):
        return postprocess(boxes, scores, size, dataclasses.replace(config, nms_iou=1.0, max_detections=scores.size))

    def step_and_prediction(model):
        found = step(model, x, targets)
        model.set_svms([LinearSVM(np.full(hidden, s, np.float32), 1.0) for s in (0.01, -0.01, 0)], 1.0)
        n = model.box_weight.shape[1]
        model.set_box_regressors(BoxRegressors(np.full((3, n, 4), 0.06 / n, "f4"), np.full((3, 4), 0.1, "f4")))
        with mock.patch.object(svm_detector, "postprocess", without_nms):  # NMS of near scores hinges on rounding
            detections.extend(model.predict([x[0] + np.float32(0.5)], [targets[0].proposals]))
        return found

    here, there = numpys_and_the_strict_devices(make, step_and_prediction)
    assert_same(there, here, 1e-3, 1e-2 * max(abs(g).max() for g in here.values()))  # float32 through batch norm
    assert len(detections[0]) == len(detections[1]) > 3
    for these, those in (detections, detections[::-1]):  # equal scores may change places
        for label, box in zip(these.labels, these.boxes, strict=True):
            assert abs(those.boxes[those.labels == label] - box).max(axis=1).min() < 0.05


def check_no_objects_and_degenerate_boxes(model, hidden):
    """Nothing is not a number: images without objects, without proposals, boxes without area or outside."""
    x = np.random.default_rng(0).random((3, 3, 40, 56)).astype(np.float32)
    none, flat = np.zeros((0, 4), np.float32), np.array([[5, 5, 5, 9], [9, 9, 3, 3], [60, 70, 80, 90]], np.float32)
    targets = [Target(none, np.zeros(0, np.int64), (40, 56), proposals=none),
               Target(none, np.zeros(0, np.int64), (40, 56), proposals=flat),
               Target(flat[:1], np.array([1]), (40, 56), proposals=flat)]
    loss = model.losses(minicv.Tensor(x), targets)["class"]
    loss.backward()
    assert np.isfinite(loss.item()) and all(np.isfinite(p.grad).all() for p in model.parameters())
    model.set_svms([LinearSVM(np.zeros(hidden, np.float32), 3.0)] * 3, 1.0)
    empty, found = model.predict([x[0], x[1]], [none, flat])
    assert len(empty) == 0 and np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()
    assert len(model.predict([np.zeros((3, 1, 1), np.float32)], [flat])) <= 9
