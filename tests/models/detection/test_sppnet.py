import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minicv
import minicv.ops as F
from minicv import Tensor, models
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.models.detection.sppnet import map_windows, pool_windows
from minicv.nn import init
from minicv.training.detection import DetectionConfig, evaluate_detector
from minicv.training.svm import fine_tune, fit_svm_detector
from tests.models.detection.proposals import NearObjects
from tests.models.detection.training_step import check_no_objects_and_degenerate_boxes, check_with_svms


def small(num_classes=3, **options):
    minicv.seed(0)
    return models.build("sppnet", num_classes=num_classes, **{
        "backbone_options": {"depth": 11, "width": 8, "batch_norm": True}, "hidden": 32, "min_size": 40,
        "max_size": 60, "rois_per_image": 8, **options})


# ------------------------------------------------------------------------------------------------- the paper's numbers

# ZF-5: 96 * 147 + 96, 256 * 2400 + 256, 384 * 2304 + 384, 384 * 3456 + 384, 256 * 3456 + 256
CONVS = 14_208 + 614_656 + 885_120 + 1_327_488 + 884_992
FC = (256 * 50 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 21 + 21)


def test_paper_preset_has_zf5_and_50_bins():
    with init.blank():
        model = models.build("sppnet", "paper")
    assert model.num_parameters() == CONVS + FC == 73_026_709
    assert model.head.fc6.weight.shape == (4096, 256 * 50) and model.stride == 16
    assert model.center_offset == 0.5  # a column looks at the middle of pixel 16 j, which reaches from 16 j to 16 j + 1
    assert [round(s * 688) for s in model.image_scales] == [480, 576, 688, 864, 1200]  # sec. 4.1
    with minicv.no_grad():
        assert model.backbone(Tensor(np.zeros((1, 3, 224, 320), "f4"))).shape == (1, 256, 14, 20)


def test_only_what_stands_behind_the_pooling_is_fine_tuned_in_the_paper():
    with init.blank():
        model = models.build("sppnet", "paper", hidden=8)
    (group,) = model.parameter_groups()
    assert {id(p) for p in group["params"]} == {id(p) for p in model.head.parameters()}
    x = Tensor(np.ones((1, 3, 64, 64), np.float32))
    model(x).sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters()) and model.head.score.weight.grad is not None
    assert len(small().parameter_groups()[0]["params"]) == len(list(small().parameters()))


# ----------------------------------------------------------------------------------------------------------- appendix A

def test_window_by_hand():
    # S = 16, centers at 0, 16, 32, ...: from 20 to 70 these are 32, 48 and 64, columns 2 to 4. Rows 33 to 47: none, so
    # the one nearest to 40, which is 32 or 48, rounded to the even row 2. Ends that are on a center do not count.
    boxes = np.array([[20, 33, 70, 47], [16, 0, 64, 500]], np.float32)
    np.testing.assert_array_equal(map_windows(boxes, 16, (10, 12)), [[2, 2, 4, 2], [2, 1, 3, 9]])
    # centers at 8, 24, 40, 56, ... where poolings of 2x2 lead to S = 16
    np.testing.assert_array_equal(map_windows(boxes, 16, (10, 12), center_offset=8), [[1, 2, 3, 2], [1, 0, 3, 9]])


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 190), st.floats(0.1, 90), st.sampled_from([4, 8, 16]), st.booleans())
def test_windows_hold_the_columns_whose_centers_are_in_the_box(x1, width, stride, half):
    offset = stride / 2 if half else 0
    box = np.array([[x1, 0, x1 + width, 8]], np.float32)
    first, _, last, _ = map_windows(box, stride, (5, 200 // stride), offset)[0]
    centers = np.arange(200 // stride) * stride + offset
    inside = np.flatnonzero((centers > box[0, 0]) & (centers < box[0, 2]))
    if len(inside):
        assert (first, last) == (inside[0], inside[-1])
    else:
        middle = (box[0, 0] + box[0, 2]) / 2
        assert first == last and abs(centers[int(first)] - middle) <= abs(centers - middle).min() + 1e-3


def test_windows_are_pooled_as_if_they_were_maps():
    """Each window by itself through ``spatial_pyramid_pool``: the same vector, whatever the window's size."""
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 3, 12, 15)))
    windows = [np.array([[0, 0, 14, 11], [3, 2, 3, 2], [5, 4, 11, 6]], float), np.array([[1, 5, 9, 11]], float)]
    for levels in ((1, 2, 4), (1, 2, 3, 6)):
        y = pool_windows(x, windows, levels).numpy()
        expected = [F.spatial_pyramid_pool(x[n:n + 1, :, int(t):int(b) + 1, int(l):int(r) + 1], levels).numpy()[0]
                    for n, some in enumerate(windows) for l, t, r, b in some]
        assert y.shape == (4, 3 * sum(n * n for n in levels))
        np.testing.assert_array_equal(y, expected)


# ---------------------------------------------------------------------------------------------------------- many sizes

def test_images_of_any_size_give_scores():
    model = small().eval()
    for H, W in ((40, 40), (64, 96), (33, 121)):
        assert model(Tensor(np.zeros((2, 3, H, W), np.float32))).shape == (2, 4)


def test_each_box_is_looked_at_where_it_has_the_right_size():
    model = small(image_scales=(0.5, 1.0, 2.0), target_area=32.0 ** 2)
    # 64 pixels wide: 32 at half the size. 16: 32 at twice. 40: 40^2 - 32^2 = 576 is less than 32^2 - 20^2 = 624. 45:
    # 45^2 is 1001 too many, 22.5^2 only 518 too few, although 45 is nearer to 32 by the ratio. No area: the largest
    boxes = np.array([[0, 0, w, w] for w in (64, 16, 40, 45)] + [[0, 0, 0, 9]], np.float32)
    assert model.best_scale(boxes).tolist() == [0, 2, 1, 0, 2]


def test_boxes_keep_their_order_when_they_are_looked_at_in_several_sizes():
    model = small(image_scales=(0.5, 1.0, 2.0), target_area=32.0 ** 2).eval()
    rng = np.random.default_rng(0)
    x = Tensor(rng.standard_normal((2, 3, 64, 64)).astype(np.float32))
    boxes = [np.array([[0, 0, 16, 16], [0, 0, 64, 64], [20, 20, 52, 50], [3, 3, 9, 9]], np.float32),
             np.array([[1, 1, 60, 62], [30, 30, 44, 46]], np.float32)]
    with minicv.no_grad():
        together = model.pool5(x, boxes).numpy()
        single = [model.pyramids(x[n:n + 1], [box[None]], model.image_scales[model.best_scale(box[None])[0]]).numpy()[0]
                  for n in range(2) for box in boxes[n]]
    np.testing.assert_allclose(together, single, atol=1e-5)
    assert len(np.unique(together[:, 0])) == 6


def test_training_takes_all_sizes_in_turn(monkeypatch):
    model, used = small(image_scales=(0.8, 1.0)), []
    pyramids = type(model).pyramids
    monkeypatch.setattr(type(model), "pyramids", lambda m, x, b, f: used.append(f) or pyramids(m, x, b, f))
    x, boxes = Tensor(np.zeros((1, 3, 40, 40), np.float32)), [np.array([[1, 1, 30, 30]], np.float32)]
    shapes = set()
    for number in range(12):
        with minicv.backend.seeded(0, number):
            shapes.add(model.pool5(x, boxes).shape)
    assert set(used) == {0.8, 1.0} and len(used) == 12 and shapes == {(1, 64 * 50)}


# ------------------------------------------------------------------------------------------------------ three trainings

@pytest.mark.parametrize("sizes", [(1.0,), (0.8, 1.0)])
def test_training_step_equals_pytorchs_operations_and_the_strict_devices(sizes):
    check_with_svms(lambda: small(image_scales=sizes), 32)


def test_images_without_objects_or_proposals_and_degenerate_boxes():
    check_no_objects_and_degenerate_boxes(small(image_scales=(0.8, 1.0)), 32)


def test_the_convolutions_run_once_whatever_the_number_of_boxes(monkeypatch):
    model, calls = small(), []
    forward = type(model.backbone).forward
    monkeypatch.setattr(type(model.backbone), "forward", lambda m, x: calls.append(len(x)) or forward(m, x))
    boxes = np.tile(np.array([[2, 2, 30, 30]], np.float32), (50, 1))
    model.predict([np.zeros((3, 40, 40), np.float32)] * 2, [boxes, boxes[:1]])
    assert calls == [1, 1]


@pytest.mark.parametrize("options", [
    {"image_scales": ()}, {"image_scales": (0.0,)}, {"levels": ()}, {"levels": (0, 1)}])
def test_options_that_do_not_work(options):
    with pytest.raises(ValueError, match=r"SPPNetConfig\(image_scales=.*, levels=.*\): needs positive numbers"):
        small(**options)


@pytest.mark.slow
def test_it_learns_eight_images_by_heart(tmp_path):
    data = ShapeBoxes(8, 96, seed=1, objects=(1, 3), crowding=0.0)
    model, proposer = small(5, min_size=96, max_size=96, hidden=128, rois_per_image=32,
                            backbone_options={"depth": 11, "width": 16, "batch_norm": True}), NearObjects(data)
    config = DetectionConfig(steps=250, batch=2, optimizer="adam", lr=0.002, weight_decay=0.0, flip=False, warmup=10)
    fine_tune(model, data, config, proposer)
    fit_svm_detector(model, data, tmp_path, proposer)
    assert evaluate_detector(model, data, proposer=proposer)["mAP@0.5"] > 0.95
