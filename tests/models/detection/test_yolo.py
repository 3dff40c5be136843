import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
from minicv import Tensor, models, nn
from minicv.autograd import gradcheck
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.models.detection.base import Target
from minicv.models.detection.yolo import (
    COMPACT_LAYERS,
    YOLO_LAYERS,
    assign_cells,
    cell_iou,
    conv_layers,
    responsible_box,
)
from minicv.nn import init
from minicv.training.detection import DetectionConfig, evaluate_detector, train_detector
from tests.models.detection.training_step import check_dispatched, check_strict
from tests.oracle import require

TERMS = ["center", "size", "object", "no_object", "class"]


def tiny(**options):
    """S = 3, B = 2, K = 4, so 14 numbers in a cell"""
    minicv.seed(0)
    return models.build("yolo", **{"num_classes": 4, "layers": "3x4 max 1x3 3x5 max", "image_size": 12, "hidden": 7,
                                   **options})


def targets(*boxes, size=(12, 12), labels=None):
    """One image's objects."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    return Target(array, np.arange(len(array)) % 4 if labels is None else np.array(labels, np.int64), size)


def some_targets(rng, N, size=(12, 12)):
    """Objects of all sizes, also none at all and without area."""
    found = []
    for n in range(N):
        corner, side = rng.uniform(0, 9, (n, 2)), rng.uniform(1, 9, (n, 2))
        boxes = np.concatenate([corner, np.minimum(corner + side, 12)], axis=1)
        if n > 2:
            boxes[0, 2] = boxes[0, 0]
        found.append(targets(*boxes, size=size, labels=rng.integers(0, 4, n)))
    return found


# ------------------------------------------------------------------------------------------------- the paper's numbers

# Convolutions, k k c_in c_out + c_out each:            9,472 + 110,784
#   28 wide: 24,704 + 295,168 + 65,792 + 1,180,160;     four times 131,328 + 1,180,160;  262,656 + 4,719,616
#   14 wide: twice 524,800 + 4,719,616;                 9,438,208 four times (3x3, 1024 to 1024)
CONVS = (9_472 + 110_784 + 24_704 + 295_168 + 65_792 + 1_180_160 + 4 * (131_328 + 1_180_160) + 262_656 + 4_719_616
         + 2 * (524_800 + 4_719_616) + 4 * 9_438_208)
FC1, FC2 = 7 * 7 * 1024 * 4096 + 4096, 4096 * 1470 + 1470


def test_paper_preset_has_24_convolutions_and_7x7x30():
    with init.blank():
        model = models.build("yolo", "paper")
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len(convs) == 24 and sum(isinstance(m, nn.Linear) for m in model.modules()) == 2
    assert (model.S, model.B, model.num_classes) == (7, 2, 20) and model.fc2.bias.size == 7 * 7 * 30
    assert model.num_parameters() == CONVS + FC1 + FC2 == 271_703_550


def thin(layers, by=16):
    return re.sub(r"x(\d+)", lambda m: f"x{max(1, int(m[1]) // by)}", layers)


def test_maps_have_the_sizes_of_figure_3():
    model, sides = models.build("yolo", "paper", layers=thin(YOLO_LAYERS), hidden=8).eval(), []
    with minicv.no_grad():
        x = Tensor(np.zeros((1, 3, 448, 448), np.float32))
        for layer in model.features:
            x = layer(x)
            if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
                sides.append(x.shape[2])
        assert sides == [224, 112, 112, 56, 56, 56, 56, 56, 28, *10 * [28], 14, *5 * [14], 7, 7, 7]
        assert model(Tensor(np.zeros((2, 3, 448, 448), np.float32))).shape == (2, 7, 7, 30)


def test_fast_yolo_has_9_convolutions_and_7x7x30():
    with init.blank():
        model = models.build("fast_yolo", "paper")
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 9
    assert model.S == 7 and model.fc2.bias.size == 7 * 7 * 30


@pytest.mark.parametrize("name", ["yolo", "fast_yolo"])
def test_compact_presets_have_7x7_cells_too(name):
    model = models.build(name, num_classes=5)
    assert model(Tensor(np.zeros((2, 3, 112, 112), np.float32))).shape == (2, 7, 7, 15)


# ---------------------------------------------------------------------------------------------------------- the target

def test_assignment_by_hand():
    # 12 pixels, 3 cells of 4. Center (5, 9): column 1, row 2, x = 5/4 - 1, y = 9/4 - 2; sides 6 and 2 of 12.
    cells = assign_cells([targets(), targets([2, 8, 8, 10], labels=[3])], 3)
    assert (cells.n.tolist(), cells.i.tolist(), cells.j.tolist(), cells.label.tolist()) == ([1], [2], [1], [3])
    np.testing.assert_allclose(cells.box, [[0.25, 0.25, np.sqrt(6 / 12), np.sqrt(2 / 12)]])


def test_each_side_of_an_image_has_its_own_scale():
    # 24 wide, 12 high: cells of 8 x 4. Center (10, 6): column 1, x = 0.25; row 1, y = 0.5; sides 4/24, 8/12.
    cells = assign_cells([targets([8, 2, 12, 10], size=(12, 24))], 3)
    assert (cells.i.tolist(), cells.j.tolist()) == ([1], [1])
    np.testing.assert_allclose(cells.box, [[0.25, 0.5, np.sqrt(4 / 24), np.sqrt(8 / 12)]])


def test_of_two_centers_in_a_cell_the_first_object_is_learned():
    one, two, else_where = [4, 4, 7, 7], [4, 4, 8, 8], [0, 0, 2, 2]
    cells = assign_cells([targets(two, one, else_where, labels=[2, 1, 0])], 3)
    assert list(zip(cells.i.tolist(), cells.j.tolist(), cells.label.tolist(), strict=True)) == [(1, 1, 2), (0, 0, 0)]


def test_centers_on_the_far_border_belong_to_the_last_cell_and_boxes_without_area_to_none():
    # Readers leave no center on the border (it would have no area), but 12 / 4 = 3 would be a fourth column.
    cells = assign_cells([targets([11, 11, 13, 13], [3, 3, 3, 9], [5, 5, 9, 5])], 3)
    assert (cells.i.tolist(), cells.j.tolist()) == ([2], [2])
    np.testing.assert_allclose(cells.box[0, :2], [1, 1])


def test_overlap_by_hand():
    # S = 2. a: center at half a cell = 1/4, sides 1/2: 0 to 1/2. b: the same center, sides 1/4 and 1: 1/8 to 3/8,
    # -1/4 to 3/4. Common 1/4 x 1/2, union 1/4 + 1/4 - 1/8.
    a, b = np.array([0.5, 0.5, np.sqrt(0.5), np.sqrt(0.5)]), np.array([0.5, 0.5, 0.5, 1.0])
    assert cell_iou(a, b, 2) == pytest.approx((1 / 8) / (3 / 8))
    assert cell_iou(a, a, 2) == pytest.approx(1)
    assert cell_iou(a, np.zeros(4), 2) == 0 and cell_iou(np.zeros(4), np.zeros(4), 2) == 0


def test_the_box_that_overlaps_most_is_responsible_or_else_the_nearest():
    truth = np.array([[0.5, 0.5, 0.7, 0.7]])
    near, far = [0.5, 0.4, 0.6, 0.7, 0], [0.9, 0.9, 0.2, 0.9, 0]
    for boxes, expected in (([near, far], 0), ([far, near], 1)):
        best, iou = responsible_box(np.array([boxes]), truth, 3)
        assert best.tolist() == [expected] and iou[0] > 0.5
    # sides of 0 overlap nothing: the one whose numbers are nearer
    best, iou = responsible_box(np.array([[[0.0, 0, 0, 0, 9], [0.5, 0.4, 0, 0, 0]]]), truth, 3)
    assert best.tolist() == [1] and iou.tolist() == [0]
    # sides of 0.25, and two boxes that do not overlap it. As shares of the image the first is off by 1/3, 0, 0.25 and
    # 0.56, squares 0.487 together, the second by 2/3: 0.444. In cells and roots the first would be nearer: 1.41 to 4
    boxes = np.array([[[1.5, 0.5, 0, 0.9, 0], [2.5, 0.5, 0.5, 0.5, 0]]])
    best, iou = responsible_box(boxes, np.array([[0.5, 0.5, 0.5, 0.5]]), 3)
    assert best.tolist() == [1] and iou.tolist() == [0]


# ------------------------------------------------------------------------------------------------------------ the loss

def test_equation_3_by_hand():
    """S = 1, B = 2, K = 2: one cell, one object, every number of the output known."""
    model = models.build("yolo", num_classes=2, layers="3x2 max", image_size=2, hidden=3)
    # the object fills the left half: center (1/4, 1/2), sides 1/2 and 1
    target = Target(np.array([[0, 0, 1, 2]], np.float32), np.array([1]), (2, 2))
    box1 = [0.25, 0.5, np.sqrt(0.5), 1.0, 0.3]  # exact, says confidence 0.3
    box2 = [0.5, 0.5, 1.0, 1.0, 0.4]  # the whole image: IoU 1/2
    y = Tensor(np.array([*box1, *box2, 0.1, 0.7]).reshape(1, 1, 1, 12))
    found = {name: loss.item() for name, loss in model.grid_losses(y, [target]).items()}
    assert list(found) == TERMS
    expected = {"center": 0, "size": 0, "object": 0.7 ** 2, "no_object": 0.5 * 0.4 ** 2, "class": 0.1 ** 2 + 0.3 ** 2}
    assert found == pytest.approx(expected, abs=1e-12)
    # the first box is gone: the second is responsible now, its IoU 1/2 what the confidence should be
    y = Tensor(np.array([9, 9, 0, 0, 0.3, *box2, 0.1, 0.7]).reshape(1, 1, 1, 12))
    found = {name: loss.item() for name, loss in model.grid_losses(y, [target]).items()}
    assert found == pytest.approx({"center": 5 * 0.25 ** 2, "size": 5 * (1 - np.sqrt(0.5)) ** 2, "object": 0.1 ** 2,
                                   "no_object": 0.5 * 0.3 ** 2, "class": 0.1}, abs=1e-12)


def equation_3(torch, y, targets, S, B, K, coord=5.0, noobj=0.5):
    """Independent: every cell and box by itself, boxes compared by their corners in pixels."""
    loss = {name: torch.zeros((), dtype=y.dtype) for name in TERMS}
    for n, target in enumerate(targets):
        H, W = target.size
        owner = {}
        for box, label in zip(target.boxes.astype(float).tolist(), target.labels.tolist(), strict=True):
            x1, y1, x2, y2 = box
            place = int((y1 + y2) / 2 / H * S), int((x1 + x2) / 2 / W * S)
            if x2 > x1 and y2 > y1 and place not in owner:
                owner[place] = (box, label)
        for i in range(S):
            for j in range(S):
                cell, mine = y[n, i, j], None
                boxes = [cell[5 * b:5 * b + 5] for b in range(B)]
                if (i, j) in owner:
                    (x1, y1, x2, y2), label = owner[i, j]
                    true = [(x1 + x2) / 2 / W * S - j, (y1 + y2) / 2 / H * S - i, ((x2 - x1) / W) ** 0.5,
                            ((y2 - y1) / H) ** 0.5]
                    ious, apart = [], []
                    for b in boxes:
                        cx, cy, rw, rh, _ = b.tolist()
                        w, h = rw * rw * W, rh * rh * H
                        u1, v1 = (j + cx) / S * W - w / 2, (i + cy) / S * H - h / 2
                        common = max(min(x2, u1 + w) - max(x1, u1), 0) * max(min(y2, v1 + h) - max(y1, v1), 0)
                        ious.append(common / (w * h + (x2 - x1) * (y2 - y1) - common))
                        apart.append(((j + cx) / S - (x1 + x2) / 2 / W) ** 2 + ((i + cy) / S - (y1 + y2) / 2 / H) ** 2
                                     + (rw * rw - (x2 - x1) / W) ** 2 + (rh * rh - (y2 - y1) / H) ** 2)
                    mine = max(range(B), key=lambda b: ious[b])
                    if ious[mine] == 0:
                        mine = min(range(B), key=lambda b: apart[b])
                    loss["center"] += coord * ((boxes[mine][0] - true[0]) ** 2 + (boxes[mine][1] - true[1]) ** 2)
                    loss["size"] += coord * ((boxes[mine][2] - true[2]) ** 2 + (boxes[mine][3] - true[3]) ** 2)
                    loss["object"] += (boxes[mine][4] - ious[mine]) ** 2
                    for k in range(K):
                        loss["class"] += (cell[5 * B + k] - (1.0 if k == label else 0.0)) ** 2
                for b in range(B):
                    if b != mine:
                        loss["no_object"] += noobj * boxes[b][4] ** 2
    return {name: value / len(targets) for name, value in loss.items()}


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 5), st.integers(0, 1000), st.sampled_from([(12, 12), (12, 24)]))
def test_equals_equation_3_in_pytorch(N, seed, size):
    torch, rng = require("torch"), np.random.default_rng(seed)
    model, truth = tiny(), some_targets(rng, N, size)
    array = 0.5 * rng.standard_normal((N, 3, 3, 14)) + 0.3
    y, ty = Tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
    ours, theirs = model.grid_losses(y, truth), equation_3(torch, ty, truth, 3, 2, 4)
    assert list(ours) == TERMS
    for name, value in ours.items():
        assert value.item() == pytest.approx(theirs[name].item(), rel=1e-6, abs=1e-9), name  # boxes are float32
    sum(ours.values()).backward()
    sum(theirs.values()).backward()
    np.testing.assert_allclose(y.grad, ty.grad.numpy(), rtol=1e-6, atol=1e-7)


def test_the_gradient_is_right_where_the_responsible_boxes_stay_the_same():
    """Not so for the target of the confidence, the IoU, a constant by definition: that term is left out."""
    model, rng = tiny(), np.random.default_rng(3)
    truth, y = some_targets(rng, 4), 0.5 + 0.3 * rng.standard_normal((4, 3, 3, 14))
    result = gradcheck(lambda y: sum(loss for name, loss in model.grid_losses(y, truth).items() if name != "object"),
                       [y])
    assert result.verdict != "WRONG", result


def test_images_without_objects_have_only_the_term_of_empty_boxes():
    model = tiny()
    y = Tensor(np.random.default_rng(0).standard_normal((2, 3, 3, 14)).astype(np.float32), requires_grad=True)
    losses = model.grid_losses(y, [targets(), targets([3, 3, 3, 9])])  # the second has no area
    assert {name: bool(loss.item()) for name, loss in losses.items()} == {name: name == "no_object" for name in TERMS}
    sum(losses.values()).backward()
    assert np.isfinite(y.grad).all() and y.grad.any()
    np.testing.assert_allclose(losses["no_object"].item(), 0.5 * (y.data[..., [4, 9]] ** 2).sum() / 2, rtol=1e-6)


# ------------------------------------------------------------------------------------------- by PyTorch, and as on CuPy

@pytest.mark.parametrize("batch_norm", [False, True])
def test_training_step_equals_pytorchs_operations(batch_norm):
    minicv.seed(0)
    model = models.build("yolo", num_classes=4, batch_norm=batch_norm, layers=thin(COMPACT_LAYERS, 4), image_size=48,
                         hidden=20, dropout=0.5)
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = p.data + 0.05 * rng.standard_normal(p.shape)
    found = check_dispatched(model, rng.standard_normal((3, 3, 48, 48)), some_targets(rng, 4)[1:])
    assert list(found)[:5] == TERMS and all(array.any() for array in found.values())


def test_a_training_step_on_the_strict_device():
    def make():
        model = tiny(dropout=0.5)
        model.fc2.weight.data = 10 * model.fc2.weight.data
        return model

    rng = np.random.default_rng(0)
    check_strict(make, rng.standard_normal((4, 3, 12, 12)).astype(np.float32), some_targets(rng, 4), 1e-5)
    assert len(make().to("strict").predict([rng.random((3, 20, 17), dtype=np.float32)])) == 1


# ---------------------------------------------------------------------------------------------------------- predictions

def test_boxes_and_scores_by_hand():
    """What a cell says, in pixels: the inverse of the assignment."""
    model, grid = tiny(), np.zeros((3, 3, 14), np.float32)
    box = [2, 8, 8, 10]
    cells = assign_cells([targets(box)], 3)
    grid[2, 1, 5:9], grid[2, 1, 9], grid[2, 1, 10:] = cells.box[0], 0.8, [0.5, 0.25, 0, 1]
    boxes, scores = model.boxes_and_scores(grid)
    assert boxes.shape == (18, 4) and scores.shape == (18, 4)
    k = (2 * 3 + 1) * 2 + 1  # row 2, column 1, second box
    np.testing.assert_allclose(boxes[k], box, rtol=1e-5)
    np.testing.assert_allclose(scores[k], [0.4, 0.2, 0, 0.8])  # eq. (1)
    assert not scores[np.arange(18) != k].any()


def test_predictions_are_in_pixels_of_images_of_any_size():
    model = tiny(score_threshold=0.3)
    model.fc1.weight.data *= 0
    grid = np.zeros((3, 3, 14), np.float32)
    grid[0, 2, :5], grid[0, 2, 10:] = [0.5, 0.5, np.sqrt(1 / 6), np.sqrt(1 / 3), 1.0], [0, 0, 0.9, 0.1]
    model.fc2.bias.data = grid.ravel()
    small, wide = model.predict([np.zeros((3, 12, 12), np.float32), np.zeros((3, 30, 60), np.float32)], batch=2)
    # the third cell of the first row, center (5/6, 1/6) of the image, sides 1/6 and 1/3
    np.testing.assert_allclose(small.boxes, [[9, 0, 11, 4]], atol=1e-4)
    np.testing.assert_allclose(wide.boxes, [[45, 0, 55, 10]], atol=1e-3)
    assert wide.labels.tolist() == [2] and wide.scores[0] == pytest.approx(0.9)
    assert model.predict([]) == []


@pytest.mark.parametrize(("options", "message"), [
    ({"layers": "3x4 pool"}, r"YOLO\(layers\): 'pool' is neither 'max' nor KERNELxCHANNELS"),
    ({"layers": "x4"}, r"YOLO\(layers\): 'x4' is neither"),
    ({"image_size": 14}, r"YOLOConfig\(image_size=14\): the layers make an image 4 times smaller, so the size must "
                       "be a multiple of that, such as 12"),
    ({"boxes_per_cell": 0}, r"^YOLOConfig\(boxes_per_cell=0\): each must be at least 1"),
])
def test_options_that_do_not_work(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)


def test_inputs_that_do_not_work():
    with pytest.raises(ValueError, match=r"YOLO: the input must be \(N, 3, 12, 12\), got \(1, 3, 12, 16\)"):
        tiny()(Tensor(np.zeros((1, 3, 12, 16), np.float32)))
    with pytest.raises(ValueError, match=r"YOLO.predict: an image must be \(3, H, W\) and not empty, got \(1, 9, 9\)"):
        tiny().predict([np.zeros((1, 9, 9), np.float32)])


def test_leaky_relu_has_the_slope_of_the_paper():
    layers, channels, stride = conv_layers("3x4/2 max 1x8", 3, False)
    assert [m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)] == [0.1, 0.1]
    assert (channels, stride) == (8, 4)


@pytest.mark.parametrize("name", ["yolo", "fast_yolo", "rcnn", "sppnet"])
def test_the_papers_config_is_one_that_the_command_line_can_take(name):
    config = DetectionConfig(**models.model_class(name).TRAIN_DEFAULTS["paper"])
    assert config.optimizer == "sgd" and config.momentum == 0.9 and config.weight_decay == 0.0005


@pytest.mark.slow
def test_it_learns_eight_images_by_heart():
    data = ShapeBoxes(8, 112, seed=1, objects=(1, 4), crowding=0.2)
    minicv.seed(0)
    model = models.build("yolo", num_classes=5)
    config = DetectionConfig(steps=150, batch=8, optimizer="adam", lr=0.002, weight_decay=0.0, flip=False)
    for losses in train_detector(model, data, config):
        assert all(np.isfinite(value) for value in losses.values())
    assert evaluate_detector(model, data)["mAP@0.5"] > 0.95
