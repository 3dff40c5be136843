"""The three trainings of R-CNN (Girshick et al., 2014), which SPPNet (He et al., 2014) shares.

    1. training.rcnn.fine_tune   the network, to tell the classes and background apart
       extract_features          of all boxes of all pictures, to disk
    2. train_svms                a linear SVM for each class, with hard negatives
    3. train_box_regression      a ridge regression for each class

What an example of class k is changes on the way (R-CNN, app. B): for the network every box with an IoU of at least 0.5
with an object, because it needs many; for the SVM only the objects themselves, against what has less than 0.3 with any
of k; for the regression every box with more than 0.6.

Differs from the authors' code: of pool5, by far the larger part of the features, only what the regression learns from
is kept, a tenth of the boxes or fewer.
"""
from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from ...detection import box_iou, encode_boxes, nms
from ...detection.linear_svm import LinearSVM, Mining, train_with_hard_negatives
from ...detection.ridge import LAMBDA, fit_box_regression
from ...files import atomic_write
from .base import Proposer
from .svm_detector import NOTHING, BoxFeatures, SVMDetector

NEGATIVE = 0.3  # R-CNN, sec. 2.3: IoU with an object, below which a box is a negative of its class
LENGTH = 20.0  # mean length of the features that SVMs and regressions see (authors' code): C and lambda are made for it


class FeatureCache:
    """Features on disk: ``folder``/000000.safetensors, ... for pictures 0, 1, ..., each written whole or not at all.

    boxes float32 (R, 4), of which the objects are the first, then the proposals; labels int64 (G,), of the G objects;
    fc7 (R, D); near int64 (Q,), the boxes with an IoU of more than ``near`` with an object, and pool5 (Q, P) of these;
    length float32 (R,), of pool5 of all. Only what is asked for is read.
    """

    def __init__(self, folder: str | os.PathLike, count: int):
        self.folder, self.count = Path(folder), count

    def __len__(self) -> int:
        return self.count

    def path(self, i: int) -> Path:
        return self.folder / f"{i:06}.safetensors"

    def write(self, i: int, boxes: np.ndarray, labels: np.ndarray, features: BoxFeatures,
              near: float = SVMDetector.near) -> None:
        near = np.flatnonzero(box_iou(boxes, boxes[:len(labels)]).max(axis=1, initial=0) > near)
        arrays = {"boxes": boxes, "labels": labels, "fc7": features.fc7, "near": near, "pool5": features.pool5[near],
                  "length": np.linalg.norm(features.pool5, axis=1)}
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.path(i)) as temporary:  # safetensors' own save_file says nothing clear of a full disk
            temporary.write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))

    def read(self, i: int, *names: str) -> list[np.ndarray]:
        """Some of "boxes", "labels", "fc7", "near", "pool5", "length" of picture i."""
        with safe_open(self.path(i), "np") as file:
            return [file.get_tensor(name) for name in names]

    def each(self, *names: str) -> Iterator[list[np.ndarray]]:
        """``read`` for one picture after the other."""
        return (self.read(i, *names) for i in range(self.count))

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(self.path(i).stat().st_size for i in range(self.count))


# ---------------------------------------------------------------------------------------------------------
# What comes after fine-tuning
# ---------------------------------------------------------------------------------------------------------
def extract_features(model: SVMDetector, dataset: Any, folder: str | os.PathLike,
                     proposer: Proposer | None = None) -> FeatureCache:
    """Before step 2: run every box of every picture through the network, once; what is in ``folder`` is replaced.

    ``RuntimeError`` after the first picture, if as much for each of the others is more than the disk has room for.
    """
    cache, proposer = FeatureCache(folder, len(dataset)), proposer or model.propose
    for i in range(len(dataset)):
        sample = dataset[i].for_training()
        boxes = np.concatenate([sample.boxes, proposer(sample.image)]).astype(np.float32)
        cache.write(i, boxes, sample.labels, model.features(sample.image, boxes), model.near)
        if i == 0:
            needed, free = cache.path(0).stat().st_size * (len(dataset) - 1), shutil.disk_usage(folder).free
            if needed > free:
                raise RuntimeError(f"extract_features: {len(dataset)} pictures need about {needed / 1e6:,.0f} MB in "
                                   f"{folder}, where {free / 1e6:,.0f} MB are free; set TMPDIR to a folder with more")
    return cache


def train_svms(model: SVMDetector, cache: FeatureCache, C: float = 1e-3, retrain_after: int = 2000) -> list[
        list[Mining]]:
    """Step 2 (R-CNN, sec. 2.3, app. B): one SVM for each class; for each, what its trainings saw.

    Features are scaled to a mean length of LENGTH. The cache is read once per class. A class without an object, or
    without a negative, gets a score that is no detection: its SVM would find everything, or noise.
    """
    scale = LENGTH / max(mean_length(cache), 1e-12)
    svms, histories = [], []
    for k in range(model.num_classes):
        positives = [fc7[:len(labels)][labels == k] for fc7, labels in cache.each("fc7", "labels")]
        negatives = (fc7[negatives_of(k, boxes, labels, model.distinct)] * np.float32(scale)
                     for fc7, boxes, labels in cache.each("fc7", "boxes", "labels"))
        positives = np.concatenate(positives) * np.float32(scale)
        svm, history = train_with_hard_negatives(positives, negatives, C, retrain_after=retrain_after)
        if not len(positives) or not sum(mining.seen for mining in history):
            svm = LinearSVM(np.zeros(positives.shape[1], np.float32), NOTHING)
        svms.append(svm)
        histories.append(history)
    model.set_svms(svms, scale)
    return histories


def train_box_regression(model: SVMDetector, cache: FeatureCache, lam: float = LAMBDA) -> np.ndarray:
    """Step 3 (R-CNN, app. C): one regression for each class; how many pairs each learned from, (K,).

    Features are scaled to a mean length of LENGTH, the weights scaled back.
    """
    x, t, classes = [], [], []
    for pool5, near, boxes, labels in cache.each("pool5", "near", "boxes", "labels"):
        if len(near):
            truth = boxes[:len(labels)]
            of = box_iou(boxes[near], truth).argmax(axis=1)
            x.append(pool5)
            t.append(encode_boxes(truth[of], boxes[near]))
            classes.append(labels[of])
    P = model.box_weight.shape[1]
    x, t, classes = (np.concatenate([empty, *parts]) for empty, parts in (
        (np.zeros((0, P), np.float32), x), (np.zeros((0, 4), np.float32), t), (np.zeros(0, np.int64), classes)))
    scale = np.float32(LENGTH / max(mean_length(cache, "pool5"), 1e-12))
    fitted = fit_box_regression(x * scale, t, classes, model.num_classes, lam)
    model.set_box_regression(dataclasses.replace(fitted, weight=fitted.weight * scale))  # w (s x) = (s w) x
    return np.bincount(classes, minlength=model.num_classes)


def negatives_of(k: int, boxes: np.ndarray, labels: np.ndarray, distinct: float = 1.0) -> np.ndarray:
    """True (R,) for the boxes whose IoU with every object of class k is below NEGATIVE.

    Of those that overlap by more than ``distinct`` only the first stays (SPPNet, sec. 4.1: 70%).
    """
    truth = boxes[:len(labels)][labels == k]
    negative = box_iou(boxes, truth).max(axis=1, initial=0) < NEGATIVE
    if distinct < 1:
        index = np.flatnonzero(negative)
        negative[:] = False
        negative[index[nms(boxes[index], -np.arange(len(index), dtype=np.float32), distinct)]] = True
    return negative


def mean_length(cache: FeatureCache, name: str = "fc7") -> float:
    """Of the features of all boxes, "fc7" or "pool5"."""
    lengths = ([length for length, in cache.each("length")] if name == "pool5" else
               [np.linalg.norm(fc7, axis=1) for fc7, in cache.each("fc7")])
    return float(np.concatenate([*lengths, np.zeros(0)]).mean()) if sum(map(len, lengths)) else 0.0


@dataclasses.dataclass
class Steps:
    """Seconds of each step, bytes of the features on disk, and how many boxes the network looked at for them."""

    fine_tuning: float = 0.0
    features: float = 0.0
    svms: float = 0.0
    regressions: float = 0.0
    nbytes: int = 0
    boxes: int = 0

    @property
    def seconds(self) -> float:
        return self.fine_tuning + self.features + self.svms + self.regressions


def train_machines(model: SVMDetector, dataset: Any, folder: str | os.PathLike,
                   proposer: Proposer | None = None) -> Steps:
    """All that comes after fine-tuning."""
    steps, start = Steps(), time.perf_counter()
    cache = extract_features(model, dataset, folder, proposer)
    steps.features, start = time.perf_counter() - start, time.perf_counter()
    train_svms(model, cache)
    steps.svms, start = time.perf_counter() - start, time.perf_counter()
    train_box_regression(model, cache)
    steps.regressions, steps.nbytes = time.perf_counter() - start, cache.nbytes
    steps.boxes = sum(len(boxes) for boxes, in cache.each("boxes"))
    return steps
