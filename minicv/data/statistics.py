"""What is in a data set, in numbers: its classes, the sizes of images and objects, and the values of the pixels."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from .generated.shape_images import ShapeImage
from .readers.panoptic import PanopticSample
from .sample import IGNORE, DetectionSample, Sample

MOST_IMAGES = 500  # that are read for the numbers
MOST_PIXELS = 100_000  # of an image whose values are counted
MIN_REGION = 10  # pixels: smaller regions of a label are specks along the borders of others
BINS = 64


@dataclasses.dataclass(frozen=True)
class Statistics:
    """The numbers of a split with K classes.

    images: how many the split has. read: how many of them were read for the other numbers, evenly spaced. unit: what
    ``counts`` (K,) counts, "objects", "pixels" or "images"; ``void``, pixels without a class. containing: (K,), the
    images in which a class occurs. sizes: (read, 2), H and W. object_sizes: (O,), the side of a square with the area of
    an object's box, or of a connected region of one class with ``MIN_REGION`` pixels or more, in pixels. values: (C,
    BINS), counts of pixel values from 0 to 1 in each channel. mean, deviation: (C,), of these values.
    """

    images: int
    read: int
    unit: str
    counts: np.ndarray
    void: int
    containing: np.ndarray
    sizes: np.ndarray
    object_sizes: np.ndarray
    values: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def lines(self, class_names: tuple[str, ...]) -> list[str]:
        """Return the numbers as lines of text."""
        some = "" if self.read == self.images else f", of which {self.read}, evenly spaced, give the numbers below"
        low, high = self.sizes.min(axis=0), self.sizes.max(axis=0)
        sizes = f"{low[1]} x {low[0]}" + ("" if (low == high).all() else f" to {high[1]} x {high[0]}")
        total, wide = self.counts.sum() + self.void, max(map(len, [*class_names, "void"]))
        lines = [f"{self.images} images{some}", f"size: {sizes} pixels",
                 f"values: mean {_listed(self.mean)}, deviation {_listed(self.deviation)}"]
        if len(self.object_sizes):
            what = "objects" if self.unit == "objects" else "regions of one class"
            small, middle, large = np.percentile(self.object_sizes, (5, 50, 95))
            lines.append(f"{what}: sides of {small:.0f} to {large:.0f} pixels (5% to 95%), median {middle:.0f}")
        lines.append(f"{'class':<{wide}}  {self.unit:>12}  {'share':>6}  {'in images':>9}")
        lines += [f"{name:<{wide}}  {count:>12,}  {count / max(total, 1):>6.1%}  {containing:>9,}"
                  for name, count, containing in zip(class_names, self.counts.tolist(), self.containing.tolist(),
                                                     strict=True)]
        if self.unit == "pixels":
            lines.append(f"{'void':<{wide}}  {self.void:>12,}  {self.void / max(total, 1):>6.1%}")
        return lines


def statistics(dataset: Any, most: int = MOST_IMAGES) -> Statistics:
    """Return the numbers of a data set, from at most ``most`` of its images; ``ValueError`` if it has none.

    Shows a progress bar in a terminal.
    """
    if not len(dataset):
        raise ValueError("statistics: the data set has no image")
    read = np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).round().astype(int)).tolist()
    counts, containing, void = np.zeros(dataset.num_classes, np.int64), np.zeros(dataset.num_classes, np.int64), 0
    sizes, objects, values, unit = [], [np.zeros(0)], list[np.ndarray](), "pixels"
    for i in tqdm(read, unit="image", leave=False, disable=None):
        sample = as_sample(dataset[i])
        sizes.append(sample.image.shape[1:])
        values.append(value_histogram(sample.image))
        labels = sample.labels if isinstance(sample, DetectionSample) else np.atleast_1d(sample.label).ravel()
        void += int(np.count_nonzero(labels == IGNORE)) if isinstance(sample, Sample) else 0
        here = np.bincount(labels[labels < dataset.num_classes], minlength=dataset.num_classes)
        counts += here
        containing += here > 0
        objects.append(object_sizes(sample))
        unit = {DetectionSample: "objects", Sample: "pixels"}.get(type(sample), "images")
    histogram = sum(values[1:], values[0])
    centers, shares = (np.arange(BINS) + 0.5) / BINS, histogram / histogram.sum(axis=1, keepdims=True)
    mean = shares @ centers
    deviation = np.sqrt(np.maximum(shares @ centers**2 - mean**2, 0))
    return Statistics(images=len(dataset), read=len(read), unit=unit, counts=counts, void=void, containing=containing,
                      sizes=np.array(sizes), object_sizes=np.concatenate(objects), values=histogram, mean=mean,
                      deviation=deviation)


def as_sample(item: Any) -> Sample | DetectionSample | ShapeImage:
    """Return an item of any data set as one with labels, boxes or one class; panoptic segments become labels."""
    if isinstance(item, PanopticSample):
        classes = np.concatenate([[IGNORE], item.classes])
        return Sample(item.image, classes[item.segments].astype(np.int64), item.segments, item.name)
    return item


def object_sizes(sample: Sample | DetectionSample | ShapeImage) -> np.ndarray:
    """Return the side of a square with the area of each box, or of each region of one class, in pixels, (O,)."""
    if isinstance(sample, DetectionSample):
        x1, y1, x2, y2 = sample.boxes.astype(float).T
        return np.sqrt((x2 - x1) * (y2 - y1))
    if isinstance(sample, ShapeImage):
        return np.zeros(0)
    areas = []
    for k in np.unique(sample.label[sample.label != IGNORE]):
        regions, _ = ndimage.label(sample.label == k)
        areas.append(np.bincount(regions.ravel())[1:])
    pixels = np.concatenate([np.zeros(0), *areas])
    return np.sqrt(pixels[pixels >= MIN_REGION])


def value_histogram(image: np.ndarray) -> np.ndarray:
    """Return how many pixels of an image (C, H, W) have a value in each bin, (C, BINS), from evenly spaced pixels."""
    flat = image.reshape(len(image), -1)
    flat = flat[:, ::-(-flat.shape[1] // MOST_PIXELS)]
    bins = np.clip(flat * BINS, 0, BINS - 1).astype(np.int64)
    return np.stack([np.bincount(row, minlength=BINS) for row in bins])


def _listed(values: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values)
