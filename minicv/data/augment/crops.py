"""Crops of random windows from images."""
import dataclasses

import numpy as np
from scipy import ndimage


class RandomCrops(list):
    """A data set in memory: ``count`` random windows from the images of a segmentation data set.

    size: side in pixels. The windows take turns over all images, in a random order; with the same seed, a smaller count
    gives the first of the same windows. A cell that a window cuts into pieces becomes several cells. Weights are
    cropped too. Raises ValueError if an image is smaller than a window or the data set is empty.
    """

    def __init__(self, dataset, count: int, size: int, seed: int = 0):
        self.num_classes, self.class_names = dataset.num_classes, dataset.class_names
        if not len(dataset) or count < 0 or size < 1:
            raise ValueError(f"RandomCrops: needs a data set with images, a count and a size, got {len(dataset)} "
                             f"images, count {count} and size {size}")
        order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
        for i in range(count):
            sample, rng = dataset[order[i % len(order)]], np.random.default_rng([seed, i])
            room = np.array(sample.label.shape) - size
            if (room < 0).any():
                raise ValueError(f"RandomCrops: {sample.name} is {sample.label.shape}, smaller than {size} x {size}")
            y, x = rng.integers(0, room + 1)
            at = (..., slice(y, y + size), slice(x, x + size))
            self.append(dataclasses.replace(
                sample, image=sample.image[at], label=sample.label[at],
                instances=None if sample.instances is None else pieces(sample.instances[at]),
                weight=None if sample.weight is None else sample.weight[at]))


def pieces(instances: np.ndarray) -> np.ndarray:
    """Number the 4-connected pieces of all instances (H, W), integers, 0 background: 1, 2, ..., int32."""
    numbered, count = np.zeros(instances.shape, np.int32), 0
    for number in np.unique(instances[instances != 0]):
        own, n = ndimage.label(instances == number)
        numbered[own > 0] = own[own > 0] + count
        count += n
    return numbered
