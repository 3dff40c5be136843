"""What the contenders of ``steps.py`` share: cases, weights, images and targets, in NumPy alone.

Weights are drawn from the name and shape of each parameter, so two processes have the same ones without a file.
"""
from __future__ import annotations

import zlib
from typing import Any

import numpy as np

CLASSES = {"compact": 10, "paper": 1000}
PIXEL_CLASSES = {"unet": (2, 2), "fcn8s": (21, 21), "pspnet": (11, 150), "deeplabv3plus": (11, 21)}  # compact, paper
STRIDES = {"compact": 8, "paper": 16}  # of Faster R-CNN's map
ANCHORS, ROIS = 256, 64  # of each image in a step of Faster R-CNN
BOX_DEVIATIONS = (0.1, 0.1, 0.2, 0.2)  # of the deltas that its head learns


def fill(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the values of a parameter, float32: He et al.'s deviation keeps the maps in range."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {shape}".encode()))
    if len(shape) == 1:
        return np.float32(name.endswith("weight")) + 0.01 * rng.standard_normal(shape, dtype=np.float32)
    values = rng.standard_normal(shape, dtype=np.float32)
    return values * np.float32((2 / np.prod(shape[1:])) ** 0.5)


def images(case: dict) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(case["x"], dtype=np.float32)


def labels(case: dict) -> np.ndarray:
    """Return a class for each image, or for each pixel of the output."""
    rng, (N, _, H, W) = np.random.default_rng(1), case["x"]
    if case["model"] not in PIXEL_CLASSES:
        return rng.integers(CLASSES[case["preset"]], size=N)
    lost = {"compact": 88, "paper": 184}[case["preset"]] if case["model"] == "unet" else 0
    return rng.integers(PIXEL_CLASSES[case["model"]][case["preset"] == "paper"], size=(N, H - lost, W - lost))


def objects(case: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three objects an image: image numbers (O,), boxes (O, 4), labels (O,). No two centers share a cell."""
    N, _, H, W = case["x"]
    shares = np.array([[0.05, 0.1, 0.45, 0.5], [0.5, 0.1, 0.9, 0.4], [0.2, 0.55, 0.7, 0.95]], np.float32)
    boxes = np.tile(shares * np.array([W, H, W, H], np.float32), (N, 1))
    return np.repeat(np.arange(N), 3), boxes, np.arange(3 * N) % 20


def encode(boxes: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return the deltas (P, 4) from references to boxes, Faster R-CNN's eq. (2)."""
    (x, y, w, h), (a, b, c, d) = (((p[:, 0] + p[:, 2]) / 2, (p[:, 1] + p[:, 3]) / 2, p[:, 2] - p[:, 0],
                                   p[:, 3] - p[:, 1]) for p in (boxes.astype(float), references.astype(float)))
    return np.stack([(x - a) / c, (y - b) / d, np.log(w / c), np.log(h / d)], axis=1).astype(np.float32)


def sampled(case: dict) -> dict[str, np.ndarray]:
    """Return what Faster R-CNN learns from in a step: anchors and RoIs, as if sampled, with their targets.

    anchors: how many an image has. index: the sampled ones by number over the batch, each image's positive ones first;
    is_object: their classes; positive: the positive ones, with anchor_deltas (P, 4). rois (R, 5): image number and box;
    labels (R,): 0 background; object (R,): the matched one; roi_deltas, of the RoIs that are not background.
    """
    rng, stride, (N, _, H, W) = np.random.default_rng(2), STRIDES[case["preset"]], case["x"]
    A, n, (_, boxes, classes) = H // stride * (W // stride) * 9, ANCHORS // 4, objects(case)
    index = np.stack([image * A + rng.choice(A, ANCHORS, replace=False) for image in range(N)])
    index[:, :n].sort(axis=1)
    index[:, n:].sort(axis=1)
    foreground, rois, u, matched = ROIS // 4, [], [], []
    for image in range(N):
        low = rng.integers(0, (W // stride // 2, H // stride // 2), (ROIS, 2))
        size = rng.integers(2, (W // stride // 2, H // stride // 2), (ROIS, 2))
        own = np.hstack([low, low + size]) * float(stride)
        own = np.minimum(own, np.array([W, H, W, H]) - stride)  # on whole cells, so that nothing depends on rounding
        rois.append(np.hstack([np.full((ROIS, 1), image), own]))
        matched.append(3 * image + np.arange(ROIS) % 3)
        u.append(np.where(np.arange(ROIS) < foreground, classes[matched[-1]] + 1, 0))
    every, labels, object = np.concatenate(rois).astype(np.float32), np.concatenate(u), np.concatenate(matched)
    learn, is_object = labels > 0, np.tile(np.arange(ANCHORS) < n, N)
    return {"anchors": np.int64(A), "index": index.ravel(), "is_object": is_object.astype(np.int64),
            "positive": index[:, :n].ravel(), "labels": labels, "rois": every, "object": object,
            "anchor_deltas": rng.standard_normal((N * n, 4), dtype=np.float32) / 5,
            "roi_deltas": encode(boxes[object[learn]], every[learn, 1:]) / np.array(BOX_DEVIATIONS, np.float32)}


def set_dropout(modules: Any, rate: float | None) -> None:
    """Set the rate of every dropout, in either library; None: as built."""
    for module in modules:
        name = "p" if type(module).__name__ == "Dropout" else "dropout"
        if isinstance(getattr(module, name, None), float):
            built = vars(module).setdefault("dropout_as_built", getattr(module, name))
            setattr(module, name, built if rate is None else rate)
