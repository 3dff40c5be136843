"""What all networks that label every pixel have in common: their losses and how they predict pictures of any size."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import nn
from ...autograd import Tensor, no_grad
from ...data.transforms import mirror_pad, standardise
from ..shares import mean_cross_entropy


@dataclass
class Segmentation:
    """What ``predict`` says of one picture: ``labels`` int (H, W) and ``probabilities`` float32 (K, H, W)."""

    labels: np.ndarray
    probabilities: np.ndarray


class SegmentationNetwork(nn.Module):
    """Scores for every pixel: ``forward``: (N, in_channels, H, W) -> (N, K, H', W').

    A network whose output is smaller than its input (U-Net), or that only takes some sizes, says so by
    ``output_size``, ``input_size`` and ``tile_step``; the ones here are those of a network that takes any size and
    answers in the same.
    """

    in_channels: int
    num_classes: int
    group: Any = None  # the processes that share a training step (``Training`` sets it); None for this one alone
    tile_step = 1  # tiles start at multiples of it, where the windows of one big prediction would lie

    def output_size(self, size: int) -> int:
        """Side length of the output for an input of this side length; ``ValueError`` if that does not work."""
        return size

    def input_size(self, output: int) -> int:
        """The smallest input side that works and gives at least this output side."""
        return output

    def losses(self, x: Tensor, label: Tensor, pixel_weight: Tensor | None = None) -> dict[str, Tensor]:
        """The terms of the training loss: cross entropy over the pixels of label (N, H', W'), void (255) left out."""
        return {"loss": mean_cross_entropy(self(x), label, pixel_weight, self.group)}

    @no_grad()
    def predict(self, images: list[np.ndarray], tile: int | None = None, average: bool = False) -> list[Segmentation]:
        """Label every pixel of pictures (C, H, W) of any size by the overlap-tile strategy (U-Net, Fig. 2).

        ``tile`` is the side of an input tile; None predicts each picture in one. Grey values are standardised, as in
        training; context beyond the borders is mirrored. ``average``: the mean probability over the picture turned by
        right angles and mirrored, 8 versions (U-Net, sec. 4, averages over 7 rotated ones). Raises ``ValueError`` for a
        tile size that does not work and for arrays that are no such pictures.
        """
        with nn.evaluating(self):
            return [self._predict_one(image, tile, average) for image in images]

    def _predict_one(self, image: np.ndarray, tile: int | None, average: bool) -> Segmentation:
        if image.ndim != 3 or image.shape[0] != self.in_channels or image.size == 0:
            raise ValueError(f"{type(self).__name__}.predict: a picture must be ({self.in_channels}, H, W) and not "
                             f"empty, got {image.shape}")
        total = np.zeros((self.num_classes, *image.shape[1:]), np.float32)
        for turns in range(4 if average else 1):
            for step in (1, -1) if average else (1,):  # -1: mirrored
                scores = self._scores(np.rot90(image, turns, (1, 2))[:, :, ::step], tile)
                e = np.exp(scores - scores.max(axis=0))
                total += np.rot90((e / e.sum(axis=0))[:, :, ::step], -turns, (1, 2))
        return Segmentation(total.argmax(axis=0), total / total.sum(axis=0))

    def _scores(self, image: np.ndarray, tile: int | None) -> np.ndarray:
        _, H, W = image.shape
        tile_h, tile_w = (self.input_size(H), self.input_size(W)) if tile is None else (tile, tile)
        out_h, out_w = self.output_size(tile_h), self.output_size(tile_w)
        margin_h, margin_w = (tile_h - out_h) // 2, (tile_w - out_w) // 2
        rows, columns = self._starts(H, tile_h, out_h), self._starts(W, tile_w, out_w)
        padded = mirror_pad(standardise(image), margin_h, rows[-1] + tile_h - margin_h - H,
                            margin_w, columns[-1] + tile_w - margin_w - W)
        device = self.parameters()[0].device
        scores = np.zeros((self.num_classes, H, W), np.float32)
        for top in rows:
            for left in columns:
                x = Tensor(padded[None, :, top:top + tile_h, left:left + tile_w].copy()).to(device)
                y = self(x).numpy()[0, :, :H - top, :W - left]
                scores[:, top:top + out_h, left:left + out_w] = y
        return scores

    def _starts(self, size: int, tile: int, output: int) -> range:
        """Where tiles with this input and output side start, so that they cover a side of ``size``."""
        step = self.tile_step
        if output >= size:
            return range(1)
        if output < step:
            raise ValueError(f"{type(self).__name__}.predict(tile={tile}): a tile's output is {output} wide, but tiles "
                             f"start {step} apart or more; the smallest that works is {self.input_size(step)}")
        stride = output // step * step
        return range(0, size - output + stride, stride)
