"""What a detector found on one picture."""
from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Detections:
    """The objects found on a picture, by falling score; what a detector's ``predict`` returns for each picture.

    boxes: float32 (R, 4), (x1, y1, x2, y2) in pixels of the picture. scores: float32 (R,). labels: int64 (R,), numbers
    into the data set's ``class_names`` (0 is the first class of objects, not background). masks: bool (R, H, W), or
    None from a detector of boxes only.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None

    def __post_init__(self):
        R = len(self.boxes)
        if self.boxes.shape != (R, 4) or self.scores.shape != (R,) or self.labels.shape != (R,):
            raise ValueError("Detections: needs boxes (R, 4), scores (R,) and labels (R,), got "
                             f"{self.boxes.shape}, {self.scores.shape} and {self.labels.shape}")
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != R):
            raise ValueError(f"Detections: masks must be ({R}, H, W), one per box, got {self.masks.shape}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index) -> Detections:
        """Some of them: by a slice, a mask or an array of indices."""
        parts = (None if part is None else part[index]
                 for part in (self.boxes, self.scores, self.labels, self.masks))
        return Detections(*parts)

    @classmethod
    def none(cls, masks_of: tuple[int, int] | None = None) -> Detections:
        """Nothing found; with empty masks (0, H, W) where ``masks_of`` gives a picture's size."""
        masks = None if masks_of is None else np.zeros((0, *masks_of), bool)
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), masks)
