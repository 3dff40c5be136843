import threading
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

import minicv
from minicv import Tensor, models, nn
from minicv.data.augment.detection import resize_image
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.data.sample import DetectionSample
from minicv.detection import Detections
from minicv.models.backbones.classifier import normalize
from minicv.models.detection.base import Detector, Target, box_scale, postprocess
from minicv.models.detection.config import PostprocessConfig
from minicv.training import CachedProposals, DetectionConfig, DetectionTask, Training
from tests.models.detection.learning import PROPOSING, TINY


class Whole(Detector):
    """Finds one object, as large as the image without its padding, and notes what it was given."""

    def __init__(self, needs: bool = False):
        self.in_channels, self.num_classes, self.min_size, self.max_size, self.stride = 3, 2, 20, 50, 8
        self.needs_proposals = needs
        self.weight = nn.Parameter(np.zeros(1, np.float32))
        self.inside = nn.Dropout()
        self.seen = []

    def detect(self, x, sizes, proposals=None):
        assert not self.training and not self.inside.training and not (x * self.weight).requires_grad
        self.seen.append((x, sizes, proposals))
        return [Detections(np.array([[0, 0, w, h]], np.float32), np.ones(1, np.float32), np.ones(1, np.int64))
                for h, w in sizes]


def random_image(H, W, seed=0):
    return np.random.default_rng(seed).random((3, H, W), dtype=np.float32)


def test_evaluation_is_for_one_thread_at_a_time():
    """Else the first to end puts the model back into training while the second still predicts."""
    model, inside, go_on, seen = Whole(), threading.Event(), threading.Event(), []

    def first():
        with nn.evaluating(model), nn.evaluating(model):  # the same thread may go in again
            inside.set()
            go_on.wait(10)
            seen.append(model.training)

    def second():
        inside.wait(10)
        with nn.evaluating(model):
            seen.append(("second", model.training))

    threads = [threading.Thread(target=f) for f in (first, second)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    threads[1].join(0.05)  # long enough to go in, if it could
    assert seen == []
    go_on.set()
    for thread in threads:
        thread.join()
    assert seen == [False, ("second", False)] and model.training and model.inside.training


def test_the_number_of_workers_changes_nothing_where_an_rpn_proposes():
    data = ShapeBoxes(6, 48)
    minicv.seed(0)
    rpn = models.build("faster_rcnn", **TINY, **PROPOSING)
    before = rpn.state_dict()

    def losses(workers):
        minicv.seed(1)
        model = models.build("fast_rcnn", **{**TINY, "num_classes": 5})
        config = DetectionConfig(steps=4, batch=2, jitter=0.1, scale=1.2, turn=True)
        task = DetectionTask(model, data, config, CachedProposals(rpn.propose))
        return [step["total"] for step in Training(task, workers=workers)]

    assert losses(1) == losses(4) == losses(4)
    for name, array in rpn.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(("size", "expected"), [
    ((40, 60), (20, 30)),  # the shorter side from 40 to 20
    ((60, 40), (30, 20)),
    ((10, 100), (5, 50)),  # 10 to 20 would make the longer 200, over 50: so a half
    ((10, 10), (20, 20)),
    ((1000, 3), (50, 1)),  # never less than a pixel
])
def test_the_shorter_side_is_scaled_unless_the_longer_becomes_too_long(size, expected):
    assert Whole().scaled_size(size) == expected


def test_an_example_is_scaled_with_its_boxes_masks_and_proposals():
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 10:20, 30:50] = True
    sample = DetectionSample(random_image(40, 60), np.array([[30, 10, 50, 20], [0, 0, 60, 40]], np.float32),
                             np.array([1, 0]), "a", masks, difficult=np.array([False, True]))
    image, target = Whole().example(sample, np.array([[6, 4, 8, 12]]))
    assert image.shape == (3, 20, 30) and target.size == (20, 30)
    np.testing.assert_allclose(target.boxes, [[15, 5, 25, 10]])  # half of it; the difficult one is left out
    np.testing.assert_allclose(target.proposals, [[3, 2, 4, 6]])
    assert target.labels.tolist() == [1] and target.masks.shape == (1, 20, 30)
    assert target.masks[0, 5:10, 15:25].all() and target.masks.sum() == 50
    # a mean over 2 x 2 pixels, more or less (Pillow's triangle is a little wider), of normalized values
    np.testing.assert_allclose(image.mean(), normalize(sample.image).mean(), atol=0.02)


def test_a_batch_pads_with_the_mean_color_to_multiples_of_the_stride():
    x = Whole().batch([np.ones((3, 9, 5), np.float32), np.ones((3, 4, 17), np.float32)])
    assert x.shape == (2, 3, 16, 24)
    assert x.data[0].sum() == 3 * 9 * 5 and x.data[1, :, :4, :17].all() and x.data[1].sum() == 3 * 4 * 17


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_predict_gives_boxes_of_each_image_and_keeps_the_modes(batch):
    model, sizes = Whole(), [(40, 60), (60, 40), (7, 200)]
    model.training, model.inside.training = False, True
    found = model.predict([random_image(*size) for size in sizes], batch=batch)
    for (H, W), detections in zip(sizes, found, strict=True):
        np.testing.assert_allclose(detections.boxes, [[0, 0, W, H]], rtol=1e-6)
    assert [len(x) for x, _, _ in model.seen] == {1: [1, 1, 1], 2: [2, 1], 5: [3]}[batch]
    assert (model.training, model.inside.training) == (False, True)


def test_predict_of_no_image():
    assert Whole().predict([]) == []


def test_proposals_are_given_or_made_and_scaled():
    model = Whole(needs=True)
    model.proposer = lambda image: np.array([[4, 8, 12, 16]])
    model.predict([random_image(40, 60)])
    model.predict([random_image(40, 60)], [np.zeros((0, 4))])
    np.testing.assert_allclose(model.seen[0][2], [[[2, 4, 6, 8]]])
    assert model.seen[1][2][0].shape == (0, 4)


def test_proposals_by_default_are_those_of_selective_search(monkeypatch):
    module = import_module("minicv.detection.selective_search")
    asked = []
    monkeypatch.setattr(module, "selective_search",
                        lambda image, max_boxes: asked.append((image.shape, max_boxes)) or np.zeros((1, 4), np.float32))
    Whole().propose(random_image(8, 9))
    Whole().propose(random_image(8, 9)[:1])
    assert asked == [((3, 8, 9), 2000)] * 2
    for channels in (2, 4):
        with pytest.raises(ValueError, match=rf"Whole.propose: .* 1 or 3 channels, got \({channels}, 8, 9\); set"):
            Whole().propose(np.zeros((channels, 8, 9), np.float32))


def test_selective_search_sees_large_images_small(monkeypatch):
    module = import_module("minicv.detection.selective_search")
    seen = []
    monkeypatch.setattr(module, "selective_search",
                        lambda image, max_boxes: seen.append(image) or np.array([[1, 2, 3, 4]], np.float32))
    model, image = Whole(), random_image(6, 20)
    model.proposal_max_size = 10
    boxes = model.propose(image)
    assert boxes.dtype == np.float32
    np.testing.assert_array_equal(boxes, [[2, 4, 6, 8]])  # 20 pixels became 10
    np.testing.assert_allclose(seen[0], resize_image(image, (3, 10)))
    model.proposal_max_size = 20  # large enough: not made larger
    np.testing.assert_array_equal(model.propose(image), [[1, 2, 3, 4]])
    np.testing.assert_array_equal(seen[1], image)


def test_evaluating_restores_the_modes_after_an_error():
    model = Whole()
    with pytest.raises(KeyError), nn.evaluating(model):
        assert not model.training
        raise KeyError
    assert model.training and model.inside.training


def test_box_scale():
    assert box_scale((10, 40), (5, 80)).tolist() == [2, 0.5, 2, 0.5]


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: m.predict([np.zeros((1, 8, 8))]), r"Whole.predict: an image must be \(3, H, W\) and not empty, got "
                                                 r"\(1, 8, 8\)"),
    (lambda m: m.predict([np.zeros((3, 0, 8))]), r"got \(3, 0, 8\)"),
    (lambda m: m.predict([random_image(8, 8)], []), "Whole.predict: 1 images need as many arrays of proposals, got 0"),
])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(Whole())


# ---------------------------------------------------------------------------------------------------------- postprocess

def test_postprocess_by_hand():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 40, 40], [5, 5, 5, 9]], float)
    scores = np.array([[0.9, 0.04], [0.8, 0.7], [0.3, 0.2], [1.0, 1.0]])
    found = postprocess(boxes, scores, (30, 30), PostprocessConfig())
    # Class 0: the second overlaps the first by 90/110. Class 1: 0.04 is below 0.05, so the second stays. The last has
    # no area. The third is cut off at 30.
    assert found.labels.tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.7, 0.3, 0.2])
    np.testing.assert_allclose(found.boxes, [[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [20, 20, 30, 30]])
    best = postprocess(boxes, scores, (30, 30), PostprocessConfig(max_detections=1))
    assert best.scores.tolist() == pytest.approx([0.9])
    assert len(postprocess(boxes, scores, (30, 30), PostprocessConfig(nms_iou=0.9))) == 5


def test_postprocess_with_a_box_for_each_class_and_without_any():
    boxes = np.array([[[0, 0, 4, 4], [1, 1, 6, 6]]], float)
    found = postprocess(boxes, np.array([[0.2, 0.6]]), (9, 9), PostprocessConfig())
    assert found.labels.tolist() == [1, 0] and found.boxes.tolist() == [[1, 1, 6, 6], [0, 0, 4, 4]]
    assert len(postprocess(np.zeros((0, 4)), np.zeros((0, 2)), (9, 9), PostprocessConfig())) == 0


def test_the_base_has_no_network():
    with pytest.raises(TypeError, match="Detector has no losses"):
        Detector().losses(Tensor([1.0]), [])
    with pytest.raises(TypeError, match="Detector has no detect"):
        Detector().detect(Tensor([1.0]), [])


# ----------------------------------------------------------------------------------------------------- degenerate boxes

STRANGE = np.array([[5, 5, 5, 9], [9, 5, 3, 12], [9, 9, 3, 3], [200, 210, 220, 230], [-30, -40, -5, -6],
                    [-1e3, -1e3, 1e3, 1e3], [7, 7, 7 + 1e-30, 7 + 1e-30], [1e-38, 0, 1e-37, 4],
                    [10, 10, 20, 20]], np.float32)
"""Without a width, swapped, outside, far larger than an image, next to nothing; and, the last, one that is right"""


@pytest.mark.parametrize("name", models.names("detection"))
def test_a_degenerate_box_makes_no_nan(name):
    """In the losses, the gradients, a step of the optimizer and the answers: objects, proposals and masks."""
    minicv.seed(0)
    model = models.build(name, num_classes=3)
    size = (model.size,) * 2 if name.endswith("yolo") else (48, 64)
    masks = np.zeros((len(STRANGE), *size), bool)
    masks[-1, 10:20, 10:20] = True  # the others have no pixel
    labels, proposals = np.arange(len(STRANGE)) % 3, STRANGE if model.needs_proposals else None
    targets = [Target(STRANGE[some], labels[some], size, masks[some] if name == "mask_rcnn" else None, proposals)
               for some in (slice(None), slice(1), slice(0))]
    x = np.random.default_rng(0).random((3, 3, *size), dtype=np.float32)
    task = SimpleNamespace(model=model, config=DetectionConfig(steps=2, optimizer="adam", warmup=0))
    job = Training(task)
    model.train()
    for _ in range(2):  # the second with weights that the first has changed
        losses = job.train_step(Tensor(x), targets)
        assert all(np.isfinite(value) for value in losses.values()), dict(losses)
        assert all(p.grad is None or np.isfinite(p.grad).all() for p in model.parameters())
    assert all(np.isfinite(p.data).all() for p in model.parameters())
    found, = model.predict([x[0]], None if proposals is None else [proposals])
    assert np.isfinite(found.boxes).all() and np.isfinite(found.scores).all()
