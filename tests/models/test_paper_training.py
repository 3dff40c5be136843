"""How each paper trains: the numbers of every paper preset, one by one, and that they are the ones the docs show."""
import re
from pathlib import Path

import numpy as np
import pytest

import minicv
from minicv import Tensor, models
from minicv.nn import init
from minicv.training import DetectionConfig, SegmentationConfig, TrainConfig, Training, take_weights

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training.md"

SGD = {"optimizer": "sgd", "momentum": 0.9, "warmup": 0, "warmup_start": 0.0, "freeze_bn": False, "decay_biases": True}
STEP = {"schedule": "step", "gamma": 0.1}
UPRIGHT = {"scale": 2.0, "jitter": 0.0}  # scaled by 0.5 to 2 and mirrored
PAPERS = {
    # Fast R-CNN, sec. 2.3: "30k mini-batch iterations, and then lower the learning rate to 0.0001 and train for another
    # 10k", N = 2, "parameter decay of 0.0005 (on weights and biases)"
    "fast_rcnn": {**SGD, **STEP, "steps": 40000, "batch": 2, "lr": 0.001, "weight_decay": 0.0005,
                  "milestones": (0.75,)},
    # Faster R-CNN, sec. 3.1.3: 0.001 for 60k and 0.0001 for 20k mini-batches, each of a single image
    "faster_rcnn": {**SGD, **STEP, "steps": 80000, "batch": 1, "lr": 0.001, "weight_decay": 0.0005,
                    "milestones": (0.75,)},
    # Mask R-CNN, sec. 3.1: 16 images, 160k iterations at 0.02, decreased by 10 at 120k, decay 0.0001
    "mask_rcnn": {**SGD, **STEP, "steps": 160000, "batch": 16, "lr": 0.02, "weight_decay": 0.0001,
                  "milestones": (0.75,), "freeze_bn": True},
    # R-CNN, sec. 2.3: 0.001; the rest as its released solver: divided by 10 every 20,000 of 100,000 steps
    "rcnn": {**SGD, **STEP, "steps": 100000, "batch": 2, "lr": 0.001, "weight_decay": 0.0005,
             "milestones": (0.2, 0.4, 0.6, 0.8)},
    # SPPNet, sec. 4.1: 250k mini-batches at 0.0001, then 50k at 0.00001
    "sppnet": {**SGD, **STEP, "steps": 300000, "batch": 2, "lr": 0.0001, "weight_decay": 0.0005,
               "milestones": (5 / 6,)},
    # YOLO, sec. 2.2: from 0.001 to 0.01; 75, 30 and 30 epochs, here of 16,551 images; shift and scale of up to 20%,
    # exposure and saturation by up to 1.5; Darknet's yolov1.cfg: the rate rises for 600 steps
    "yolo": {**SGD, **STEP, "steps": 34912, "batch": 64, "lr": 0.01, "weight_decay": 0.0005,
             "milestones": (75 / 135, 105 / 135), "warmup": 600, "warmup_start": 0.1, "shift": 0.2, "exposure": 1.5,
             "scale": 1.0, "jitter": 0.0, "flip": True},
    # FCN, sec. 4.3: 20 images, fixed 0.0001 (VGG16); sec. 4.1: at least 175 epochs; biases as in the released prototxt
    "fcn8s": {**SGD, "schedule": "constant", "steps": 74358, "batch": 20, "lr": 0.0001, "weight_decay": 0.0005,
              "decay_biases": False, "tile": 500, "scale": 1.0, "jitter": 0.0},
    # DeconvNet, sec. 5.1: 64 images, 20K and 40K steps, from 0.01; its solver of stage two divides every 10,000 steps
    "deconvnet": {**SGD, **STEP, "steps": 60000, "batch": 64, "lr": 0.01, "weight_decay": 0.0005,
                  "milestones": (1 / 2, 2 / 3, 5 / 6), "tile": 224, "two_stage": True},
    # U-Net, sec. 3: a single tile, momentum 0.99, eq. (2)'s weights; sec. 3.1: displacements of 10 pixels
    "unet": {**SGD, "schedule": "constant", "batch": 1, "momentum": 0.99, "weight_decay": 0.0, "tile": 388,
             "weight_map": True, "elastic": 10.0},
    # PSPNet, sec. 5.1: 0.01, poly with power 0.9, 150K steps on ADE20K, decay 0.0001, batch 16; resize by 0.5 to 2,
    # rotation between -10 and 10 degrees, Gaussian blur
    "pspnet": {**SGD, **UPRIGHT, "schedule": "poly", "power": 0.9, "steps": 150000, "batch": 16, "lr": 0.01,
               "weight_decay": 0.0001, "tile": 473, "rotation": 10.0, "blur": True},
    # DeepLabv3, sec. 4.1: poly, 0.007, crops of 513, batch 16, 30K steps at output stride 16
    "deeplabv3": {**SGD, **UPRIGHT, "schedule": "poly", "power": 0.9, "steps": 30000, "batch": 16, "lr": 0.007,
                  "weight_decay": 0.0001, "tile": 513},
}
PAPERS["fast_yolo"] = PAPERS["yolo"]  # sec. 2
PAPERS["fcn16s"] = PAPERS["fcn32s"] = PAPERS["fcn8s"]
PAPERS["deeplabv3plus"] = {**PAPERS["deeplabv3"], "weight_decay": 0.00004}  # released code: Xception's


def defaults(name, preset="paper"):
    cls = models.model_class(name)
    config = DetectionConfig if name in models.names("detection") else SegmentationConfig
    return config(**cls.TRAIN_DEFAULTS[preset])


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_the_paper_preset_trains_as_the_paper(name):
    config = defaults(name)
    assert {field: getattr(config, field) for field in PAPERS[name]} == PAPERS[name]


def test_every_network_that_is_trained_is_in_the_list():
    assert set(PAPERS) == {n for kind in ("detection", "segmentation") for n in models.names(kind)}


def test_yolos_rate_from_step_to_step():
    config = defaults("yolo")
    rates = [config.lr * config.lr_factor(step) for step in (0, 300, 600, 19000, 20000, 28000, 34911)]
    np.testing.assert_allclose(rates, [0.001, 0.0055, 0.01, 0.01, 0.001, 0.0001, 0.0001], rtol=0.02)
    assert config.steps == round(135 * (5011 + 11540) / 64)  # trainval of VOC 2007 and of 2012


# What belongs to a network rather than to its config
def test_papers_boxes_and_batch_norm():
    with init.blank():
        fast, faster, mask, sppnet = (models.build(name, "paper") for name in
                                      ("fast_rcnn", "faster_rcnn", "mask_rcnn", "sppnet"))
        deeplab, psp, yolo = (models.build(name, "paper") for name in ("deeplabv3", "pspnet", "yolo"))
    assert 2 * fast.config.rois_per_image == faster.config.rois_per_image == 128  # Fast R-CNN, sec. 2.3; its code
    assert mask.config.rois_per_image == 64  # Mask R-CNN, sec. 3.1, C4
    rpn, spp = faster.rpn.config, sppnet.config
    assert (rpn.anchors_per_image, rpn.post_nms_top_n, rpn.allowed_border) == (256, (2000, 300), 0)  # sec. 3.1.3, 3.3
    assert (spp.regression_iou, spp.negative_nms_iou, spp.multi_size_training) == (0.5, 0.7, False)  # SPPNet, sec. 4.1
    assert yolo.config.shuffle_objects and yolo.dropout.p == 0.5
    norms = [m for m in deeplab.modules() if isinstance(m, minicv.nn.BatchNorm2d)]
    assert len(norms) > 100 and {m.momentum for m in norms} == {0.0003}  # DeepLabv3, sec. 4.1: a decay of 0.9997
    assert psp.config.auxiliary == 0.4  # PSPNet, sec. 3.3
    with init.blank():
        google = models.build("googlenet", "paper")
    assert google.dropout == 0.4  # GoogLeNet, table 1
    assert models.model_class("deeplabv3").SECOND_STAGE == {"lr": 0.001, "freeze_bn": True}


def test_biases_that_do_not_decay():
    model = models.build("fcn8s")
    names = {id(p): name for name, p in model.named_parameters()}
    for decay_biases in (True, False):
        optimizer, _ = TrainConfig(lr=0.5, weight_decay=0.1, decay_biases=decay_biases).make_optimizer(model)
        seen = {}
        for group in optimizer.param_groups:
            seen |= {names[id(p)]: (group["lr"], group["weight_decay"]) for p in group["params"]}
        assert set(seen) == set(names.values())
        assert {seen[n] for n in seen if n.endswith("bias")} == {(1.0, 0.1 if decay_biases else 0.0)}
        assert {seen[n] for n in seen if not n.endswith("bias")} == {(0.5, 0.1)}


class Once:
    """One step on a given batch."""

    def __init__(self, model, *batch, **config):
        self.model, self.config, self.given = model, TrainConfig(steps=1, lr=0.1, **config), batch

    def example(self, i):
        return i

    def collate(self, examples):
        return self.given


@pytest.mark.parametrize("freeze", [True, False])
def test_frozen_batch_norm_keeps_its_numbers_and_normalizes_by_them(freeze):
    minicv.seed(0)
    model = models.build("pspnet", num_classes=3, backbone_options={"width": 4, "layers": (1, 1, 1, 1)}, channels=4)
    rng = np.random.default_rng(0)
    for module in model.modules():
        if isinstance(module, minicv.nn.BatchNorm2d):
            module.running_mean += rng.normal(0, 0.1, module.running_mean.shape).astype("f4")
    x = Tensor(rng.standard_normal((2, 3, 16, 16)).astype(np.float32))
    label = Tensor(rng.integers(0, 3, (2, 16, 16)))
    before = {name: np.array(value) for name, value in model.state_dict().items()}
    for _ in Training(Once(model, x, label, batch=1, freeze_bn=freeze)):
        pass
    changed = {name for name, value in model.state_dict().items() if not np.array_equal(value, before[name])}
    norms = {f"{name}.{part}" for name, m in model.named_modules() if isinstance(m, minicv.nn.BatchNorm2d)
             for part in ("weight", "bias", "running_mean", "running_var")}
    assert (changed & norms == set()) if freeze else (norms <= changed)
    assert {name for name in before if name.endswith("weight")} - norms <= changed
    for _ in Training(Once(model, x, label, batch=1)):  # and thawed by the next training that does not freeze it
        pass
    assert all(m.weight.requires_grad and not m.frozen for m in model.modules()
               if isinstance(m, minicv.nn.BatchNorm2d))


def test_weights_of_one_output_stride_begin_a_training_at_another():
    options = {"num_classes": 3, "backbone_options": {"width": 4, "layers": (1, 1, 1, 1)}, "channels": 4}
    coarse, fine = (models.build("deeplabv3", output_stride=stride, **options) for stride in (16, 8))
    take_weights(fine, coarse.state_dict())
    for name, value in coarse.state_dict().items():
        np.testing.assert_array_equal(fine.state_dict()[name], value)


# ---------------------------------------------------------------------------------------------------------- the page

COLUMNS = ("steps", "batch", "optimizer", "lr", "momentum", "weight_decay", "schedule")


def row(name, preset):
    config = defaults(name, preset)
    schedule = config.schedule
    if schedule == "step":
        schedule += " at " + ", ".join(f"{round(m * config.steps):,}" for m in config.milestones)
    if config.warmup:
        schedule += f", rising over {config.warmup}" + (f" from {config.lr * config.warmup_start:g}"
                                                         if config.warmup_start else "")
    fields = {f: getattr(config, f) for f in vars(config)
              if f not in (*COLUMNS, "milestones", "gamma", "power", "warmup", "warmup_start", "seed")}
    plain = vars(type(config)())
    other = ", ".join(f"`{f}={v}`" for f, v in fields.items() if v != plain[f])
    numbers = [f"{config.steps:,}", f"{config.batch}", config.optimizer, f"{config.lr:g}",
               f"{config.momentum:g}" if config.optimizer == "sgd" else "", f"{config.weight_decay:g}", schedule, other]
    return f"| {name} | " + " | ".join(numbers) + " |"


def table(preset):
    head = ("| network | steps | images | optimizer | rate | momentum | decay | schedule | other |\n"
            + "| --- " * 9 + "|\n")
    return head + "\n".join(row(name, preset) for name in sorted(PAPERS)) + "\n"


@pytest.mark.parametrize("preset", ["paper", "compact"])
def test_the_page_shows_these_numbers(preset):
    """docs/training.md is right if it has the two tables that this test prints where it fails."""
    page = PAGE.read_text(encoding="utf-8")
    shown = re.search(rf"## The {preset} preset.*?\n(\| network.*?\n)\n", page + "\n", re.S)[1]
    assert shown == table(preset), table(preset)
