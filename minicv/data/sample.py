"""What a segmentation data set hands out."""

import dataclasses

import numpy as np

IGNORE = 255
"""The label of void pixels in every data set here: whatever a file calls them, its reader translates it."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with its ground truth; `dataclasses.replace` makes changed copies.

    image: float32 (C, H, W) in [0, 1]. label: int64 (H, W), the class of each pixel, or IGNORE.
    instances: int32 (H, W), 0 background, 1..n objects, or None where the set does not tell objects apart.
    weight: float32 (H, W), the loss weight of each pixel, or None where all count the same.
    """

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray | None
    name: str
    weight: np.ndarray | None = None
