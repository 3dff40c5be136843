"""Two training steps of every network on data that are legal, but hardly show anything."""
import json
import warnings

import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.data import IGNORE, DetectionSample, Sample
from minicv.models.detection.base import Target
from minicv.training import DetectionConfig, DetectionTask, Run, SegmentationConfig, SegmentationTask, Training
from tests.models.detection.learning import PROPOSING, TINY

SMALL_VGG = {"depth": 11, "width": 4, "hidden": 8, "pooled": 1, "batch_norm": True, "dropout": 0.0}
DETECTORS = {
    "fast_rcnn": TINY, "faster_rcnn": {**TINY, **PROPOSING}, "mask_rcnn": {**TINY, **PROPOSING, "mask_width": 4},
    "rcnn": {"warp_size": 32, "context": 2.0, "rois_per_image": 16, "backbone_options": SMALL_VGG},
    "sppnet": {**{k: v for k, v in TINY.items() if k != "roi_size"}, "image_scales": (0.8, 1.0)},
    "yolo": {"image_size": 56, "layers": "3x4 max 3x8 max 3x8 max", "hidden": 16},
    "fast_yolo": {"image_size": 56, "layers": "3x4 max 3x8 max 3x8 max", "hidden": 16}}
LOSSES = {"fast_rcnn": ["class", "box"], "faster_rcnn": ["rpn_class", "rpn_box", "class", "box"],
          "mask_rcnn": ["rpn_class", "rpn_box", "class", "box", "mask"], "rcnn": ["class"], "sppnet": ["class"],
          "yolo": ["center", "size", "object", "no_object", "class"]}
LOSSES["fast_yolo"] = LOSSES["yolo"]


def scene(boxes, labels=None, size=(48, 64), channels=3, masks=True, **flags):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else np.array(labels, np.int64)
    filled = np.zeros((len(boxes), *size), bool)
    for mask, (x1, y1, x2, y2) in zip(filled, boxes.astype(int).tolist(), strict=True):
        mask[y1:max(y2, y1 + 1), x1:max(x2, x1 + 1)] = True
    rng = np.random.default_rng(len(boxes))
    return DetectionSample(rng.random((channels, *size), np.float32), boxes, labels, "a", filled if masks else None,
                           **{name: np.full(len(boxes), True) for name in flags})


def many(count):
    corner = np.random.default_rng(0).integers(0, 40, (count, 2))
    return np.concatenate([corner, corner + np.random.default_rng(1).integers(1, 8, (count, 2))], axis=1)


PIXEL = [[5, 5, 6, 6]]
DATA = {
    "no objects": [scene([]), scene([])],
    "one pixel, in one of two images": [scene(PIXEL), scene([])],
    "crowds only": [scene([[4, 4, 30, 30]], crowd=True)] * 2,
    "difficult only": [scene([[4, 4, 30, 30]], difficult=True), scene([[4, 4, 30, 30]])],
    "an image of one pixel": [scene([[0, 0, 1, 1]], size=(1, 1)), scene([], size=(1, 1))],
    "a line of pixels": [scene([[0, 0, 9, 1]], size=(1, 64)), scene([[0, 3, 1, 9]], size=(64, 1))],
    "gray": [scene([[4, 4, 30, 30]], channels=1), scene(PIXEL, channels=1)],
    "300 objects": [scene(many(300)), scene([])],
    "the whole image": [scene([[0, 0, 64, 48]]), scene([[0, 0, 64, 48]] * 3)],
    "objects without masks": [scene([[4, 4, 30, 30]]), scene([[8, 8, 30, 30]], masks=False)],
}


class Few:
    num_classes, class_names = 1, ("thing",)

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


def propose(image):
    H, W = image.shape[1:]
    return np.array([[0, 0, W, H], [0, 0, W / 2, H / 2], [W - 1, H - 1, W, H], [3, 3, 3, 9]], np.float32)


@pytest.mark.parametrize("proposals", ["some", "none"])
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("name", DETECTORS)
def test_two_steps_of_every_detector(name, data, proposals):
    if proposals == "none" and name in ("faster_rcnn", "mask_rcnn", "yolo", "fast_yolo"):
        proposals = None  # it makes its own, or needs none
    minicv.seed(0)
    options = {**DETECTORS[name], "num_classes": 1, "in_channels": len(DATA[data][0].image)}
    model = models.build(name, **options)
    config = DetectionConfig(steps=2, batch=2, lr=0.01, warmup=0)
    proposer = {"some": propose, "none": lambda image: np.zeros((0, 4), np.float32), None: None}[proposals]
    if not model.needs_proposals:
        proposer = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        steps = list(Training(DetectionTask(model, Few(DATA[data]), config, proposer)))
        found = model.predict([DATA[data][0].image], None if proposer is None else [proposer(DATA[data][0].image)])
    for losses in steps:
        assert list(losses) == [*LOSSES[name], "total"]
        assert all(np.isfinite(value) for value in losses.values())
    assert all(np.isfinite(value).all() for value in model.state_dict().values())
    assert np.isfinite(found[0].boxes).all() and np.isfinite(found[0].scores).all()


SEGMENTATION = {
    "unet": {"width": 2, "depth": 1}, "fcn32s": {"width": 2, "hidden": 4}, "fcn16s": {"width": 2, "hidden": 4},
    "fcn8s": {"width": 2, "hidden": 4}, "deconvnet": {"width": 2, "convs": (1, 1, 1), "hidden": 4, "side": 1},
    "pspnet": {"backbone_options": {"width": 4, "layers": (1, 1, 1, 1)}, "channels": 4},
    "deeplabv3": {"backbone_options": {"width": 4, "layers": (1, 1, 1, 1)}, "channels": 4, "auxiliary": 0.4},
    "deeplabv3plus": {"backbone_options": {"width": 4, "layers": (1, 1, 1, 1)}, "channels": 4, "decoder_channels": 4}}


def labeled(size=(20, 24), channels=3, fill=0, **places):
    label = np.full(size, fill)
    for k, (y, x) in places.items():
        label[y, x] = int(k[1:])
    return Sample(np.random.default_rng(0).random((channels, *size), np.float32), label, np.zeros(size, np.int32), "a")


LABELS = {
    "one class": [labeled(), labeled()],
    "one pixel with a label": [labeled(fill=IGNORE, c1=(7, 9)), labeled()],
    "an image of one pixel": [labeled(size=(1, 1)), labeled(size=(1, 1), fill=1)],
    "a line of pixels": [labeled(size=(1, 33)), labeled(size=(1, 33))],
    "gray": [labeled(channels=1), labeled(channels=1, c1=(3, 3))],
    "void but for the corner": [labeled(fill=IGNORE, c0=(0, 0)), labeled(fill=IGNORE, c1=(19, 23))],
}


class Pixels(Few):
    num_classes, class_names, upright = 2, ("background", "thing"), True


@pytest.mark.parametrize("data", LABELS)
@pytest.mark.parametrize("name", SEGMENTATION)
def test_two_steps_of_every_segmentation_network(name, data, tmp_path):
    minicv.seed(0)
    model = models.build(name, **{**SEGMENTATION[name], "num_classes": 2, "in_channels": len(LABELS[data][0].image)})
    config = SegmentationConfig(steps=2, batch=2, lr=0.01, warmup=0, scale=1.0, class_weights=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lines = Run(Training(SegmentationTask(model, Pixels(LABELS[data]), config)), tmp_path, quiet=True).run()
        found = model.predict([LABELS[data][0].image])[0]
    names = ["loss", "auxiliary", "total"] if model.__dict__.get("auxiliary_head") is not None else ["loss", "total"]
    assert [name for name in lines[-1] if name in ("loss", "auxiliary", "total")] == names
    assert all(np.isfinite(lines[-1][name]) for name in names) and "NaN" not in json.dumps(lines)
    assert np.isfinite(found.probabilities).all() and found.labels.shape == LABELS[data][0].label.shape


# ------------------------------------------------------------------------------------- gradients of what takes no part

def gradient(f, *arrays):
    """Of the sum of what ``f`` returns, times infinity where that is 0 for what takes no part."""
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    sum(f(*tensors).values()).backward()
    return [t.grad for t in tensors]


def test_yolos_cells_without_an_object_learn_no_box_and_no_class_even_from_infinity():
    model = models.build("yolo", num_classes=2, **DETECTORS["yolo"])
    S, y = model.S, np.random.default_rng(0).random((1, model.S, model.S, 12)).astype(np.float32)
    target = Target(np.array([[2, 2, 20, 30]], np.float32), np.array([1]), (56, 56))
    cells = np.ones((S, S), bool)
    cells[2, 1] = False  # the object's center, (11, 16), in cells of 8 pixels
    y[0, cells, 0:4], y[0, cells, 5:9] = np.inf, np.nan
    g, = gradient(lambda y: model.grid_losses(y, [target]), y)
    assert (g[0, cells][:, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11]] == 0).all()
    assert g[0, cells][:, [4, 9]].all() and np.isfinite(g).all()  # their confidences are to be 0
    _, box = np.nonzero([g[0, 2, 1, :4], g[0, 2, 1, 5:9]])[0][:2]
    y[0, 2, 1, 4 + 5 * box] = np.inf  # the responsible box's confidence is no part of "no_object"
    g, = gradient(lambda y: {"no_object": model.grid_losses(y, [target])["no_object"]}, y)
    assert g[0, 2, 1, 4 + 5 * box] == 0 and np.isfinite(g).all()


def test_anchors_that_are_ignored_and_other_classes_boxes_and_masks_have_no_gradient():
    minicv.seed(0)
    model = models.build("mask_rcnn", **{**DETECTORS["mask_rcnn"], "num_classes": 3, "anchors_per_image": 8})
    anchors = model.rpn.anchors((12, 16))
    rng = np.random.default_rng(0)
    score = rng.standard_normal((1, len(anchors), 2)).astype(np.float32)
    offset = rng.standard_normal((1, len(anchors), 4)).astype(np.float32)
    masks = np.zeros((1, 48, 64), bool)
    masks[0, 4:30, 4:20] = True
    target = Target(np.array([[4, 4, 20, 30]], np.float32), np.array([1]), (48, 64), masks)
    with minicv.backend.seeded(0):
        used = model.rpn.targets(anchors, target, minicv.backend.rng())
    taken = np.union1d(used.positive, used.negative)
    others = np.setdiff1d(np.arange(len(anchors)), taken)
    score[0, others], offset[0, np.setdiff1d(np.arange(len(anchors)), used.positive)] = np.nan, np.inf
    with minicv.backend.seeded(0):
        g, h = gradient(lambda s, o: model.rpn.losses(s, o, anchors, [target]), score, offset)
    assert len(taken) == 8 and (g[0, others] == 0).all() and g[0, taken].any(axis=1).all()
    assert (np.flatnonzero(h[0].any(axis=1)) == used.positive).all() and np.isfinite(h).all()

    scores = rng.standard_normal((3, 4)).astype(np.float32)
    boxes = np.full((3, 3, 4), np.nan, np.float32)
    boxes[0, 1] = 0.5  # the one RoI that is an object, of class 1
    from minicv.models.detection.roi_heads import RoISample
    rois = [RoISample(np.array([[5, 4, 20, 30], [0, 0, 9, 9], [40, 20, 60, 40]], np.float32), np.array([2, 0, 0]),
                      np.array([0, 0, 0]))]
    _, h = gradient(lambda s, b: model.head.losses(s, b, rois, [target]), scores, boxes)
    assert h[0, 1].all() and (np.delete(h.reshape(9, 4), 1, axis=0) == 0).all()


def test_void_pixels_have_a_gradient_of_exactly_0():
    from minicv.models.distributed import mean_cross_entropy
    scores = np.random.default_rng(0).standard_normal((1, 2, 3, 3)).astype(np.float32)
    label = np.zeros((1, 3, 3), int)
    label[0, 1] = IGNORE
    scores[0, :, 1] = np.nan
    g, = gradient(lambda s: {"loss": mean_cross_entropy(s, Tensor(label), None, None)}, scores)
    assert (g[0, :, 1] == 0).all() and np.isfinite(g).all() and g[0, :, 0].all()
