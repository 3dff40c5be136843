import re

import numpy as np
import pytest

import minicv
from minicv import models
from minicv.nn import init
from tests.models.detection.learning import PROPOSING, TINY, learned, step, truth
from tests.models.detection.test_fast_rcnn import batch
from tests.models.detection.training_step import (
    EVERY,
    check_dispatched,
    check_rpn_and_head_by_plain_pytorch,
    check_strict,
)

LOSSES = ["rpn_class", "rpn_box", "class", "box"]


def tiny(**options):
    minicv.seed(0)
    model = models.build("faster_rcnn", **{**TINY, **PROPOSING, **options})
    for layer in (model.rpn.conv, model.rpn.box_deltas, model.head.box_deltas):  # as drawn, their gradients are tiny
        layer.weight.data = 10 * layer.weight.data
    return model


def without_proposals(size=(48, 64)):
    x, targets = batch(size=size)
    for target in targets:
        target.proposals = None
    return x, targets


# ------------------------------------------------------------------------------------------------- the paper's numbers

# Fast R-CNN's 134,674,341 and the RPN's (9 512 + 1) 512 = 2,359,808; 513 18 = 9,234; 513 36 = 18,468
def test_paper_parameters_and_anchors():
    with init.blank():
        model = models.build("faster_rcnn", "paper")
    assert model.num_parameters() == 134674341 + 2359808 + 9234 + 18468 == 137061851
    assert len(model.rpn.anchors((37, 62))) == 37 * 62 * 9 == 20646
    c = model.rpn.config
    assert (c.post_nms_top_n, c.rpn_nms_iou, c.anchors_per_image, c.allowed_border) == ((2000, 300), 0.7, 256, 0)
    assert len(model.rpn.score.weight) + len(model.rpn.box_deltas.weight) == 54


# --------------------------------------------------------------------------------------------------------------- losses

@pytest.mark.parametrize("pool", ["pool", "align"])
def test_training_step_equals_plain_pytorch(pool, monkeypatch):
    check_rpn_and_head_by_plain_pytorch(tiny(roi_pooling=pool, **EVERY), *without_proposals(), monkeypatch, pool)


def test_training_step_of_the_compact_network_dispatched_to_pytorch():
    minicv.seed(0)
    found = check_dispatched(models.build("faster_rcnn", num_classes=3), *without_proposals((64, 80)))
    assert list(found)[:4] == LOSSES


def test_training_step_on_the_strict_device():
    check_strict(lambda: tiny(anchors_per_image=10 ** 5, rois_per_image=500), *without_proposals())
    model = tiny().to("strict")
    assert len(model.predict([np.zeros((3, 40, 50), np.float32)] * 2, batch=2)) == 2


def test_no_gradient_flows_through_the_proposals():
    """Sec. 3.2: the losses of the head do not reach the RPN's layers."""
    model, (x, targets) = tiny(), without_proposals()
    model.set_trainable("backbone", "head")
    found = step(model, x, targets)
    assert list(found)[:2] == ["class", "box"]
    assert not any(value.any() for name, value in found.items() if name.startswith("rpn."))
    assert found["backbone.features.0.weight"].any()


def test_images_without_objects_and_degenerate_objects():
    x, targets = without_proposals()
    for boxes in ([[]] * 3, [[[7, 7, 7, 9]], [[9, 9, 2, 2], [0, 0, 20, 20]], [[5, 5, 5, 5]]]):
        given = [truth(*(b for b in some if b)) for some in boxes]
        found = step(tiny(), x, given)
        assert all(np.isfinite(value).all() for value in found.values())


# ------------------------------------------------------------------------------------------------------------ proposals

def test_proposals_from_elsewhere_take_the_place_of_the_rpns(monkeypatch):
    model, (x, targets) = tiny(score_threshold=0.0), batch()
    seen, original = [], model.head_losses
    monkeypatch.setattr(model, "head_losses", lambda x, t, p: seen.append(p) or original(x, t, p))
    found = step(model, x, targets)
    assert list(found)[:4] == LOSSES  # the RPN learns all the same
    assert all((a == t.proposals).all() for a, t in zip(seen[0], targets, strict=True))
    image = np.random.default_rng(0).random((3, 48, 64), dtype=np.float32)
    assert len(model.predict([image], [np.zeros((0, 4))])[0]) == 0 < len(model.predict([image])[0])


def test_the_rpn_proposes_for_fast_rcnn():
    """``propose`` gives what ``predict`` uses, in pixels of the original image; with it a Fast R-CNN of the same
    weights finds the same."""
    model = tiny(score_threshold=0.0)
    fast = models.build("fast_rcnn", **TINY, score_threshold=0.0)
    fast.load_state_dict({n: v for n, v in model.state_dict().items() if not n.startswith("rpn.")})
    fast.proposer = model.propose
    image = np.random.default_rng(0).random((3, 96, 128), dtype=np.float32)
    boxes = model.propose(image)
    assert boxes.shape[1] == 4 and len(boxes) <= 30 < len(model.propose(image, training=True)) and boxes.max() > 64
    one, two = model.predict([image])[0], fast.predict([image])[0]
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4)
    np.testing.assert_allclose(one.boxes, two.boxes, atol=1e-2)
    assert model.training and model.rpn.training


# ------------------------------------------------------------------------------------------------ alternating training

def test_set_trainable_chooses_what_changes():
    model = tiny()

    def names(groups):
        chosen = {id(p) for group in groups for p in group["params"]}
        return {name.partition(".")[0] for name, p in model.named_parameters() if id(p) in chosen}

    assert names(model.parameter_groups()) == {"backbone", "head", "rpn"}
    model.set_trainable("backbone", "rpn")
    assert names(model.parameter_groups()) == {"backbone", "rpn"} and not model.backbone.frozen
    model.set_trainable("head")
    assert names(model.parameter_groups()) == {"head"} and model.backbone.frozen
    for parts in (("rpn", "mask"), ("backbone",), ()):
        with pytest.raises(ValueError, match=re.escape(
                f"FasterRCNN.set_trainable{parts}: choose of ('backbone', 'rpn', 'head'), at least 'rpn' or 'head'")):
            model.set_trainable(*parts)


@pytest.mark.slow  # 20 s
def test_learns_eight_images():
    assert learned("faster_rcnn", 300)["mAP@0.5"] > 0.95  # 225 steps depended on the last bits of sums
