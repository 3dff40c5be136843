import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.detection import encode_boxes
from minicv.detection.linear_svm import LinearSVM
from minicv.detection.ridge import BoxRegressors
from minicv.models.detection.rcnn import warp, with_context
from minicv.nn import init
from minicv.training.detection import DetectionConfig, evaluate_detector
from minicv.training.svm import fine_tune, finish_training, fit_svm_detector
from tests.models.detection.proposals import NearObjects
from tests.models.detection.training_step import check_no_objects_and_degenerate_boxes, check_with_svms, image_batch
from tests.oracle import require

SMALL = {"warp_size": 48, "context": 3.4, "rois_per_image": 32, "backbone_options": {
    "depth": 11, "width": 8, "hidden": 64, "pooled": 1, "batch_norm": True, "dropout": 0.0}}


def small(num_classes=3, **options):
    minicv.seed(0)
    return models.build("rcnn", num_classes=num_classes, **{**SMALL, **options})


# ------------------------------------------------------------------------------------------------- the paper's numbers

def test_paper_preset_is_alexnet_with_a_new_last_layer():
    with init.blank():
        model = models.build("rcnn", "paper")
    # AlexNet's 61,100,840 without its last layer of 4096 * 1000 + 1000, with one of 4096 * 21 + 21
    assert model.num_parameters() == 61_100_840 - 4_097_000 + 86_037 == 57_089_877
    assert model.box_weight.shape == (20, 9216, 4) and model.svm_weight.shape == (20, 4096)
    assert (model.config.warp_size, model.config.context) == (227, 16)
    with minicv.no_grad():
        assert model.pool5(Tensor(np.zeros((1, 3, 300, 300), "f4")), [np.array([[9, 9, 50, 90]], "f4")]).shape == (
            1, 9216)


# ------------------------------------------------------------------------------------------------------------ the warp

def test_context_by_hand():
    # 227 pixels, 16 of context: the box is the middle 195. A box of 39 x 78 grows by 227/195: to 45.4 x 90.8.
    grown = with_context(np.array([[100, 100, 139, 178]], np.float32), 227, 16)
    np.testing.assert_allclose(grown, [[119.5 - 22.7, 139 - 45.4, 119.5 + 22.7, 139 + 45.4]], rtol=1e-6)
    # a box without area is taken for one pixel
    np.testing.assert_allclose(with_context(np.array([[5, 5, 5, 5]], np.float32), 8, 2), [[4, 4, 6, 6]])


def test_warp_without_scaling_is_a_window_of_the_image():
    x = np.random.default_rng(0).random((2, 3, 20, 20)).astype(np.float32)
    boxes = [np.array([[5, 6, 9, 10]], np.float32), np.array([[3, 4, 7, 8], [0, 0, 4, 4]], np.float32)]
    y = warp(Tensor(x), boxes, 8, 2).numpy()
    np.testing.assert_allclose(y[0], x[0, :, 4:12, 3:11], rtol=1e-5)
    np.testing.assert_allclose(y[1], x[1, :, 2:10, 1:9], rtol=1e-5)
    # two pixels outside: one is the border's, being less than a pixel away, the next is 0
    np.testing.assert_allclose(y[2][:, 2:, 2:], x[1, :, :6, :6], rtol=1e-5)
    assert not y[2][:, 0].any() and not y[2][:, :, 0].any()


def test_warp_ignores_the_ratio_and_scales_context_with_the_box():
    """An image that says where each pixel is: x = column, y = row."""
    H, W = 60, 80
    x = np.stack([np.tile(np.arange(W) + 0.5, (H, 1)), np.tile(np.arange(H)[:, None] + 0.5, (1, W))])[None]
    y = warp(Tensor(x), [np.array([[20, 20, 60, 30]], np.float64)], 12, 2).numpy()[0]
    # 40 x 10 pixels on 8 x 8: 5 columns and 1.25 rows each; the context begins 10 columns and 2.5 rows before
    np.testing.assert_allclose(y[0, 5], 10 + 5 * (np.arange(12) + 0.5), rtol=1e-6)
    np.testing.assert_allclose(y[1, :, 5], 17.5 + 1.25 * (np.arange(12) + 0.5), rtol=1e-6)


def test_warp_equals_pytorchs_grid_sample():
    torch = require("torch")
    x = np.random.default_rng(0).random((1, 3, 40, 50))
    box = np.array([[10.0, 8.0, 22.0, 27.0]])  # enlarged, so that each pixel of the warp is one bilinear sample
    y = warp(Tensor(x), [box], 40, 4).numpy()
    x1, y1, x2, y2 = with_context(box, 40, 4)[0].astype(float)
    theta = torch.tensor([[[(x2 - x1) / 50, 0, (x1 + x2) / 50 - 1], [0, (y2 - y1) / 40, (y1 + y2) / 40 - 1]]])
    grid = torch.nn.functional.affine_grid(theta, (1, 3, 40, 40), align_corners=False).double()
    expected = torch.nn.functional.grid_sample(torch.tensor(x), grid, align_corners=False).numpy()
    np.testing.assert_allclose(y, expected, atol=1e-5)  # boxes are float32


# ------------------------------------------------------------------------------------------------------ three trainings

def test_training_step_equals_pytorchs_operations_and_the_strict_devices():
    check_with_svms(lambda: small(rois_per_image=8), 64)


def test_the_loss_is_of_128_boxes_a_quarter_of_them_objects(monkeypatch):
    model, (x, truth) = small(rois_per_image=8), image_batch()
    seen = []
    monkeypatch.setattr(model, "classify", lambda f: seen.append(len(f)) or type(model).classify(model, f))
    model.losses(Tensor(x), truth)
    assert seen == [16]  # 2 of each image's 8 are objects, the others background: there is enough of both


@pytest.mark.parametrize("svm", [True, False])
def test_images_without_objects_or_proposals_and_degenerate_boxes(svm):
    check_no_objects_and_degenerate_boxes(small(svm=svm), 64)


def test_scores_and_boxes_of_a_detection_by_hand():
    """One proposal; SVMs that only have a bias; a regression that moves class 1 by half its width to the right."""
    model = small()
    model.set_svms([LinearSVM(np.zeros(64, np.float32), b) for b in (-1.5, 0.5, -0.5)], 1.0)
    bias = np.zeros((3, 4), np.float32)
    bias[1] = encode_boxes(np.array([[20, 10, 40, 30]], "f4"), np.array([[10, 10, 30, 30]], "f4"))[0]
    model.set_box_regressors(BoxRegressors(np.zeros((3, 64, 4), np.float32), bias))
    found, = model.predict([np.zeros((3, 60, 60), np.float32)], [np.array([[10, 10, 30, 30]], np.float32)])
    assert found.labels.tolist() == [1, 2] and found.scores.tolist() == [0.5, -0.5]  # -1.5 is below the margin
    np.testing.assert_allclose(found.boxes, [[20, 10, 40, 30], [10, 10, 30, 30]], rtol=1e-5)


def test_before_its_svms_are_trained_it_finds_nothing_and_a_checkpoint_keeps_them():
    model, x = small(), np.random.default_rng(0).random((3, 40, 40)).astype(np.float32)
    box = np.array([[5, 5, 30, 30]], np.float32)
    assert len(model.predict([x], [box])[0]) == 0
    model.set_svms([LinearSVM(np.zeros(64, np.float32), 0.5)] * 3, 2.0)
    other = small()
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.predict([x], [box])[0].boxes, model.predict([x], [box])[0].boxes)
    assert len(other.predict([x], [box])[0]) == 3 and other.svm_scale[0] == 2


@pytest.mark.parametrize(("options", "message"), [
    ({"backbone": "lenet"}, r"backbone='lenet': choose one of alexnet, vgg16"),
    ({"context": 24}, r"RCNNConfig\(warp_size=48, context=24\): the context must be at least 0 and less"),
    ({"rois_per_image": 0}, r"RCNNConfig\(rois_per_image=0\): .* at least 1"),
    ({"proposal_max_size": 0}, r"RCNNConfig\(proposal_max_size=0\): .* at least 1"),
])
def test_options_that_do_not_work(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_what_cannot_be():
    model, (x, truth) = small(), image_batch()
    truth[1].proposals = None
    with pytest.raises(ValueError, match="RCNN.losses: the targets have no proposals; give DetectionTask a proposer"):
        model.losses(Tensor(x), truth)
    with pytest.raises(ValueError, match=r"RCNN: svm_weight must be \(3, 64\), got \(2, 64\)"):
        model.set_svms([LinearSVM(np.zeros(64, np.float32), 0.0)] * 2, 1.0)


@pytest.mark.slow
def test_it_learns_eight_images_by_heart(tmp_path):
    data = ShapeBoxes(8, 96, seed=1, objects=(1, 3), crowding=0.0)
    model, proposer = small(5), NearObjects(data)
    config = DetectionConfig(steps=150, batch=2, optimizer="adam", lr=0.002, weight_decay=0.0, flip=False, warmup=10)
    fine_tune(model, data, config, proposer)
    costs = fit_svm_detector(model, data, tmp_path, proposer)
    assert costs.boxes == sum(len(proposer(data[i].image)) + len(data[i].boxes) for i in range(8))
    assert evaluate_detector(model, data, proposer=proposer)["mAP@0.5"] > 0.95


@pytest.mark.parametrize("name", ["rcnn", "sppnet"])
def test_after_the_training_loop_the_svms_are_trained_too(name, capsys):
    """What ``minicv train`` calls when its steps are done."""
    data = ShapeBoxes(3, 48, seed=1, objects=(1, 3), class_names=("disc", "square"))
    proposer, options = NearObjects(data, 3, 10), {"min_size": 48, "max_size": 48} if name == "sppnet" else SMALL
    minicv.seed(0)
    model = models.build(name, num_classes=2, **options)
    assert finish_training(model, data, proposer) is True
    assert model.svm_weight.any() and model.box_bias.any()
    boxes = sum(len(proposer(data[i].image)) + len(data[i].boxes) for i in range(3))
    assert f"features of {boxes} boxes in " in capsys.readouterr().out
    finish_training(model, data, proposer, quiet=True)
    assert not capsys.readouterr().out
    assert finish_training(models.build("fast_rcnn"), data, proposer) is False
