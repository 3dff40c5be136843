"""Masks as COCO's files hold them: polygons, and run lengths, plain or packed into text.

A mask's pixels are taken column by column, from the top; runs of pixels outside and inside take turns, beginning with
outside, perhaps none. Packed, each length from the fourth on is written as its difference from the one two before, in
groups of 5 bits, the lowest first: bit 5 says that more follow, bit 4 of the last one is the sign, and 48 is added to
make it a character (cocodataset/cocoapi, common/maskApi.c).
"""
from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from .images import MAX_PIXELS


def encode_rle(mask: np.ndarray) -> dict:
    """A mask, bool (H, W), as {"size": [H, W], "counts": run lengths}."""
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"encode_rle: mask must be bool (H, W), got {mask.dtype} {mask.shape}")
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels, prepend=False)) if pixels.size else np.zeros(0, int)
    return {"size": list(mask.shape), "counts": np.diff([0, *changes.tolist(), pixels.size]).tolist()}


def decode_rle(rle: dict) -> np.ndarray:
    """The mask, bool (H, W), of {"size": [H, W], "counts": lengths or packed text}; ``ValueError`` if they do not fit.
    """
    try:
        (H, W), counts = map(operator.index, rle["size"]), rle["counts"]
        counts = np.array([operator.index(n) for n in (unpack(counts) if isinstance(counts, str | bytes) else counts)],
                          np.int64)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError('decode_rle: a mask is {"size": [H, W], "counts": lengths or packed text}, this is none '
                         f"({error})") from error
    if min(H, W) < 0 or H * W > MAX_PIXELS:
        raise ValueError(f"decode_rle: a mask of {H} x {W}; at least 0 and at most {MAX_PIXELS} pixels are allowed")
    if counts.sum() != H * W or (counts < 0).any():
        raise ValueError(f"decode_rle: the runs have {counts.sum()} pixels, a mask of {H} x {W} has {H * W}")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(W, H).T.copy()


def unpack(text: str | bytes) -> list[int]:
    """The run lengths in packed text."""
    counts, value, bits = [], 0, 0
    for c in text.encode() if isinstance(text, str) else text:
        group = c - 48
        value |= (group & 31) << bits
        bits += 5
        if not group & 32:
            if group & 16:
                value -= 1 << bits  # a negative difference
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, bits = 0, 0
    if bits:
        raise ValueError("unpack: the text ends in the middle of a number")
    return counts


def fill_polygon(polygon: Sequence[float], size: tuple[int, int]) -> np.ndarray:
    """The pixels of H x W whose middle lies in a polygon (x, y, x, y, ...), by the even-odd rule: bool (H, W).

    COCO's own code draws the outline at five times the resolution and may differ along it.
    """
    points = np.asarray(polygon, float).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError(f"fill_polygon: a coordinate is no finite number: {points.tolist()}")
    (H, W), crossings = size, np.zeros((size[0], size[1] + 1), np.int64)
    for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, stop = (int(np.clip(np.ceil(y - 0.5), 0, H)) for y in sorted((y1, y2)))
        rows = np.arange(first, stop)  # those whose middle line the side crosses
        if len(rows):
            x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1)
            np.add.at(crossings, (rows, np.clip(np.ceil(x - 0.5), 0, W).astype(int)), 1)
    return np.cumsum(crossings, axis=1)[:, :W] % 2 == 1
