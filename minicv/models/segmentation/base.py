"""What all segmentation networks share: their losses, and prediction of images of any size."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ... import nn
from ...autograd import Tensor, no_grad
from ...backend import device_of
from ...backend.memory import free_memory, peak_memory
from ...data.augment.detection import resize_image
from ...data.augment.unet import mirror_pad
from ..distributed import mean_cross_entropy
from ..normalization import normalize_image
from ..summary import receptive_radius

SHARE = 0.5  # of the free memory that the prediction of one image may take
PROBE = 512  # side of the input on which the memory of a network is measured
MAX_SCALE = 8  # of an image, whose memory grows with its square
SMALLEST = 64  # side of a tile, however little memory is free


@dataclass
class Segmentation:
    """What ``predict`` returns for one image: ``labels`` int (H, W) and ``probabilities`` float32 (K, H, W)."""

    labels: np.ndarray
    probabilities: np.ndarray


class Span(NamedTuple):
    """One tile along one side: pixels ``begin`` to ``end`` are predicted from pixels ``first`` to ``last``."""

    begin: int
    end: int
    first: int
    last: int


class SegmentationNetwork(nn.Module):
    """Scores for every pixel: ``forward``: (N, in_channels, H, W) -> (N, K, H', W').

    A network with a smallest input overrides ``input_size``; one whose output is smaller than its input (U-Net), also
    ``output_size``. ``tile_step``: tiles start at multiples of it, so that poolings and strides fall on the same pixels
    as in the whole image. ``normalization``: see ``normalization.py``. ``BACKBONE``: beginning of the names of the
    parameters that ``--start`` must find and ``--freeze backbone`` keeps; "" for a network without one.
    """

    in_channels: int
    num_classes: int
    group: Any = None  # the processes that share a training step (``Training`` sets it); None for this one alone
    tile_step = 1
    normalization = "image"
    BACKBONE = ""
    _context: int | None = None
    _bytes_per_pixel: float | None = None

    def check(self, x: Tensor) -> None:
        """Raise ``ValueError`` unless x is (N, in_channels, H, W) with sides for which ``output_size`` works."""
        if x.ndim != 4 or x.shape[1] != self.in_channels or 0 in x.shape:
            raise ValueError(f"{type(self).__name__}: the input must be (N, {self.in_channels}, H, W), each at least "
                             f"1, got {x.shape}")
        for side in x.shape[2:]:
            self.output_size(side)

    def output_size(self, size: int) -> int:
        """Return the side of the output for an input of this side; ``ValueError`` if that does not work."""
        if size < self.input_size(1):
            raise ValueError(f"{type(self).__name__}: an input side of {size} does not work; the smallest that works "
                             f"is {self.input_size(1)}")
        return size

    def input_size(self, output: int) -> int:
        """Return the smallest input side that works and gives at least this output side."""
        return output

    def normalize(self, image: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """Return an image (C, H, W) in 0..1, or a part of the image ``like``, as the network's input."""
        return normalize_image(image, self.normalization, like)

    def losses(self, x: Tensor, label: Tensor, pixel_weight: Tensor | None = None) -> dict[str, Tensor]:
        """Return the terms of the loss: cross entropy over the pixels of label (N, H', W') that are not void (255)."""
        return {"loss": mean_cross_entropy(self(x), label, pixel_weight, self.group)}

    @no_grad()
    def predict(self, images: list[np.ndarray], tile: int | None = None, average: bool = False,
                context: int | None = None, *, scales: Sequence[float] = (1.0,), flip: bool = False
                ) -> list[Segmentation]:
        """Label every pixel of images (C, H, W) of any size by the overlap-tile strategy (U-Net, Fig. 2).

        ``tile``: side of an output tile, the pixels labeled at once, rounded up to a multiple of ``tile_step``. Its
        input has as much ``context`` on each side as the network sees, so a tile gets the same labels as in the whole
        image. The exception is pooling over the whole map (PSPNet, ASPP's image pooling), which sees only the tile and
        its context. None: the image in one piece, or, where that would take more than half of the free memory, in tiles
        that fit; a warning then names their side.

        Images are normalized as in training; U-Net sees the image mirrored beyond its borders.
        ``average``: the mean probability over the image turned by right angles and mirrored, 8 versions (U-Net, sec. 4,
        averages over 7 rotated ones). ``scales``, ``flip``: the mean probability over the image resized by each of
        these factors and, with ``flip``, over each of them and its mirror image (DeepLabv3, sec. 4.2, with the scales
        0.5, 0.75, ... 1.75; PSPNet, sec. 5.2, "MS"). ``context``: fewer pixels around a tile, for speed; the labels
        then differ at the borders of tiles. Raises ``ValueError`` for numbers that do not work and for arrays of
        another shape.
        """
        name = type(self).__name__
        if tile is not None and tile < 1:
            raise ValueError(f"{name}.predict(tile={tile}): the side of an output tile must be at least 1")
        if context is not None and (context < 0 or tile is None or not self.pads()):
            raise ValueError(f"{name}.predict(tile={tile}, context={context}): context is 0 or more pixels around a "
                             "given tile, for a network whose output has the size of its input")
        if not scales or not all(0 < scale <= MAX_SCALE for scale in scales):
            raise ValueError(f"{name}.predict(scales={tuple(scales)}): needs factors above 0, at most {MAX_SCALE}")
        if average and flip:
            raise ValueError(f"{name}.predict: average has the mirror image among its 8 versions; leave out flip")
        for image in images:
            if image.ndim != 3 or image.shape[0] != self.in_channels or image.size == 0:
                raise ValueError(f"{name}.predict: an image must be ({self.in_channels}, H, W) and not empty, got "
                                 f"{image.shape}")
        with nn.evaluating(self):
            turns = [(quarters, step) for quarters in range(4 if average else 1)
                     for step in ((1, -1) if average or flip else (1,))]
            return [self._predict_one(image, tile, context, turns, scales) for image in images]

    def _predict_one(self, image: np.ndarray, tile: int | None, context: int | None, turns: Sequence[tuple[int, int]],
                     scales: Sequence[float]) -> Segmentation:
        """Average the probabilities over the image at each of ``scales``, turned in each way of ``turns``."""
        size, total = image.shape[1:], np.zeros((self.num_classes, *image.shape[1:]), np.float32)
        for scale in scales:
            scaled = resize_image(image, (max(1, round(scale * size[0])), max(1, round(scale * size[1]))))
            fitting = (tile, context) if tile is not None else self._fitting_tile(scaled.shape[1:])
            for quarters, step in turns:  # -1: mirrored
                turned = self._probabilities(np.rot90(scaled, quarters, (1, 2))[:, :, ::step], *fitting)
                total += resize_image(np.rot90(turned[:, :, ::step], -quarters, (1, 2)), size)
        probabilities = total / (len(scales) * len(turns))  # DeepLabv3, sec. 4.2: the average probability
        return Segmentation(probabilities.argmax(axis=0), probabilities)

    def _probabilities(self, image: np.ndarray, tile: int | None, context: int | None) -> np.ndarray:
        """Return the probability of each class at each pixel, float32 (K, H, W)."""
        _, H, W = image.shape
        rows, columns = self._spans(H, tile, context), self._spans(W, tile, context)
        top, left = -rows[0].first, -columns[0].first
        padding = top, max(0, rows[-1].last - H), left, max(0, columns[-1].last - W)
        x, device = self.normalize(image), next(self.parameters()).device
        if any(padding):
            x = mirror_pad(x, *padding)
        result = np.empty((self.num_classes, H, W), np.float32)
        for r in rows:
            for c in columns:
                part = x[None, :, r.first + top:r.last + top, c.first + left:c.last + left]
                y = self(Tensor(part.copy()).to(device)).numpy()[0]
                i, j = (s.begin - s.first - (s.last - s.first - n) // 2
                        for s, n in zip((r, c), y.shape[1:], strict=True))
                y = y[:, i:i + r.end - r.begin, j:j + c.end - c.begin]
                y = np.exp(y - y.max(axis=0))
                result[:, r.begin:r.end, c.begin:c.end] = y / y.sum(axis=0)
        return result

    def _spans(self, size: int, tile: int | None, context: int | None) -> list[Span]:
        """Return the tiles of a side of ``size`` pixels."""
        n = self.input_size(size)
        if tile is None or tile >= size:
            margin = (n - self.output_size(n)) // 2
            return [Span(0, size, -margin, n - margin)]
        step, spans = self.tile_step, []
        tile = -(-tile // step) * step
        if not self.pads():  # U-Net: the context belongs to the network
            seen = self.input_size(tile)
            output = self.output_size(seen)
            tile, margin = output // step * step, (seen - output) // 2
            return [Span(begin, min(begin + tile, size), begin - margin, begin - margin + seen)
                    for begin in range(0, size, tile)]
        context = self.context() if context is None else -(-context // step) * step
        least = self.input_size(1)
        for begin in range(0, size, tile):
            last = min(begin + tile + context, n)  # the image's border is the network's: beyond it are its own zeros
            first = max(0, min(begin - context, (last - least) // step * step))
            spans.append(Span(begin, min(begin + tile, size), first, last))
        return spans

    def pads(self) -> bool:
        """Return whether the output is as large as the input, because convolutions pad their maps."""
        return self.output_size(n := self.input_size(1)) == n

    def context(self) -> int:
        """Return how many pixels around an output tile belong to its input: the reach of an output.

        A multiple of ``tile_step``; 0 for a network whose output is smaller than its input by as much.
        """
        if self._context is None:
            n = self.input_size(8 * self.tile_step)
            far = receptive_radius(self, (self.in_channels, n, n)) if self.pads() else 0
            self._context = -(-far // self.tile_step) * self.tile_step
        return self._context

    def _fitting_tile(self, size: tuple[int, int]) -> tuple[int | None, int | None]:
        """Return the side of a tile that takes at most ``SHARE`` of the free memory; None if the whole image fits.

        The memory of an input of ``PROBE`` pixels a side is measured, and grows with the number of pixels. Also return
        the context: less than the network's own if that would fill more than half of an input.
        """
        pixels, n, like = math.prod(map(self.input_size, size)), self.input_size(PROBE), next(self.parameters()).data
        free = free_memory(like) if pixels > n * n else None
        if free is None:
            return None, None
        if self._bytes_per_pixel is None:
            x = Tensor(np.zeros((1, self.in_channels, n, n), np.float32)).to(device_of(like))
            self._bytes_per_pixel = peak_memory(lambda: self(x), like) / (n * n)
        whole, allowed = pixels * self._bytes_per_pixel, SHARE * free
        if whole <= allowed:
            return None, None
        step, side = self.tile_step, int(math.sqrt(allowed / self._bytes_per_pixel)) - (n - PROBE)
        context = self.context()
        if context > side // 4:
            context = max(side // 4 // step * step, step)
        tile = max((side - 2 * context) // step * step, -(-SMALLEST // step) * step)
        warnings.warn(f"{type(self).__name__}.predict: an image of {size[0]} x {size[1]} pixels would take about "
                      f"{whole / 2**30:.1f} GiB in one piece, and {free / 2**30:.1f} GiB are free; it is predicted in "
                      f"tiles of {tile} pixels" + (f" with {context} around them" if context else ""), stacklevel=5)
        return tile, context if self.pads() else None
