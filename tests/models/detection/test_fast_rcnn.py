import numpy as np
import pytest

import minicv
from minicv import Tensor, models, nn
from minicv.autograd import no_grad
from minicv.models.detection.fast_rcnn import truncated_svd
from minicv.nn import init
from tests.models.detection.learning import TINY, learned, step, truth
from tests.models.detection.proposals import NearObjects
from tests.models.detection.training_step import check_dispatched, check_plain_pytorch, check_strict


def tiny(**options):
    minicv.seed(0)
    model = models.build("fast_rcnn", **{**TINY, **options})
    model.head.box_deltas.weight.data = 30 * model.head.box_deltas.weight.data  # as drawn, gradients are tiny
    return model


def batch(seed=0, size=(48, 64)):
    """Three images: two objects, none, one; 14 proposals each, among them degenerate ones."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 30, (3, 12, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(4, 25, (3, 12, 2))], axis=2)
    boxes = np.concatenate([boxes, [[[9, 9, 9, 9], [20, 20, 10, 10]]] * 3], axis=1)
    boxes[0, 0], boxes[0, 1], boxes[2, 0] = [5, 6, 22, 30], [29, 9, 50, 41], [11, 2, 30, 20]
    targets = [truth([4, 4, 20, 30], [30, 10, 51, 40], proposals=boxes[0], size=size),
               truth(proposals=boxes[1], size=size), truth([10, 3, 30, 21], proposals=boxes[2], labels=[2], size=size)]
    return rng.standard_normal((3, 3, *size)).astype(np.float32), targets


# ------------------------------------------------------------------------------------------------- the paper's numbers

# VGG16's convolutions 14,714,688; fc6 (7 7 512 + 1) 4096 = 102,764,544; fc7 (4096 + 1) 4096 = 16,781,312;
# scores 4097 21 = 86,037; box deltas 4097 80 = 327,760
def test_paper_parameters():
    with init.blank():
        model = models.build("fast_rcnn", "paper")
    assert model.num_parameters() == 14714688 + 102764544 + 16781312 + 86037 + 327760 == 134674341
    assert model.scaled_size((375, 500)) == (600, 800) and model.scaled_size((500, 375)) == (800, 600)
    c = model.config
    assert (c.rois_per_image, c.foreground_fraction, c.background_iou) == (64, 0.25, (0.1, 0.5))  # sec. 2.3
    assert model.TRAIN_DEFAULTS["paper"]["batch"] == 2 and model.head.dropout == 0.5


def test_paper_map_of_600_by_1000_is_37_by_62():
    from minicv.models.summary import summarize
    with init.blank():
        rows = summarize(models.build("fast_rcnn", "paper"), (3, 600, 1000)).rows
    assert [row.shape for row in rows if row.name == "backbone.features.28"] == [(512, 37, 62)]
    assert [row.shape for row in rows if row.op == "roi_pool"] == [(512, 7, 7)]


def test_biases_learn_at_twice_the_rate():
    model = tiny()
    weights, biases = model.parameter_groups()
    assert (weights["lr"], biases["lr"]) == (1, 2)
    assert len(weights["params"]) + len(biases["params"]) == len(list(model.parameters()))
    assert all(p.ndim == 1 for p in biases["params"]) and any(p is model.head.fc6.bias for p in biases["params"])


# --------------------------------------------------------------------------------------------------------------- losses

@pytest.mark.parametrize("pool", ["pool", "align"])
def test_training_step_equals_plain_pytorch(pool):
    x, targets = batch()

    def losses_of(features, w):
        import torch

        from tests.models.detection import torch_rcnn
        proposals = [torch.from_numpy(t.proposals).double() for t in targets]
        return torch_rcnn.head_losses(features, w, targets, proposals, 0.1, 4, 3, pool)

    # every proposal is used: more than there are, and all may be objects
    check_plain_pytorch(tiny(roi_pooling=pool, rois_per_image=1500, foreground_fraction=1.0), x, targets, losses_of)


def test_training_step_of_the_compact_network_dispatched_to_pytorch():
    minicv.seed(0)
    check_dispatched(models.build("fast_rcnn", num_classes=3), *batch(size=(64, 80)))


def test_training_step_on_the_strict_device():
    x, targets = batch()
    check_strict(lambda: tiny(dropout=0.3), x, targets, 1e-5)
    model = tiny().to("strict")
    assert len(model.predict([np.zeros((3, 40, 50), np.float32)], [targets[0].proposals])) == 1


def test_images_without_objects_and_without_proposals():
    x, targets = batch()
    for t in targets:
        t.boxes, t.labels, t.proposals = t.boxes[:0], t.labels[:0], t.proposals[:0]
    found = step(tiny(), x, targets)
    assert all(np.isfinite(value).all() for value in found.values()) and found["class"] == found["box"] == 0


def test_degenerate_boxes_make_no_nan():
    x, targets = batch()
    targets[0].boxes[0], targets[2].boxes[0] = [7, 7, 7, 7], [9, 5, 3, 2]
    found = step(tiny(), x, targets)
    assert all(np.isfinite(value).all() for value in found.values())


def test_training_without_proposals_says_what_to_do():
    with pytest.raises(ValueError, match="FastRCNN.losses: the targets have no proposals; give DetectionTask a prop"):
        tiny().losses(Tensor(np.zeros((1, 3, 48, 64), np.float32)), [truth([1, 1, 9, 9])])


# ----------------------------------------------------------------------------------------------------------- prediction

def test_predictions_do_not_depend_on_the_batch():
    model, rng = tiny(score_threshold=0.0), np.random.default_rng(0)
    images = [rng.random((3, 48, 64), dtype=np.float32) for _ in range(3)]
    proposals = [t.proposals for t in batch()[1]]
    proposals[1] = proposals[1][:0]
    alone, together = (model.predict(images, proposals, batch=n) for n in (1, 3))
    assert len(alone[1]) == 0 < len(alone[0])
    for one, two in zip(alone, together, strict=True):
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)
        np.testing.assert_allclose(one.boxes, two.boxes, atol=1e-3)


def test_forward_takes_the_whole_image_by_default():
    model = tiny().eval()
    x = Tensor(np.random.default_rng(0).standard_normal((2, 3, 48, 64)).astype(np.float32))
    score, box_deltas = model(x)
    assert score.shape == (2, 4) and box_deltas.shape == (2, 3, 4)
    np.testing.assert_array_equal(score.data, model(x, [np.array([[0, 0, 64, 48.0]])] * 2)[0].data)


# ------------------------------------------------------------------------------------------------------- truncated SVD

def test_svd_of_a_matrix_of_rank_two():
    rng = np.random.default_rng(0)
    layer = nn.Linear(6, 5)
    layer.weight.data = (rng.standard_normal((5, 2)) @ rng.standard_normal((2, 6))).astype(np.float32)
    layer.bias.data = rng.standard_normal(5).astype(np.float32)
    two = truncated_svd(layer, 2)
    x = Tensor(rng.standard_normal((7, 6)).astype(np.float32))
    np.testing.assert_allclose(two(x).data, layer(x).data, atol=1e-5)
    assert two.num_parameters() == 2 * (6 + 5) + 5  # t (in + out), and the bias
    one = truncated_svd(layer, 1)  # eq. (5): the best of rank one, so the error is the second singular value
    product = one[1].weight.data @ one[0].weight.data
    singular = np.linalg.svd(layer.weight.data, compute_uv=False)
    assert np.linalg.norm(layer.weight.data - product, 2) == pytest.approx(singular[1], rel=1e-4)


def test_compress_to_full_rank_changes_nothing():
    model, (x, targets) = tiny(), batch()
    boxes = [t.proposals for t in targets]
    with no_grad(), nn.evaluating(model):
        before = model(Tensor(x), boxes)[0].data
        model.compress(16, 16)
        np.testing.assert_allclose(model(Tensor(x), boxes)[0].data, before, atol=1e-4)
        model = tiny()
        model.compress(2, 3)
        assert model.head.fc6[0].weight.shape == (2, 144) and model.head.fc7[1].weight.shape == (16, 3)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: truncated_svd(nn.Linear(6, 5), 6), r"truncated_svd\(t=6\): a layer \(5, 6\) has 5 singular values"),
    (lambda: tiny(roi_pooling="max"), r"FastRCNNConfig\(roi_pooling='max'\): 'pool' or 'align'"),
    (lambda: tiny(num_classes=0), r"num_classes=0.*each must be at least 1"),
])
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_learns_eight_images():
    assert learned("fast_rcnn", 80, NearObjects)["mAP@0.5"] > 0.95
