"""RoI pooling and RoIAlign in PyTorch's own operations, all boxes at once: PyTorch itself has neither on the CPU.

Boxes (R, 5) lie inside the map and every bin has a pixel, as the benchmark draws them; that saves both all masks.
Pixels are taken as rows of a matrix, by ``index_select`` and ``gather``: the backward pass of an advanced index, or of
a chain of maxima, takes 20 times as long.
"""
from __future__ import annotations

import torch


def pixel_rows(x: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) as (N*H*W, C)"""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def places(x: torch.Tensor, boxes: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Where the pixels of rows (R, h) and columns (R, w) of each RoI's image lie in ``pixel_rows``: (R, h, w)."""
    return ((boxes[:, :1].long() * x.shape[2] + rows) * x.shape[3])[:, :, None] + columns[:, None]


def roi_pool(x: torch.Tensor, boxes: torch.Tensor, output_size: int) -> torch.Tensor:
    """The largest value of each bin, as ``minicv.ops.roi_pool``: bins repeat their last pixel up to the longest."""
    ends, pixels, C = boxes[:, 1:].round().long(), pixel_rows(x), x.shape[1]

    def of_bins(start, end):  # (R, P, k): the pixels of each bin along an axis
        h, p = (end - start + 1)[:, None], torch.arange(output_size)
        first = start[:, None] + p * h // output_size
        stop = start[:, None] - -(p + 1) * h // output_size
        k = torch.arange(int((stop - first).max()))
        return torch.minimum(first[:, :, None] + k, stop[:, :, None] - 1)

    rows, columns = of_bins(ends[:, 1], ends[:, 3]), of_bins(ends[:, 0], ends[:, 2])
    best = None
    with torch.no_grad():  # only where the maxima are; their values are taken at the end
        for i in range(rows.shape[2]):
            for j in range(columns.shape[2]):
                place = places(x, boxes, rows[:, :, i], columns[:, :, j]).reshape(-1)
                value = pixels.index_select(0, place)  # (R*P*P, C)
                where = place[:, None].expand(-1, C)
                if best is None:
                    best, best_where = value, where
                else:
                    best_where = torch.where(value > best, where, best_where)
                    best = torch.maximum(best, value)
    return pixels.gather(0, best_where).reshape(-1, output_size, output_size, C).permute(0, 3, 1, 2)


def roi_align(x: torch.Tensor, boxes: torch.Tensor, output_size: int, sampling_ratio: int) -> torch.Tensor:
    """The mean of sampling_ratio^2 points per bin, as ``minicv.ops.roi_align``: four pixels around every point."""
    pixels, count = pixel_rows(x), output_size * sampling_ratio

    def take(rows, columns):
        place = places(x, boxes, rows, columns)
        return pixels.index_select(0, place.reshape(-1)).reshape(*place.shape, x.shape[1])

    def around(start, end):  # (R, count) each: pixel before the point, pixel after, weight of the latter
        s = start[:, None] + (torch.arange(count) + 0.5) * ((end - start) / count)[:, None]
        low = s.floor()
        return low.long(), low.long() + 1, s - low

    (top, bottom, v), (left, right, u) = around(boxes[:, 2], boxes[:, 4]), around(boxes[:, 1], boxes[:, 3])
    v, u = v[:, :, None, None], u[:, None, :, None]
    points = (1 - v) * ((1 - u) * take(top, left) + u * take(top, right)) \
        + v * ((1 - u) * take(bottom, left) + u * take(bottom, right))  # (R, count, count, C)
    return torch.nn.functional.avg_pool2d(points.permute(0, 3, 1, 2), sampling_ratio)
