import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.data.readers.detection import boxes_of_masks
from minicv.detection import box_iou
from minicv.models.detection.mask_rcnn import MaskHead, MaskHeadConfig, interpolation_matrix, mask_targets, paste_masks
from minicv.nn import init
from minicv.training import DetectionConfig, DetectionTask
from tests.models.detection.learning import PROPOSING, TINY, learned, step, truth
from tests.models.detection.training_step import (
    EVERY,
    check_dispatched,
    check_rpn_and_head_by_plain_pytorch,
    check_strict,
)

LOSSES = ["rpn_class", "rpn_box", "class", "box", "mask"]


def tiny(**options):
    minicv.seed(0)
    model = models.build("mask_rcnn", **{**TINY, **PROPOSING, "mask_roi_size": 4, "mask_width": 6, **options})
    for layer in (model.rpn.conv, model.rpn.box_deltas, model.head.box_deltas):  # as drawn, their gradients are tiny
        layer.weight.data = 10 * layer.weight.data
    return model


def batch(size=(48, 64)):
    targets = [truth([4, 4, 20, 30], [30, 10, 51, 40], masks=True, size=size), truth(masks=True, size=size),
               truth([10.3, 3.2, 30.1, 21.4], labels=[2], masks=True, size=size)]
    return np.random.default_rng(0).standard_normal((3, 3, *size)).astype(np.float32), targets


# ResNet-50 through layer3 8,543,296; fc6 (7 7 1024 + 1) 1024 = 51,381,248; fc7 1,049,600; scores 1025 81 = 83,025;
# offsets 1025 320 = 328,000; RPN 9,438,208 and, with 15 anchors, 1025 30 + 1025 60 = 92,250; mask head (9 1024 + 1) 256
# = 2,359,552, three times 590,080, 4 256 256 + 256 = 262,400 and 257 80 = 20,560
def test_paper_parameters():
    with init.blank():
        model = models.build("mask_rcnn", "paper")
    parts = 8543296 + 51381248 + 1049600 + 83025 + 328000 + 9438208 + 92250 + 2359552 + 3 * 590080 + 262400 + 20560
    assert model.num_parameters() == parts == 75328379
    assert len(model.rpn.base) == 15 and (model.config.roi_pooling, model.config.mask_roi_size) == ("align", 14)


def test_masks_of_28_from_14():
    head = MaskHead(8, 5, MaskHeadConfig(mask_width=4))
    assert len(head.convs) == 4
    assert head(Tensor(np.zeros((7, 8, 14, 14), np.float32))).shape == (7, 5, 28, 28)
    assert head(Tensor(np.zeros((0, 8, 14, 14), np.float32))).shape == (0, 5, 28, 28)


# --------------------------------------------------------------------------------------------------------------- losses

def test_mask_targets_by_hand():
    masks = np.zeros((2, 8, 8), bool)
    masks[1, 2:6, 2:6] = True
    # Of the box (2, 2, 10, 6): 4 x 4 in the mask, then 4 columns outside of it, two of them outside of the image.
    found = mask_targets(masks, np.array([1, 0]), np.array([[2, 2, 10, 6], [2, 2, 10, 6]], np.float32), 4)
    np.testing.assert_array_equal(found[0], [[1, 1, 0, 0]] * 4)
    assert not found[1].any()
    # the same size as the box: exactly the mask's pixels
    np.testing.assert_array_equal(mask_targets(masks, np.array([1]), np.array([[0, 0, 8, 8]], np.float32), 8)[0],
                                  masks[1])
    assert mask_targets(masks, np.zeros(0, int), np.zeros((0, 4), np.float32), 4).shape == (0, 4, 4)


def test_the_mask_loss_is_that_of_the_true_class_alone():
    """Sec. 3: masks of other classes may say what they like."""
    model, (x, targets) = tiny(), batch()
    loss = step(model, x, targets)["mask"]
    model.mask_head.mask.bias.data[1] = -50  # class 1: the second object of the first image
    assert step(model, x, targets)["mask"] > loss + 1
    for target in targets:
        target.labels[target.labels == 1] = 0
    with_other, model = step(model, x, targets)["mask"], tiny()
    assert with_other == pytest.approx(step(model, x, targets)["mask"], rel=1e-6)


@pytest.mark.parametrize("pool", ["pool", "align"])
def test_training_step_equals_plain_pytorch(pool, monkeypatch):
    check_rpn_and_head_by_plain_pytorch(tiny(roi_pooling=pool, **EVERY), *batch(), monkeypatch, pool, masks=4)


def test_training_step_of_the_compact_network_dispatched_to_pytorch():
    minicv.seed(0)
    found = check_dispatched(models.build("mask_rcnn", num_classes=3), *batch((64, 80)))
    assert list(found)[:5] == LOSSES


def test_training_step_on_the_strict_device():
    check_strict(lambda: tiny(anchors_per_image=10 ** 5, rois_per_image=500), *batch())
    found = tiny(score_threshold=0.0).to("strict").predict([np.zeros((3, 40, 50), np.float32)])[0]
    assert len(found) and found.masks.shape == (len(found), 40, 50)


def test_images_without_objects_and_without_masks():
    x, targets = batch()
    found = step(tiny(), x, [truth(masks=True) for _ in targets])
    assert all(np.isfinite(value).all() for value in found.values()) and found["mask"] == 0
    for target in targets:
        target.masks = None
    found = step(tiny(), x, targets)
    assert list(found)[:5] == LOSSES and found["mask"] == 0 and not found["mask_head.mask.weight"].any()


def test_an_image_without_masks_takes_no_part_in_the_mask_loss_and_the_others_keep_theirs():
    x, targets = batch()
    model = tiny(anchors_per_image=10 ** 5, rois_per_image=500, foreground_fraction=1.0)
    alone = step(model, x, [targets[0], targets[1], truth(masks=True)])
    targets[2].masks = None
    both = step(model, x, targets)
    assert both["mask"] == pytest.approx(alone["mask"], rel=1e-6) and both["mask"] > 0.1
    assert both["rpn_class"] != alone["rpn_class"] and both["box"] != alone["box"]  # its boxes are learned
    for name in both:
        if name.startswith("mask_head"):
            np.testing.assert_allclose(both[name], alone[name], rtol=0, atol=1e-7, err_msg=name)


def test_a_mask_that_lost_its_last_pixel_in_scaling_does_not_teach_that_there_is_nothing():
    x, targets = batch()
    model = tiny(anchors_per_image=10 ** 5, rois_per_image=500, foreground_fraction=1.0)
    one = step(model, x, [truth(masks=True), truth(masks=True), targets[2]])
    targets[0].masks[:] = False
    both = step(model, x, targets)
    assert both["mask"] == pytest.approx(one["mask"], rel=1e-6) and both["box"] != one["box"]


def test_proposals_from_elsewhere_leave_it_its_masks():
    """However the image is turned and scaled, masks and proposals go with it."""
    data = ShapeBoxes(4, (48, 64), keep=True)
    boxes = {s.image.tobytes(): s.boxes for s in data}
    config = DetectionConfig(turn=True, scale=1.3, jitter=0.2)
    model = tiny(num_classes=data.num_classes)
    task = DetectionTask(model, data, config, lambda image: boxes[image.tobytes()])
    for i in range(8):
        _, target = task.example(i)
        assert target.masks.shape == (len(target.boxes), *target.size)
        assert abs(boxes_of_masks(target.masks) - target.boxes).max() < 2  # a mask ends with a pixel, scaled
        np.testing.assert_allclose(box_iou(target.boxes, target.proposals).max(axis=1), 1, rtol=1e-5)
    x, targets = task.collate([task.example(0), task.example(1)])
    assert list(step(model, x.data, targets))[:5] == LOSSES


# ----------------------------------------------------------------------------------------------------------- prediction

def test_between_by_hand():
    # Two values in [0, 4]: their middles are 1 and 3. At 2 half of each; before the first middle, the first.
    np.testing.assert_allclose(interpolation_matrix(np.array([0.5, 1, 2, 2.5, 3.9]), 0, 4, 2),
                               [[1, 0], [1, 0], [0.5, 0.5], [0.25, 0.75], [0, 1]])


def test_paste_by_hand():
    masks = np.zeros((3, 2, 2), np.float32)
    masks[0], masks[1, :, 0], masks[2] = 1, 1, 1
    pasted = paste_masks(masks, np.array([[1, 1, 3, 4], [0, 0, 4, 4], [5, 2, 5, 2]], np.float32), (5, 6))
    expected = np.zeros((3, 5, 6), bool)
    expected[0, 1:4, 1:3] = True
    expected[1, 0:4, 0:2] = True  # left half: at 1.5 the weights are 3/4 and 1/4
    np.testing.assert_array_equal(pasted, expected)
    assert paste_masks(masks[:0], np.zeros((0, 4), np.float32), (5, 6)).shape == (0, 5, 6)
    # Middles are at 0.5, 1.5, ...: from 1.6 to 4.4 those of pixels 2 and 3, from 0.4 up to, without it, 2.5 of 0 and 1
    pasted = paste_masks(masks[:1], np.array([[1.6, 0.4, 4.4, 2.5]], np.float32), (5, 6))[0]
    assert np.argwhere(pasted).tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_pasting_inverts_the_targets():
    """A disc, cut out at 28 x 28 and pasted back, is nearly the disc: only pixels at its edge differ."""
    y, x = np.mgrid[:60, :80] + 0.5
    disc = (x - 40) ** 2 + (y - 30) ** 2 < 20 ** 2
    box = np.array([[19.3, 9.1, 60.8, 51.2]], np.float32)
    back = paste_masks(mask_targets(disc[None], np.array([0]), box, 28).astype(np.float32), box, (60, 80))[0]
    assert (back & disc).sum() / (back | disc).sum() > 0.95
    assert not (back ^ disc)[(abs(np.hypot(x - 40, y - 30) - 20)) > 2].any()


def test_predictions_have_masks_of_the_images_size():
    model = tiny(score_threshold=0.0, max_detections=5)
    images = [np.random.default_rng(n).random((3, 40 + n, 50), dtype=np.float32) for n in range(2)]
    for image, found in zip(images, model.predict(images, batch=2), strict=True):
        assert found.masks.shape == (len(found), *image.shape[1:]) and found.masks.dtype == bool and len(found) == 5
    assert model.predict(images[:1], [np.zeros((0, 4))])[0].masks.shape == (0, 40, 50)


@pytest.mark.slow  # 15 s
def test_learns_eight_images():
    found = learned("mask_rcnn", 150)
    assert found["mAP@0.5"] > 0.95 and found["mask AP50"] > 0.9
