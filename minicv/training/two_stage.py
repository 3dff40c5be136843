"""Two-stage training of DeconvNet (Noh et al., ICCV 2015, secs. 4.2 and 5.1): parts of pictures, the easy ones first.

    1  one object in the middle, in its box made 1.2 times larger; all else counts as background
    2  a proposal that overlaps an object by an IoU of at least 0.5, made as much larger; everything keeps its label

So at first neither place nor size of what is to be drawn varies much. A part is scaled to 250 pixels, of which 224 are
cut at random and mirrored every second time, or the same share of any other size. Stage 1 has a third of the steps, the
paper's 20,000 of 60,000.

Differs from the paper: proposals are selective search's, as those of the detectors here, and their IoU is with the box
around an object; classes are balanced among those of a picture. Where no class is called "background" (streets: each
pixel is of something), what is around the object keeps its label in stage 1, too. Objects whose longer side is below 16
pixels are left out.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from ..data import IGNORE, Sample
from ..data.joint import scaled_window
from ..detection import box_iou
from ..models.detection.base import Detector
from .detection import CachedProposals

LARGER, SCALED = 1.2, 250 / 224  # DeconvNet, sec. 5.1
SMALLEST = 16  # pixels: what is smaller would only be a blur


class Thing(NamedTuple):
    """An object: its class, its box (x1, y1, x2, y2) in pixels, and which pixels it has, bool (H, W)."""

    label: int
    box: tuple[int, int, int, int]
    mask: np.ndarray


def things(sample: Sample, background: int | None) -> list[Thing]:
    """The objects of a picture: its instances, or, where the data set does not tell them apart, connected regions."""
    found = []
    for label in np.setdiff1d(sample.label, [IGNORE, -1 if background is None else background]).tolist():
        mask = sample.label == label
        numbers = ndimage.label(mask)[0] if sample.instances is None else np.where(mask, sample.instances, 0)
        for number, place in enumerate(ndimage.find_objects(numbers), 1):
            if place is not None:
                y, x = place
                if max(y.stop - y.start, x.stop - x.start) >= SMALLEST:
                    found.append(Thing(label, (x.start, y.start, x.stop, y.stop), numbers == number))
    return found


class TwoStages:
    """``stages(sample, stage, ...)`` is a part of the sample, as large as an input of the network.

    Proposals are made once for each picture. A picture without objects is taken as a whole.
    """

    def __init__(self, class_names: Sequence[str]):
        self.background = class_names.index("background") if "background" in class_names else None
        self.propose = CachedProposals(Detector().propose)

    def __call__(self, sample: Sample, stage: int, tile_in: tuple[int, int], tile_out: tuple[int, int],
                 rng: np.random.Generator, vary: bool = True) -> Sample:
        """``tile_in``, ``tile_out``: (h, w) of the network's input and output, which have the same middle.

        ``vary``: moved and mirrored at random.
        """
        found, (H, W) = things(sample, self.background), sample.label.shape
        boxes, labels = np.array([t.box for t in found], np.float32), np.array([t.label for t in found])
        if stage == 2 and found:
            proposals = self.propose(sample.image)
            iou = box_iou(proposals, boxes)  # (P, objects)
            enough = iou.max(axis=1) >= 0.5  # DeconvNet, sec. 4.2
            if enough.any():
                boxes, labels = proposals[enough], labels[iou.argmax(axis=1)[enough]]
        box = np.array([0, 0, W, H]) if not found else boxes[chosen := balanced(labels, rng)]
        if stage == 1 and found and self.background is not None:
            other = ~found[chosen].mask & (sample.label != IGNORE)
            sample = dataclasses.replace(sample, label=np.where(other, self.background, sample.label))
        return enlarged(dataclasses.replace(sample, instances=None), box, tile_in, tile_out, rng, vary)


def balanced(labels: np.ndarray, rng: np.random.Generator) -> int:
    """The place of one of the labels, each class being as likely as the others."""
    return int(rng.choice(np.flatnonzero(labels == rng.choice(np.unique(labels)))))


def enlarged(sample: Sample, box: np.ndarray, tile_in: tuple[int, int], tile_out: tuple[int, int],
             rng: np.random.Generator, vary: bool) -> Sample:
    """The window of tile_in in which the box, 1.2 times larger, fills tile_out, or, to ``vary``, a little more."""
    size, (x1, y1, x2, y2) = np.array(tile_out), box
    factor = (size / (LARGER * np.array([y2 - y1, x2 - x1]))).min() * (SCALED if vary else 1)
    shape = np.array(sample.label.shape)
    scaled = np.maximum(np.rint(shape * factor), 1).astype(int)
    middle = np.array([y1 + y2, x1 + x2]) / 2 * scaled / shape
    if vary:
        middle += rng.uniform(-0.5, 0.5, 2) * (SCALED - 1) * size
    corner, margin = np.rint(middle - size / 2).astype(int), (np.array(tile_in) - size) // 2
    return scaled_window(sample, scaled, corner, tile_out, vary and bool(rng.integers(2)), tuple(margin.tolist()))
