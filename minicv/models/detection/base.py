"""What all detectors have in common: how pictures come in, targets are told, and boxes come out.

Pictures of any size are scaled by ``scale`` (by default as in Fast R-CNN, sec. 4: the shorter side to ``short`` pixels,
unless the longer would then exceed ``long``), normalised, and put together as a batch x (N, C, H, W): each lies in
the upper left corner, and to the right and below are zeros, the mean colour, up to the largest picture of the batch.

Box arithmetic (anchors, matching, sampling, NMS) is done on the host, in NumPy; x and the weights lie on the device.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor, no_grad
from ...data.augment.detection import resize, resize_image
from ...data.sample import DetectionSample
from ...detection import Detections, batched_nms, clip_boxes_to_image, remove_small_boxes
from ..backbones.classifier import normalise

Proposer = Callable[[np.ndarray], np.ndarray]
"""From a picture (C, H, W) in 0..1 to boxes (P, 4) float32 in its pixels, the best first."""


@dataclasses.dataclass
class Target:
    """What one picture of a batch shows; all in pixels of the scaled picture, NumPy.

    boxes: float32 (R, 4). labels: int64 (R,), 0 to num_classes - 1, background not counted. size: (h, w) of the picture
    without what fills the batch. masks: bool (R, h, w) or None. proposals: float32 (P, 4) for a network that does not
    make its own, or None. R and P may be 0.
    """

    boxes: np.ndarray
    labels: np.ndarray
    size: tuple[int, int]
    masks: np.ndarray | None = None
    proposals: np.ndarray | None = None


class Detector(nn.Module):
    """Subclasses write ``losses`` and ``detect``, and say with ``needs_proposals`` whether boxes must be given, with
    ``learns_masks`` whether their losses look at the objects' masks.

    ``short``, ``long``: see ``scale``. ``stride``: sides of a batch are multiples of it. ``search``: pixels; a picture
    whose longer side is longer is made that small for selective search, as in R-CNN, sec. 4.2. ``sure``: the score
    from which on a detection is worth showing.
    """

    in_channels: int
    num_classes: int
    short: int
    long: int
    stride = 1
    search = 500
    sure = 0.5
    needs_proposals = False
    learns_masks = False
    group: Any = None  # the processes that share a training step (``Training`` sets it); None for this one alone
    proposer: Proposer | None = None  # None: the 2000 first boxes of selective search in its fast mode

    def losses(self, x: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """The terms of the training loss, by name, of a batch (N, C, H, W) as ``batch`` makes it.

        The same names for every batch: a term that no object takes part in is 0.
        """
        raise TypeError(f"{type(self).__name__} has no losses")

    def detect(self, x: Tensor, sizes: list[tuple[int, int]],
               proposals: list[np.ndarray] | None = None) -> list[Detections]:
        """What is found on each picture of a batch, in pixels of the scaled pictures, whose (h, w) are ``sizes``."""
        raise TypeError(f"{type(self).__name__} has no detect")

    def propose(self, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) that may hold objects, for a picture (C, H, W) in 0..1, by ``proposer``."""
        if self.proposer is not None:
            return self.proposer(image)
        if len(image) not in (1, 3):
            raise ValueError(f"{type(self).__name__}.propose: selective search takes pictures of 1 or 3 channels, got "
                             f"{image.shape}; set ``proposer``, or give the proposals")
        from ...detection.selective_search import selective_search
        original = image.shape[1:]
        size = tuple(max(1, round(n * min(1, self.search / max(original)))) for n in original)
        small = np.repeat(resize_image(image, size), 3 // len(image), axis=0)
        return selective_search(small, max_boxes=2000) * factors(size, original)  # R-CNN, sec. 2.1: "around 2000"

    # ------------------------------------------------------------------------------------------------------
    # Pictures in
    # ------------------------------------------------------------------------------------------------------
    def scale(self, size: tuple[int, int]) -> tuple[float, float]:
        """The factors by which the height and the width of a picture of ``size`` (H, W) are to be multiplied."""
        factor = min(self.short / min(size), self.long / max(size))
        return factor, factor

    def scaled_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) after scaling, at least 1 pixel each."""
        H, W = (max(1, round(n * f)) for n, f in zip(size, self.scale(size), strict=True))
        return H, W

    def example(self, sample: DetectionSample, proposals: np.ndarray | None = None) -> tuple[np.ndarray, Target]:
        """A sample as training takes it: its picture (C, h, w), scaled and normalised, and its target.

        Difficult objects and crowds are left out. ``proposals`` are in pixels of the sample's picture.
        """
        self._check(sample.image, "example")
        before, size = sample.image.shape[1:], self.scaled_size(sample.image.shape[1:])
        sample = resize(sample.for_training(), size)
        if proposals is not None:
            proposals = proposals.astype(np.float32) * factors(before, size)
        return self.pixels(sample.image), Target(sample.boxes, sample.labels, size, sample.masks, proposals)

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """A picture (C, h, w) in 0..1 as the network takes it: ImageNet's mean and deviation removed."""
        return normalise(image)

    def batch(self, pictures: Sequence[np.ndarray], device: str | None = None) -> Tensor:
        """Pictures (C, h, w), scaled and normalised, as one tensor (N, C, H, W)."""
        H, W = (-(-max(p.shape[axis] for p in pictures) // self.stride) * self.stride for axis in (1, 2))
        x = np.zeros((len(pictures), self.in_channels, H, W), np.float32)
        for n, picture in enumerate(pictures):
            x[n, :, :picture.shape[1], :picture.shape[2]] = picture
        return Tensor(x).to(device or self.parameters()[0].device)

    def _check(self, image: np.ndarray, where: str) -> None:
        if image.ndim != 3 or image.shape[0] != self.in_channels or image.size == 0:
            raise ValueError(f"{type(self).__name__}.{where}: a picture must be ({self.in_channels}, H, W) and not "
                             f"empty, got {image.shape}")

    # ------------------------------------------------------------------------------------------------------
    # Boxes out
    # ------------------------------------------------------------------------------------------------------
    @no_grad()
    def predict(self, images: Sequence[np.ndarray], proposals: Sequence[np.ndarray] | None = None,
                batch: int = 1, score: float | None = None) -> list[Detections]:
        """The objects on pictures (C, H, W) in 0..1, each of any size, in pixels of that picture, by falling score.

        ``proposals``: boxes (P, 4) per picture, in its pixels, for a network that needs them; by default those of
        ``propose``. ``batch``: pictures that are computed together. ``score``: detections with a lower one are
        left out, before their masks are drawn at the picture's size. ``ValueError`` for arrays that are no pictures.
        """
        for image in images:
            self._check(image, "predict")
        if self.needs_proposals and proposals is None:
            proposals = [self.propose(image) for image in images]
        if proposals is not None and len(proposals) != len(images):
            raise ValueError(f"{type(self).__name__}.predict: {len(images)} pictures need as many arrays of proposals, "
                             f"got {len(proposals)}")
        found: list[Detections] = []
        with nn.evaluating(self):
            for i in range(0, len(images), batch):
                some = images[i:i + batch]
                sizes = [self.scaled_size(image.shape[1:]) for image in some]
                x = self.batch([self.pixels(resize_image(p, s)) for p, s in zip(some, sizes, strict=True)])
                boxes = None if proposals is None else [
                    np.asarray(b, np.float32).reshape(-1, 4) * factors(image.shape[1:], size)
                    for b, image, size in zip(proposals[i:i + batch], some, sizes, strict=True)]
                found += [self.restore(d if score is None else d[d.scores >= score], size, image.shape[1:])
                          for d, size, image in zip(self.detect(x, sizes, boxes), sizes, some, strict=True)]
        return found

    def restore(self, found: Detections, size: tuple[int, int], original: tuple[int, int]) -> Detections:
        """Detections on the scaled picture as such on the original one, both sizes (H, W)."""
        boxes = clip_boxes_to_image(found.boxes * factors(size, original), original)
        return dataclasses.replace(found, boxes=boxes)


def factors(before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """What boxes (R, 4) are multiplied by when a picture (H, W) is scaled, float32 (4,)."""
    y, x = after[0] / before[0], after[1] / before[1]
    return np.array([x, y, x, y], np.float32)


def select(boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], score: float = 0.05, iou: float = 0.3,
           most: int = 100) -> Detections:
    """Detections from a score for each class and place: (R, K), and boxes (R, K, 4), or (R, 4) for all classes.

    Boxes are cut off at the border of the picture (h, w) ``size``; those without area and those with a score below
    ``score`` are dropped; then NMS in each class with IoU ``iou`` (R-CNN's code: 0.3), and the ``most`` best are kept.
    """
    R, K = scores.shape
    boxes = np.broadcast_to(boxes if boxes.ndim == 3 else boxes[:, None], (R, K, 4))
    r, k = np.nonzero(scores >= score)
    boxes, scores = clip_boxes_to_image(boxes[r, k].astype(np.float32), size), scores[r, k].astype(np.float32)
    large = remove_small_boxes(boxes, 1e-3)
    boxes, scores, labels = boxes[large], scores[large], k[large].astype(np.int64)
    kept = batched_nms(boxes, scores, labels, iou, most)
    return Detections(boxes[kept], scores[kept], labels[kept])
