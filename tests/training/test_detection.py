import hashlib

import numpy as np
import pytest

import minicv
from minicv import models, nn
from minicv.data import DataError
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.detection import Detections, box_iou
from minicv.metrics import CocoEvaluator
from minicv.models.detection.base import Detector
from minicv.training import (
    CachedProposals,
    DetectionConfig,
    DetectionTask,
    evaluate_detector,
    train_alternating,
    train_detector,
)
from tests.models.detection.learning import PROPOSING, TINY

SMALL = DetectionConfig(steps=2, batch=2, optimizer="adam", lr=0.001, warmup=0)


class Oracle(Detector):
    """Knows the right answers: by the gray values of an image's first row."""

    def __init__(self, data, masks=False, share=1.0):
        self.in_channels, self.num_classes, self.min_size, self.max_size = 3, data.num_classes, 64, 64
        self.weight = nn.Parameter(np.ones(1, np.float32))
        self.known = {data[i].image.tobytes(): data[i] for i in range(len(data))}
        self.with_masks, self.share = masks, share

    def losses(self, x, targets):
        return {"loss": (self.weight * self.weight).sum()}

    def predict(self, images, proposals=None, batch=1):
        found = []
        for image in images:
            s = self.known[image.tobytes()]
            n = round(self.share * len(s.boxes))
            found.append(Detections(s.boxes[:n], np.linspace(1, 0.5, n, dtype=np.float32), s.labels[:n],
                                    s.masks[:n] if self.with_masks else None))
        return found


def tiny(name="faster_rcnn", **options):
    minicv.seed(0)
    return models.build(name, **{**TINY, **(PROPOSING if name != "fast_rcnn" else {}), "num_classes": 5, **options})


def digest(model):
    return hashlib.sha256(b"".join(value.tobytes() for value in model.state_dict().values())).hexdigest()


# ------------------------------------------------------------------------------------------------------- the examples

def test_an_epoch_has_every_image_once_and_a_seed_gives_the_same():
    data, model = ShapeBoxes(5, 48, keep=True), tiny()
    task = DetectionTask(model, data, SMALL.replace(flip=False))
    first = [task.example(i)[1].boxes.tobytes() for i in range(5)]
    assert sorted(first) == sorted(model.example(data[i])[1].boxes.tobytes() for i in range(5))
    assert first != [task.example(i)[1].boxes.tobytes() for i in range(5, 10)]
    changed = DetectionTask(model, data, SMALL.replace(scale=1.5, jitter=0.2, turn=True))
    one, two = (changed.example(3) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1].boxes, two[1].boxes)


def test_proposals_are_changed_with_their_image():
    """Proposals that are the objects' boxes must still be, however the image was turned and scaled."""
    data = ShapeBoxes(4, (48, 64), keep=True)
    boxes = {s.image.tobytes(): s.boxes for s in data}
    config = SMALL.replace(scale=1.6, turn=True, jitter=0.3)
    task = DetectionTask(tiny("fast_rcnn"), data, config, lambda image: boxes[image.tobytes()])
    for i in range(12):
        _, target = task.example(i)
        assert target.proposals.dtype == np.float32
        if len(target.boxes):
            np.testing.assert_allclose(box_iou(target.boxes, target.proposals).max(axis=1), 1, rtol=1e-5)
        assert len(target.proposals) == len(target.boxes) and target.masks is None


def test_a_network_that_needs_proposals_gets_its_own_by_default():
    model = tiny("fast_rcnn")
    model.proposer = lambda image: np.array([[1, 2, 30, 40]], np.float32)
    _, target = DetectionTask(model, ShapeBoxes(1, 48, keep=True), SMALL.replace(flip=False)).example(0)
    np.testing.assert_allclose(target.proposals, [[1, 2, 30, 40]])
    assert DetectionTask(tiny(), ShapeBoxes(1, 48, keep=True), SMALL).example(0)[1].proposals is None


def test_a_bad_image_is_named():
    class Gray(ShapeBoxes):
        def __getitem__(self, i):
            import dataclasses
            whole = super().__getitem__(i)
            return dataclasses.replace(whole, image=whole.image[:1])

    with pytest.raises(DataError, match=r"boxes-train-0-0: FasterRCNN.example: an image must be \(3, H, W\)"):
        DetectionTask(tiny(), Gray(1, 48), SMALL).example(0)
    with pytest.raises(ValueError, match="train: the data set has no images"):
        DetectionTask(tiny(), ShapeBoxes(0, 48), SMALL)


# ----------------------------------------------------------------------------------------------------------- training

@pytest.mark.parametrize("name", ["fast_rcnn", "faster_rcnn", "mask_rcnn"])
def test_training_is_reproducible(name):
    data, found = ShapeBoxes(4, 48, keep=True), []
    for before in (1, 2):
        model = tiny(name)
        model.proposer = lambda image: np.array([[0, 0, 20, 20], [5, 5, 40, 44], [20, 3, 44, 30]], np.float32)
        minicv.seed(before)  # minicv's own random numbers are the config's
        losses = list(train_detector(model, data, SMALL.replace(scale=1.2)))
        found.append((losses, digest(model)))
    assert found[0] == found[1]
    assert all(step["total"] == pytest.approx(sum(step.values()) - step["total"]) for step in found[0][0])


def test_alternating_training_changes_one_part_at_a_time():
    data, model, states, steps = ShapeBoxes(3, 48, keep=True), tiny(), [], []
    states.append(model.state_dict())
    names = []
    for number, losses in train_alternating(model, data, SMALL):
        steps.append(number)
        names.append(list(losses))
        if len(steps) % 2 == 0:
            states.append(model.state_dict())
    assert steps == [1, 1, 2, 2, 3, 3, 4, 4]
    assert names[::2] == [["rpn_class", "rpn_box", "total"], ["class", "box", "total"]] * 2

    def changed(a, b):
        return {name.partition(".")[0] for name in a if (a[name] != b[name]).any()}

    assert changed(states[0], states[1]) == {"rpn", "backbone"}
    # the backbone of step 2 starts from the first weights: in two steps of Adam no weight moves by more than 2 rates
    assert changed(states[1], states[2]) == {"backbone", "head"}
    moved = [abs(states[2][n] - states[0][n]).max() for n in states[0] if n.startswith("backbone") and "run" not in n]
    assert max(moved) < 2 * 2 * 0.001 * 1.01  # biases at twice the rate
    assert changed(states[2], states[3]) == {"rpn"} and changed(states[3], states[4]) == {"head"}
    assert not model.backbone.frozen and model.trainable == ("backbone", "rpn", "head")


# ---------------------------------------------------------------------------------------------------------- proposals

def test_cached_proposals_in_memory_and_on_disk(tmp_path):
    asked = []

    def proposer(image):
        asked.append(image.sum())
        return np.array([[0, 0, *image.shape[1:]]])

    one, two = np.zeros((3, 4, 5), np.float32), np.ones((3, 4, 5), np.float32)
    cached = CachedProposals(proposer, tmp_path / "a" / "b")
    for image in (one, two, one):
        np.testing.assert_array_equal(cached(image), [[0, 0, 4, 5]])
    again = CachedProposals(proposer, tmp_path / "a" / "b")
    assert again(two).dtype == np.float32 and asked == [0, 60]
    assert len(list((tmp_path / "a" / "b").iterdir())) == 2
    CachedProposals(proposer)(two)
    assert len(asked) == 3


def test_damaged_proposals_are_named(tmp_path):
    image = np.zeros((1, 4, 5), np.float32)
    CachedProposals(lambda image: np.array([[0, 0, 5, 4]]), tmp_path)(image)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    at = content.index(np.float32([5, 4]).tobytes())
    for damaged in (content[:-1], content[:at] + b"\1" + content[at + 1:], b""):  # the second: another number
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{path.name}: damaged proposals .*; remove the file to have them "
                                            "computed again"):
            CachedProposals(lambda image: None, tmp_path)(image)
    np.savez(path, boxes=np.zeros(4, np.float32))
    with pytest.raises(DataError, match="it holds float32 .4,."):
        CachedProposals(lambda image: None, tmp_path)(image)


# ---------------------------------------------------------------------------------------------------------- measuring

def test_evaluate_all_found_and_half_found():
    data = ShapeBoxes(6, 64, objects=(2, 4), keep=True)
    found = evaluate_detector(Oracle(data, masks=True), data)
    names = ["mAP@0.5", *(f"AP@0.5 {n}" for n in data.class_names),
             *(f"{kind} {n}" for kind in ("COCO", "mask") for n in CocoEvaluator(1).summary())]
    assert list(found) == names
    assert all(v == pytest.approx(1) for name, v in found.items() if not np.isnan(v) and not name.endswith("AR1"))
    half = evaluate_detector(Oracle(data, share=0.5), data, batch=4)
    assert list(half) == names[:-12] and half["mAP@0.5"] < 0.9
