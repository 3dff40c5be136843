"""The three stages of training R-CNN (Girshick et al., 2014), which SPPNet (He et al., 2014) shares.

    1. fine_tune            the network, to tell the classes and background apart
       extract_features     of all boxes of all images, to disk
    2. fit_svms             a linear SVM for each class, with hard negatives
    3. fit_box_regressors   a ridge regression for each class

The examples of a class differ from stage to stage (R-CNN, app. B). The network needs many: every box with an IoU of at
least 0.5 with an object. An SVM sees the objects themselves, against the boxes with an IoU below 0.3 with every object
of the class. A regression sees every box with an IoU above 0.6.

Differs from the authors' code: pool5 is by far the larger part of the features, so only what the regressions learn from
is kept, a tenth of the boxes or fewer.
"""
from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ..detection import box_iou, encode_boxes, nms
from ..detection.linear_svm import LinearSVM, MiningRound, train_svm_with_mining
from ..detection.ridge import LAMBDA, BoxRegressors
from ..files import atomic_write
from ..models.detection.base import Proposer
from ..models.detection.svm_detector import NO_DETECTION, BoxFeatures, SVMDetector
from .detection import DetectionConfig, train_detector

NEGATIVE_IOU = 0.3  # R-CNN, sec. 2.3: boxes with a lower IoU with every object of a class are its negatives
TARGET_NORM = 20.0  # mean norm of the features that SVMs and regressions see (authors' code): C and lambda assume it


class FeatureCache:
    """Features on disk: ``folder``/000000.safetensors, ... for images 0, 1, ..., each written whole or not at all.

    boxes: float32 (R, 4), the objects first, then the proposals. labels: int64 (G,), of the G objects.
    fc7: (R, D). near: int64 (Q,), the boxes with an IoU above ``regression_iou`` with an object. pool5: (Q, P), of
    these. norm: float32 (R,), of every box's pool5. ``read`` loads only the arrays it is asked for.
    """

    def __init__(self, folder: str | os.PathLike, count: int):
        self.folder, self.count = Path(folder), count

    def path(self, i: int) -> Path:
        return self.folder / f"{i:06}.safetensors"

    def write(self, i: int, boxes: np.ndarray, labels: np.ndarray, features: BoxFeatures,
              regression_iou: float = SVMDetector.regression_iou) -> None:
        near = np.flatnonzero(box_iou(boxes, boxes[:len(labels)]).max(axis=1, initial=0) > regression_iou)
        arrays = {"boxes": boxes, "labels": labels, "fc7": features.fc7, "near": near, "pool5": features.pool5[near],
                  "norm": np.linalg.norm(features.pool5, axis=1)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path(i)) as temporary:  # safetensors' save_file does not report a full disk clearly
            temporary.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))

    def read(self, i: int, *names: str) -> list[np.ndarray]:
        """Return some of "boxes", "labels", "fc7", "near", "pool5", "norm" of image i."""
        with safe_open(self.path(i), "np") as file:
            return [file.get_tensor(name) for name in names]

    def read_all(self, *names: str) -> Iterator[list[np.ndarray]]:
        """Yield ``read`` of one image after the other."""
        return (self.read(i, *names) for i in range(self.count))

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(self.path(i).stat().st_size for i in range(self.count))


# ---------------------------------------------------------------------------------------------------------
# The stages
# ---------------------------------------------------------------------------------------------------------
def fine_tune(model: SVMDetector, dataset: Any, config: DetectionConfig,
              proposer: Proposer | None = None) -> list[float]:
    """Stage 1 (R-CNN, sec. 2.3): train the network to classify boxes; return the losses."""
    return [losses["total"] for losses in train_detector(model, dataset, config, proposer)]


def extract_features(model: SVMDetector, dataset: Any, folder: str | os.PathLike,
                     proposer: Proposer | None = None) -> FeatureCache:
    """Run every box of every image through the network, once; replace what is in ``folder``.

    ``RuntimeError`` after the first image if the disk lacks room for as much of each of the others.
    """
    cache, proposer = FeatureCache(folder, len(dataset)), proposer or model.propose
    for i in range(len(dataset)):
        sample = dataset[i].for_training()
        boxes = np.concatenate([sample.boxes, proposer(sample.image)]).astype(np.float32)
        cache.write(i, boxes, sample.labels, model.features(sample.image, boxes), model.regression_iou)
        if i == 0:
            needed, free = cache.path(0).stat().st_size * (len(dataset) - 1), shutil.disk_usage(folder).free
            if needed > free:
                raise RuntimeError(f"extract_features: {len(dataset)} images need about {needed / 1e6:,.0f} MB in "
                                   f"{folder}, where {free / 1e6:,.0f} MB are free; set TMPDIR to a folder with more")
    return cache


def fit_svms(model: SVMDetector, cache: FeatureCache, C: float = 1e-3,
             retrain_limit: int = 2000) -> list[list[MiningRound]]:
    """Stage 2 (R-CNN, sec. 2.3, app. B): fit one SVM for each class; return each class's mining rounds.

    Features are scaled to a mean norm of TARGET_NORM. The cache is read once per class. A class without an object, or
    without a negative, gets a score below any detection's: its SVM would find everything, or noise.
    """
    scale = TARGET_NORM / max(mean_norm(cache), 1e-12)
    svms, histories = [], []
    for k in range(model.num_classes):
        objects = [fc7[:len(labels)][labels == k] for fc7, labels in cache.read_all("fc7", "labels")]
        negatives = (fc7[negatives_of_class(k, boxes, labels, model.negative_nms_iou)] * np.float32(scale)
                     for fc7, boxes, labels in cache.read_all("fc7", "boxes", "labels"))
        positives = np.concatenate(objects) * np.float32(scale)
        svm, history = train_svm_with_mining(positives, negatives, C, retrain_limit=retrain_limit)
        if not len(positives) or not sum(mining.seen for mining in history):
            svm = LinearSVM(np.zeros(positives.shape[1], np.float32), NO_DETECTION)
        svms.append(svm)
        histories.append(history)
    model.set_svms(svms, scale)
    return histories


def fit_box_regressors(model: SVMDetector, cache: FeatureCache, lam: float = LAMBDA) -> np.ndarray:
    """Stage 3 (R-CNN, app. C): fit one regression for each class; return how many pairs each learned from, (K,).

    Features are scaled to a mean norm of TARGET_NORM, and the weights scaled back.
    """
    P = model.box_weight.shape[1]
    x, t, classes = [np.zeros((0, P), np.float32)], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)]
    for pool5, near, boxes, labels in cache.read_all("pool5", "near", "boxes", "labels"):
        if len(near):
            objects = boxes[:len(labels)]
            matched = box_iou(boxes[near], objects).argmax(axis=1)
            x.append(pool5)
            t.append(encode_boxes(objects[matched], boxes[near]))
            classes.append(labels[matched])
    labels = np.concatenate(classes)
    scale = np.float32(TARGET_NORM / max(mean_norm(cache, "pool5"), 1e-12))
    fitted = BoxRegressors.fit(np.concatenate(x) * scale, np.concatenate(t), labels, model.num_classes, lam)
    model.set_box_regressors(dataclasses.replace(fitted, weight=fitted.weight * scale))  # w (s x) = (s w) x
    return np.bincount(labels, minlength=model.num_classes)


def negatives_of_class(k: int, boxes: np.ndarray, labels: np.ndarray, nms_iou: float = 1.0) -> np.ndarray:
    """Return True (R,) for the boxes whose IoU with every object of class k is below NEGATIVE_IOU.

    Of negatives that overlap by an IoU above ``nms_iou``, only the first stays (SPPNet, sec. 4.1: 70%).
    """
    objects = boxes[:len(labels)][labels == k]
    negative = box_iou(boxes, objects).max(axis=1, initial=0) < NEGATIVE_IOU
    if nms_iou < 1:
        index = np.flatnonzero(negative)
        negative[:] = False
        negative[index[nms(boxes[index], -np.arange(len(index), dtype=np.float32), nms_iou)]] = True
    return negative


def mean_norm(cache: FeatureCache, name: str = "fc7") -> float:
    """Return the mean norm of all boxes' features, "fc7" or "pool5"; 0 without boxes."""
    norms = ([norm for norm, in cache.read_all("norm")] if name == "pool5" else
             [np.linalg.norm(fc7, axis=1) for fc7, in cache.read_all("fc7")])
    return float(np.concatenate([*norms, np.zeros(0)]).mean()) if sum(map(len, norms)) else 0.0


# ---------------------------------------------------------------------------------------------------------
# Stages 2 and 3 together
# ---------------------------------------------------------------------------------------------------------
@dataclasses.dataclass
class StageCosts:
    """Seconds of each stage, bytes of the features on disk, and the number of boxes whose features were computed."""

    fine_tuning: float = 0.0
    features: float = 0.0
    svms: float = 0.0
    regressors: float = 0.0
    nbytes: int = 0
    boxes: int = 0

    @property
    def seconds(self) -> float:
        return self.fine_tuning + self.features + self.svms + self.regressors


def fit_svm_detector(model: SVMDetector, dataset: Any, folder: str | os.PathLike,
                     proposer: Proposer | None = None) -> StageCosts:
    """Run everything that follows fine-tuning, with the features in ``folder``."""
    costs, start = StageCosts(), time.perf_counter()
    cache = extract_features(model, dataset, folder, proposer)
    costs.features, start = time.perf_counter() - start, time.perf_counter()
    fit_svms(model, cache)
    costs.svms, start = time.perf_counter() - start, time.perf_counter()
    fit_box_regressors(model, cache)
    costs.regressors, costs.nbytes = time.perf_counter() - start, cache.nbytes
    costs.boxes = sum(len(boxes) for boxes, in cache.read_all("boxes"))
    return costs


def finish_training(model: Any, dataset: Any, proposer: Proposer | None, quiet: bool = False) -> bool:
    """Fit what the training loop leaves out, the SVMs and regressions of R-CNN and SPPNet; False for other models.

    The features lie in a temporary folder. Prints the cost of each stage unless ``quiet``.
    """
    if not isinstance(model, SVMDetector):
        return False
    with tempfile.TemporaryDirectory(prefix="minicv_features_") as folder:
        costs = fit_svm_detector(model, dataset, folder, proposer)
    if not quiet:
        print(f"features of {costs.boxes} boxes in {costs.features:.0f} s, {costs.nbytes / 1e6:.0f} MB; SVMs in "
              f"{costs.svms:.0f} s; box regressions in {costs.regressors:.0f} s")
    return True
