"""Masks in COCO's formats: polygons, and run lengths, plain or packed into text.

Run lengths count a mask's pixels column by column, from the top: outside, inside, outside, ..., the first perhaps 0.
Packed, each length from the fourth on is stored as its difference from the one two before, in groups of 5 bits, the
lowest first: bit 5 is set if another group follows, bit 4 of the last group is the sign, and 48 is added to make a
character (cocodataset/cocoapi, common/maskApi.c).
"""
from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from .decode import MAX_PIXELS


def encode_rle(mask: np.ndarray) -> dict:
    """Return the mask, bool (H, W), as {"size": [H, W], "counts": packed text}, as pycocotools encodes it."""
    if mask.ndim != 2 or mask.dtype != bool:
        raise ValueError(f"encode_rle: mask must be bool (H, W), got {mask.dtype} {mask.shape}")
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels, prepend=False)) if pixels.size else np.zeros(0, int)
    return {"size": list(mask.shape), "counts": pack(np.diff([0, *changes.tolist(), pixels.size]).tolist())}


def decode_rle(rle: dict) -> np.ndarray:
    """Return bool (H, W) from {"size": [H, W], "counts": lengths or text}. Raise ``ValueError`` if they do not fit."""
    (H, W), counts = run_lengths(rle)
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(W, H).T.copy()


def run_lengths(rle: dict) -> tuple[tuple[int, int], np.ndarray]:
    """Return a mask's size (H, W) and its run lengths, int64, outside and inside in turn."""
    try:
        (H, W), counts = map(_length, rle["size"]), rle["counts"]
        counts = unpack(counts) if isinstance(counts, str | bytes) else list(map(_length, counts))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError('decode_rle: a mask is {"size": [H, W], "counts": lengths or packed text}, this is not '
                         f"({error})") from error
    if min(H, W) < 0 or H * W > MAX_PIXELS:
        raise ValueError(f"decode_rle: a mask of {H} x {W}; 0 to {MAX_PIXELS} pixels are allowed")
    if min(counts, default=0) < 0:
        raise ValueError(f"decode_rle: a run of {min(counts)} pixels")
    if sum(counts) != H * W:
        raise ValueError(f"decode_rle: the runs have {sum(counts)} pixels, a mask of {H} x {W} has {H * W}")
    return (H, W), np.array(counts, np.int64)


def _length(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{value} is not a number")
    number = int(value) if isinstance(value, float) and value.is_integer() else operator.index(value)
    if abs(number) >= 1 << 62:
        raise OverflowError("a run that is longer than any image")
    return number


def pack(counts: Sequence[int]) -> str:
    """Return run lengths as packed text."""
    text = []
    for i, count in enumerate(counts):
        value, more = count - counts[i - 2] if i > 2 else count, True
        while more:
            group, value = value & 31, value >> 5
            more = value != (-1 if group & 16 else 0)
            text.append(chr(48 + group + 32 * more))
    return "".join(text)


def unpack(text: str | bytes) -> list[int]:
    """Return the run lengths in packed text."""
    counts: list[int] = []
    value = bits = 0
    for c in text.encode() if isinstance(text, str) else text:
        group = c - 48
        if not 0 <= group < 64 or bits > 60:
            raise ValueError(f"unpack: not packed run lengths: {text[:40]!r}")
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
    """Return the pixels, bool (H, W), whose center lies in a polygon (x, y, x, y, ...), by the even-odd rule.

    COCO's own code draws the outline at five times the resolution and may differ along it.
    """
    H, W = size
    enter, leave = polygon_runs(polygon, size)
    changes = np.zeros(H * (W + 1), np.int64)
    np.add.at(changes, enter, 1)
    np.add.at(changes, leave, -1)
    return np.cumsum(changes.reshape(H, W + 1), axis=1)[:, :W] > 0


def has_pixels(outline: list, size: tuple[int, int]) -> bool:
    """Return whether an outline, a list of polygons and run lengths, has a pixel in an image of size (H, W)."""
    for part in outline:
        if run_lengths(part)[1][1::2].any() if isinstance(part, dict) else np.less(*polygon_runs(part, size)).any():
            return True
    return False


def draw_outlines(outlines: Sequence[list], size: tuple[int, int]) -> np.ndarray:
    """Return the masks, bool (R, H, W), of R outlines: each is the union of its polygons and run lengths."""
    masks = np.zeros((len(outlines), *size), bool)
    for mask, outline in zip(masks, outlines, strict=True):
        for part in outline:
            mask |= decode_rle(part) if isinstance(part, dict) else fill_polygon(part, size)
    return masks


def polygon_runs(polygon: Sequence[float], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts and ends, int64 (runs,), of a polygon's rows as y (W + 1) + x; [start, end) may be empty."""
    points = np.asarray(polygon, float).reshape(-1, 2)
    if not np.isfinite(points).all():
        raise ValueError(f"fill_polygon: a coordinate is not finite: {points.tolist()}")
    (H, W), ends = size, np.roll(points, -1, axis=0)
    low, high = np.minimum(points[:, 1], ends[:, 1]), np.maximum(points[:, 1], ends[:, 1])
    first, stop = (np.clip(np.ceil(y - 0.5), 0, H).astype(np.int64) for y in (low, high))  # center lines y + 0.5
    rows = stop - first  # center lines that each side crosses
    side = np.repeat(np.arange(len(points)), rows)
    row = np.arange(len(side)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    (x1, y1), (x2, y2) = points[side].T, ends[side].T
    x = x1 + (row + 0.5 - y1) * (x2 - x1) / (y2 - y1)
    crossings = np.sort(row * (W + 1) + np.clip(np.ceil(x - 0.5), 0, W).astype(np.int64))
    return crossings[::2], crossings[1::2]  # each row has an even number of them
