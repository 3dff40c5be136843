"""Two-stage training of DeconvNet (Noh et al., ICCV 2015, secs. 4.2 and 5.1): crops of single objects, easy ones first.

    1  an object in the center, in its box enlarged 1.2 times; everything else counts as background
    2  a proposal that overlaps an object with an IoU of at least 0.5, enlarged likewise; all labels are kept

In stage 1 the network thus sees little variation in place and size. A crop is scaled to 250 pixels, of which 224 are
cut at random and mirrored with probability 0.5; for other sizes in the same proportion. Stage 1 takes a third of the
steps, the paper's 20,000 of 60,000.

Differs from the paper: proposals come from selective search, as in the detectors here, and their IoU is with the box
around an object; classes are balanced among those of an image. Without a class called "background" (streets: every
pixel belongs to something), the surroundings of the object keep their labels in stage 1, too. Objects whose longer side
is below 16 pixels are left out.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..data import IGNORE, Sample
from ..data.augment.segmentation import scaled_window
from ..detection import box_iou
from ..models.detection.base import Detector
from .detection import CachedProposals

BOX_SCALE, IMAGE_SCALE = 1.2, 250 / 224  # DeconvNet, sec. 5.1
MIN_OBJECT_SIZE = 16  # pixels; an enlarged crop of a smaller object is a blur


class Tile(NamedTuple):
    """The sizes (h, w) of a network's input and output, which have the same center."""

    input: tuple[int, int]
    output: tuple[int, int]

    @property
    def margin(self) -> tuple[int, int]:
        """How far the input extends beyond the output, above and to the left."""
        return (self.input[0] - self.output[0]) // 2, (self.input[1] - self.output[1]) // 2


class ImageObject(NamedTuple):
    """An object of an image: its class, its box (x1, y1, x2, y2) in pixels, and its mask, bool (H, W)."""

    label: int
    box: tuple[int, int, int, int]
    mask: np.ndarray


def find_objects(sample: Sample, background: int | None) -> list[ImageObject]:
    """Return the objects of an image: its instances, or connected regions if the data set has no instances."""
    found = []
    for label in np.setdiff1d(sample.label, [IGNORE, -1 if background is None else background]).tolist():
        mask = sample.label == label
        numbers = ndimage.label(mask)[0] if sample.instances is None else np.where(mask, sample.instances, 0)
        for number, place in enumerate(ndimage.find_objects(numbers), 1):
            if place is not None:
                y, x = place
                if max(y.stop - y.start, x.stop - x.start) >= MIN_OBJECT_SIZE:
                    found.append(ImageObject(label, (x.start, y.start, x.stop, y.stop), numbers == number))
    return found


class TwoStageCrops:
    """``crops(sample, stage, tile, rng)`` is a part of the sample, as large as an input of the network.

    Proposals are computed once per image. An image without objects is taken as a whole.
    """

    def __init__(self, class_names: Sequence[str]):
        self.background = class_names.index("background") if "background" in class_names else None
        self.propose = CachedProposals(Detector().propose)

    def __call__(self, sample: Sample, stage: int, tile: Tile, rng: np.random.Generator, *,
                 augment: bool = True) -> Sample:
        """``augment``: shift and mirror at random."""
        found, (H, W) = find_objects(sample, self.background), sample.label.shape
        boxes, labels = np.array([t.box for t in found], np.float32), np.array([t.label for t in found])
        if stage == 2 and found:
            proposals = self.propose(sample.image)
            iou = box_iou(proposals, boxes)  # (P, objects)
            enough = iou.max(axis=1) >= 0.5  # DeconvNet, sec. 4.2
            if enough.any():
                boxes, labels = proposals[enough], labels[iou.argmax(axis=1)[enough]]
        box = np.array([0, 0, W, H]) if not found else boxes[chosen := draw_balanced(labels, rng)]
        if stage == 1 and found and self.background is not None:
            other = ~found[chosen].mask & (sample.label != IGNORE)
            sample = dataclasses.replace(sample, label=np.where(other, self.background, sample.label))
        return crop_box(dataclasses.replace(sample, instances=None), box, tile, rng if augment else None)


def draw_balanced(labels: np.ndarray, rng: np.random.Generator) -> int:
    """Return the index of one of the labels; every class has the same probability."""
    return int(rng.choice(np.flatnonzero(labels == rng.choice(np.unique(labels)))))


def crop_box(sample: Sample, box: np.ndarray, tile: Tile, rng: np.random.Generator | None) -> Sample:
    """Return the crop in which the box, enlarged 1.2 times, fills the tile's output.

    With random numbers the image is 250/224 times larger, and the crop is shifted and mirrored.
    """
    size, (x1, y1, x2, y2) = np.array(tile.output), box
    factor = (size / (BOX_SCALE * np.array([y2 - y1, x2 - x1]))).min() * (1 if rng is None else IMAGE_SCALE)
    shape = np.array(sample.label.shape)
    scaled = np.maximum(np.rint(shape * factor), 1).astype(int)
    center = np.array([y1 + y2, x1 + x2]) / 2 * scaled / shape
    if rng is not None:
        center += rng.uniform(-0.5, 0.5, 2) * (IMAGE_SCALE - 1) * size
    corner = np.rint(center - size / 2).astype(int)
    mirrored = rng is not None and bool(rng.integers(2))
    return scaled_window(sample, scaled, corner, tile.output, mirrored=mirrored, margin=tile.margin)
