"""What a segmentation data set hands out."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with its ground truth; `dataclasses.replace` makes changed copies.

    image: float32 (C, H, W) in [0, 1]. label: int64 (H, W), the class of each pixel.
    instances: int32 (H, W), 0 background, 1..n objects. weight: float32 (H, W), the loss weight of
    each pixel, or None where all count the same.
    """

    image: np.ndarray
    label: np.ndarray
    instances: np.ndarray
    name: str
    weight: np.ndarray | None = None
