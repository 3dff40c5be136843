"""The result of a detector for one image."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects found in an image, by falling score; ``predict`` of a detector returns one for each image.

    boxes: float32 (R, 4), (x1, y1, x2, y2) in pixels of the image. scores: float32 (R,). labels: int64 (R,), numbers
    into the data set's ``class_names`` (0 is the first class of objects, not background). masks: bool (R, H, W), or
    None from a detector of boxes only.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __post_init__(self) -> None:
        R = len(self.boxes)
        if self.boxes.shape != (R, 4) or self.scores.shape != (R,) or self.labels.shape != (R,):
            raise ValueError("Detections: needs boxes (R, 4), scores (R,) and labels (R,), got "
                             f"{self.boxes.shape}, {self.scores.shape} and {self.labels.shape}")
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != R):
            raise ValueError(f"Detections: masks must be ({R}, H, W), one per box, got {self.masks.shape}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Detections:
        """Return some of them, by a slice, a boolean mask or an array of indices."""
        masks = None if self.masks is None else self.masks[index]
        return Detections(self.boxes[index], self.scores[index], self.labels[index], masks)

    @classmethod
    def empty(cls, mask_size: tuple[int, int] | None = None) -> Detections:
        """Return no detections; with ``mask_size`` (H, W), also masks (0, H, W)."""
        masks = None if mask_size is None else np.zeros((0, *mask_size), bool)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), masks)
