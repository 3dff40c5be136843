"""Does a detector learn eight images by heart? And what all tests of detectors need."""
from __future__ import annotations

import numpy as np

import minicv
from minicv import models
from minicv.data.generated.shape_boxes import ShapeBoxes
from minicv.models.detection.base import Target
from minicv.training import CachedProposals, DetectionConfig, evaluate_detector, train_detector

TINY = {"backbone": "vgg16", "cut_at": "relu3_2", "backbone_options": {"depth": 11, "width": 4, "batch_norm": True},
        "hidden": 16, "min_size": 48, "max_size": 64, "num_classes": 3, "roi_size": 3}
"""Stride 4, 16 channels; all options of Fast R-CNN"""
PROPOSING = {"anchor_scales": (8.0, 16.0, 32.0), "allowed_border": float("inf"), "rpn_min_size": 2.0,
             "pre_nms_top_n": (300, 200), "post_nms_top_n": (60, 30)}
"""All options of the RPN"""


def learned(name: str, steps: int, proposer=None, size: int = 96, **options) -> dict[str, float]:
    """What ``evaluate_detector`` says of the compact network on the eight images that it was trained on."""
    data = ShapeBoxes(8, size, keep=True)
    proposer = CachedProposals(proposer(data)) if proposer else None
    minicv.seed(0)
    model = models.build(name, num_classes=data.num_classes, min_size=size, max_size=size,
                         **{"rois_per_image": 32, **options})
    config = DetectionConfig(steps=steps, batch=4, optimizer="adam", lr=0.002, warmup=20, weight_decay=0, flip=False)
    for _ in train_detector(model, data, config, proposer):
        pass
    return evaluate_detector(model, data, proposer=proposer)


def truth(*boxes, size=(48, 64), labels=None, masks=False, proposals=None) -> Target:
    """One image's target: boxes (x1, y1, x2, y2), labels 0, 1, 2, 0, ... by default, masks as large as the boxes."""
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.arange(len(boxes)) % 3 if labels is None else np.array(labels, np.int64)
    filled = None
    if masks:
        y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1]) + 0.5
        filled = np.array([(x > x1) & (x < x2) & (y > y1) & (y < y2) for x1, y1, x2, y2 in boxes.tolist()],
                          bool).reshape(-1, *size)
    proposals = None if proposals is None else np.array(proposals, np.float32).reshape(-1, 4)
    return Target(boxes, labels, size, filled, proposals)


def step(model, x: np.ndarray, targets: list[Target], seed: int = 0) -> dict[str, np.ndarray]:
    """Losses, and gradients of all parameters, by name, of a training step; random numbers begin at ``seed``."""
    model.train()
    model.zero_grad()
    with minicv.backend.seeded(seed):
        losses = model.losses(minicv.Tensor(x).to(next(model.parameters()).device), targets)
    sum(losses.values()).backward()
    found = {name: loss.numpy() for name, loss in losses.items()}
    return found | {name: np.zeros(p.shape) if p.grad is None else minicv.backend.to_numpy(p.grad)
                    for name, p in model.named_parameters()}
