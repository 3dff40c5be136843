"""Proposals without a search, for tests: the objects moved about, and boxes anywhere."""
from __future__ import annotations

import numpy as np


class NearObjects:
    """A proposer for the images of one data set: of each object ``near`` boxes, and ``anywhere`` random ones."""

    def __init__(self, data, near: int = 8, anywhere: int = 60, spread: float = 0.12):
        self.truth = {data[i].image.tobytes(): data[i].boxes for i in range(len(data))}
        self.near, self.anywhere, self.spread = near, anywhere, spread

    def __call__(self, image: np.ndarray) -> np.ndarray:
        rng, (H, W) = np.random.default_rng(len(image.tobytes())), image.shape[1:]
        a, b = rng.uniform(0, [W, H], (2, self.anywhere, 2))
        boxes = np.repeat(self.truth[image.tobytes()], self.near, axis=0)
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moved = boxes + self.spread * sides * rng.standard_normal(boxes.shape)
        every = np.concatenate([moved, np.concatenate([np.minimum(a, b), np.maximum(a, b)], axis=1)])
        return np.clip(every, 0, [W, H, W, H]).astype(np.float32)
