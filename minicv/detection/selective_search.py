"""Selective search (Uijlings et al., IJCV 2013): boxes that may hold an object, from the regions of the image itself.

1. Small regions, by ``graph_segmentation``.
2. Hierarchical grouping (the paper's algorithm 1): the two most similar neighbors merge, again and again, until one
   region is left. Every region on the way yields a box, so the boxes have all sizes.
3. Diversity: repeat this in several color spaces, with several similarities and several k. All boxes are ranked
   together, and duplicates dropped.

The similarity of two neighbors, sec. 3.2, is a sum of any of four measures (eq. (6), a_i is 0 or 1), each in 0..1. r
counts the pixels of a region, im those of the image, BB those of the box around both regions:

    C  color    sum_k min(c_i^k, c_j^k)        histograms of 25 bins per channel                              eq. (1)
    T  texture  sum_k min(t_i^k, t_j^k)        Gaussian derivatives, 8 directions, 10 bins each per channel   eq. (3)
    S  size     1 - (r_i + r_j) / im           small regions first, so that none swallows its surroundings    eq. (4)
    F  fill     1 - (BB_ij - r_i - r_j) / im   no holes                                                       eq. (5)

Each histogram sums to 1. That of a merged region is the mean of its parts', weighted by their sizes, eq. (2).

Differs from the authors' code: texture bins reach from 0 to the image's largest derivative. As in their code, hue is
not treated as a circle.
"""
from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from .boxes import remove_small_boxes
from .color import convert_color
from .graph_segmentation import NEIGHBORS, graph_segmentation

COLOR_BINS, TEXTURE_BINS = 25, 10

# Color spaces, similarities and k of each mode: the paper's table 5, with 1, 8 and 80 groupings
MODES = {
    "single": (("HSV",), ("CTSF",), (100,)),
    "fast": (("HSV", "Lab"), ("CTSF", "TSF"), (50, 100)),
    "quality": (("HSV", "Lab", "rgI", "H", "I"), ("CTSF", "TSF", "F", "S"), (50, 100, 150, 300)),
}


class Hierarchy(NamedTuple):
    """How n regions were grouped. There are 2n - 1 regions in all; merge m makes region n + m.

    boxes: float32 (2n - 1, 4). sizes: (2n - 1,), pixels. merges: (n - 1, 2), the two regions of each merge.
    similarity: (n - 1,), of these two.
    """

    boxes: np.ndarray
    sizes: np.ndarray
    merges: np.ndarray
    similarity: np.ndarray


def selective_search(image: np.ndarray, mode: str = "fast", seed: int = 0, max_boxes: int | None = None,
                     min_side: float = 0.0, sigma: float = 0.8, min_size: int | None = None) -> np.ndarray:
    """Return boxes float32 (R, 4) in pixels of an RGB image (3, H, W) in 0..1, the most promising first.

    mode: "single", "fast" or "quality", see MODES. seed: of the ranking, step 3. max_boxes: how many are returned at
    most. min_side: pixels; boxes with a shorter side are left out. sigma, min_size: see graph_segmentation.
    """
    if mode not in MODES:
        raise ValueError(f"selective_search: unknown mode {mode!r}; choose one of {', '.join(MODES)}")
    spaces, similarities, ks = MODES[mode]
    groupings = []
    for space in spaces:
        converted = convert_color(image, space)
        for k in ks:
            regions = graph_segmentation(converted, k, sigma, min_size)
            color, texture = color_histograms(converted, regions), texture_histograms(converted, regions)
            groupings += [group_regions(regions, color, texture, similarity).boxes for similarity in similarities]
    boxes = rank_boxes(groupings, np.random.default_rng(seed))
    return boxes[remove_small_boxes(boxes, min_side)][:max_boxes]


def rank_boxes(groupings: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Merge the boxes (R, 4) of several groupings, each in the order of its merges, into one list without duplicates.

    Sec. 3.3 of the paper: a grouping's last box, the whole image, has i = 1, the one before it 2, ...; sort by i times
    a random number in 0..1, so that the large regions do not all come first.
    """
    i = np.concatenate([np.arange(len(boxes), 0, -1) for boxes in groupings])
    ordered = np.concatenate(groupings)[np.argsort(i * rng.random(len(i)), kind="stable")]
    _, first = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first)]


# ---------------------------------------------------------------------------------------------------------
# The features of a region
# ---------------------------------------------------------------------------------------------------------
def color_histograms(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Return (n, 25 C), each row summing to 1, for an image (C, H, W) in 0..1 and its regions (H, W), 0 to n - 1."""
    return _histograms(image, regions, COLOR_BINS)


def texture_histograms(image: np.ndarray, regions: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """Return (n, 10 * 8 C), each row summing to 1: how steeply the image rises in 8 directions, at the scale sigma."""
    dx, dy = (ndimage.gaussian_filter(image, (0, sigma, sigma), order=order) for order in ((0, 0, 1), (0, 1, 0)))
    along = [np.cos(t) * dx + np.sin(t) * dy for t in np.arange(4) * np.pi / 4]  # (C, H, W) each
    rises = np.concatenate([np.maximum(side, 0) for d in along for side in (d, -d)])  # (8 C, H, W)
    return _histograms(rises / max(rises.max(), 1e-12), regions, TEXTURE_BINS)


def _histograms(values: np.ndarray, regions: np.ndarray, bins: int) -> np.ndarray:
    """Return histograms of values (C, H, W) in 0..1 in each of n regions: (n, C * bins), rows summing to 1."""
    n, first_bin = int(regions.max()) + 1, regions.ravel() * bins
    bin_of = np.minimum((values * bins).astype(np.int32), bins - 1).reshape(len(values), -1)
    counts = [np.bincount(first_bin + of_channel, minlength=n * bins).reshape(n, bins) for of_channel in bin_of]
    histograms = np.concatenate(counts, axis=1).astype(np.float32)
    return histograms / histograms.sum(axis=1, keepdims=True)


def region_boxes(regions: np.ndarray) -> np.ndarray:
    """Return the box around each of n regions (H, W): float32 (n, 4)."""
    return np.array([[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(regions + 1)], np.float32)


def neighbor_pairs(regions: np.ndarray) -> np.ndarray:
    """Return the pairs of regions that touch, if only at a corner: (P, 2), the smaller number first, sorted."""
    (H, W), n, codes = regions.shape, int(regions.max()) + 1, []
    for down, right in NEIGHBORS:
        a = regions[:H - down, max(-right, 0):W - max(right, 0)]
        b = regions[down:, max(right, 0):W + min(right, 0)]
        differ = a != b
        low, high = np.minimum(a, b)[differ].astype(np.int64), np.maximum(a, b)[differ]
        codes.append(np.unique(low * n + high))
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), n), axis=1)


# ---------------------------------------------------------------------------------------------------------
# Grouping
# ---------------------------------------------------------------------------------------------------------
def group_regions(regions: np.ndarray, color: np.ndarray, texture: np.ndarray, similarity: str = "CTSF") -> Hierarchy:
    """Merge n regions (H, W) until one is left (Uijlings et al., algorithm 1), by the sum of the named similarities."""
    if not similarity or set(similarity) - set("CTSF"):
        raise ValueError(f"group_regions: similarity is made of the letters C, T, S and F, got {similarity!r}")
    n, pixels = len(color), regions.size
    histograms = [_with_room(part, n) for letter, part in (("C", color), ("T", texture)) if letter in similarity]
    sizes = _with_room(np.bincount(regions.ravel()).astype(np.float32), n)
    boxes = _with_room(region_boxes(regions), n)
    use_size, use_fill = "S" in similarity, "F" in similarity

    def s(i: Any, j: np.ndarray) -> Any:
        """Return the similarity of region i, or of regions i, with each of the regions j: eq. (6)."""
        total: Any = sum(np.minimum(h[i], h[j]).sum(axis=-1) for h in histograms)  # eqs. (1), (3)
        joint = sizes[i] + sizes[j]
        if use_size:
            total = total + 1 - joint / pixels  # eq. (4)
        if use_fill:
            low, high = np.minimum(boxes[i], boxes[j]), np.maximum(boxes[i], boxes[j])
            around = (high[..., 2] - low[..., 0]) * (high[..., 3] - low[..., 1])
            total = total + 1 - (around - joint) / pixels  # eq. (5)
        return total

    pairs = neighbor_pairs(regions)
    neighbors: list[set[int]] = [set() for _ in range(2 * n - 1)]
    for i, j in pairs.tolist():
        neighbors[i].add(j)
        neighbors[j].add(i)
    queue = list(zip((-s(pairs[:, 0], pairs[:, 1])).tolist(), *pairs.T.tolist(), strict=True))
    heapq.heapify(queue)
    alive = [True] * n + [False] * (n - 1)
    merges, similarities = [], []
    for new in range(n, 2 * n - 1):
        while True:
            minus, i, j = heapq.heappop(queue)
            if alive[i] and alive[j]:  # a pair with a merged region stays in the queue until it is skipped here
                break
        merges.append((i, j))
        similarities.append(-minus)
        alive[i] = alive[j] = False
        alive[new] = True
        sizes[new] = sizes[i] + sizes[j]
        for h in histograms:
            h[new] = (sizes[i] * h[i] + sizes[j] * h[j]) / sizes[new]  # eq. (2)
        boxes[new, :2], boxes[new, 2:] = np.minimum(boxes[i, :2], boxes[j, :2]), np.maximum(boxes[i, 2:], boxes[j, 2:])
        around = (neighbors[i] | neighbors[j]) - {i, j}
        for other in around:
            neighbors[other] -= {i, j}
            neighbors[other].add(new)
        neighbors[new] = around
        if around:
            others = sorted(around)
            for value, other in zip((-s(new, np.array(others))).tolist(), others, strict=True):
                heapq.heappush(queue, (value, other, new))
    return Hierarchy(boxes, sizes, np.array(merges, int).reshape(-1, 2), np.array(similarities))


def _with_room(rows: np.ndarray, n: int) -> np.ndarray:
    """Return the rows of n regions, with zeros for the n - 1 regions to be merged from them."""
    return np.concatenate([rows, np.zeros((n - 1, *rows.shape[1:]), rows.dtype)])


# ---------------------------------------------------------------------------------------------------------
# The baseline
# ---------------------------------------------------------------------------------------------------------
def sliding_windows(size: tuple[int, int], step: float = 0.25, min_side: float = 16.0,
                    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> np.ndarray:
    """Return boxes float32 (R, 4) on a regular grid in an image (H, W): exhaustive search.

    Areas start at ``min_side`` squared and double until a window fills the image. ``ratios``: height over width.
    Neighbors are ``step`` of their side apart. The boxes are not ranked.
    """
    if step <= 0 or min_side <= 0:
        raise ValueError(f"sliding_windows: step and min_side must be positive, got {step} and {min_side}")
    (H, W), boxes = size, []
    for ratio in ratios:
        side = min_side
        while side * np.sqrt(ratio) <= H and side / np.sqrt(ratio) <= W:
            h, w = side * np.sqrt(ratio), side / np.sqrt(ratio)
            y, x = (np.linspace(0, room - part, max(int(np.ceil((room - part) / (step * part))) + 1, 1))
                    for room, part in ((H, h), (W, w)))
            top, left = (v.ravel() for v in np.meshgrid(y, x, indexing="ij"))
            boxes.append(np.stack([left, top, left + w, top + h], axis=1))
            side *= np.sqrt(2)
    return np.concatenate([*boxes, np.zeros((0, 4))]).astype(np.float32)
