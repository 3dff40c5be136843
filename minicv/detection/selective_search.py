"""Selective search (Uijlings et al., IJCV 2013): boxes in which something may be, from the picture's own regions.

1. Small regions, by ``graph_segmentation``.
2. Hierarchical grouping (the paper's algorithm 1): the two most similar neighbours become one region, again and again,
   until the whole picture is one. Every region on the way gives a box, so boxes of all sizes come by themselves.
3. Diversity: this is done in several colour spaces, with several similarities and several k, all boxes are joined and
   ranked; a box that comes twice counts once.

The similarity of two neighbours, sec. 3.2, is a sum of any of four (eq. (6), a_i is 0 or 1), each in 0..1 (r: pixels of
a region, im: of the picture, BB: of the box around both):

    C  colour   sum_k min(c_i^k, c_j^k)        histograms of 25 bins per channel                              eq. (1)
    T  texture  sum_k min(t_i^k, t_j^k)        Gaussian derivatives, 8 directions, 10 bins each per channel   eq. (3)
    S  size     1 - (r_i + r_j) / im           small regions first, so that none eats up its surroundings     eq. (4)
    F  fill     1 - (BB_ij - r_i - r_j) / im   no holes                                                       eq. (5)

Histograms have the sum 1. That of a joined region is the mean of its parts', weighted by their sizes, eq. (2).

Differs from the authors' code: texture bins reach from 0 to a picture's largest derivative; hue is no circle, as there.
"""
from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from .boxes import large_enough
from .colour import to_space
from .graph_segmentation import NEIGHBOURS, graph_segmentation

COLOUR_BINS, TEXTURE_BINS = 25, 10

# Colour spaces, similarities and k of each mode: the paper's table 5, with 1, 8 and 80 groupings
MODES = {
    "single": (("HSV",), ("CTSF",), (100,)),
    "fast": (("HSV", "Lab"), ("CTSF", "TSF"), (50, 100)),
    "quality": (("HSV", "Lab", "rgI", "H", "I"), ("CTSF", "TSF", "F", "S"), (50, 100, 150, 300)),
}


class Hierarchy(NamedTuple):
    """What a grouping did to n regions: there are 2n - 1 in all, region n + m is made by step m.

    boxes: float32 (2n - 1, 4). sizes: (2n - 1,), pixels. steps: (n - 1, 2), the regions that a step joins. similarity:
    (n - 1,), theirs.
    """

    boxes: np.ndarray
    sizes: np.ndarray
    steps: np.ndarray
    similarity: np.ndarray


def selective_search(image: np.ndarray, mode: str = "fast", seed: int = 0, count: int | None = None,
                     min_side: float = 0.0, sigma: float = 0.8, min_size: int | None = None) -> np.ndarray:
    """Boxes float32 (R, 4) in pixels of a picture, RGB (3, H, W) in 0..1, the most promising first.

    mode: "single", "fast" or "quality", see MODES. seed: of the ranking, step 3. count: at most so many. min_side:
    shorter boxes are left out, pixels. sigma, min_size: see graph_segmentation.
    """
    if mode not in MODES:
        raise ValueError(f"selective_search: no mode {mode!r}; there are {', '.join(MODES)}")
    spaces, similarities, ks = MODES[mode]
    found = []
    for space in spaces:
        picture = to_space(image, space)
        for k in ks:
            regions = graph_segmentation(picture, k, sigma, min_size)
            colour, texture = colour_histograms(picture, regions), texture_histograms(picture, regions)
            found += [group(regions, colour, texture, similarity).boxes for similarity in similarities]
    boxes = rank(found, np.random.default_rng(seed))
    return boxes[large_enough(boxes, min_side)][:count]


def rank(groupings: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Boxes (R, 4) of several groupings, each in the order in which they were made, as one list without repetitions.

    Sec. 3.3 of the paper: the last box made, the whole picture, has i = 1, the one before it 2, ...; sort by i times a
    random number in 0..1, so that large regions do not all come first.
    """
    place = np.concatenate([np.arange(len(boxes), 0, -1) for boxes in groupings])
    ordered = np.concatenate(groupings)[np.argsort(place * rng.random(len(place)), kind="stable")]
    _, first = np.unique(ordered, axis=0, return_index=True)
    return ordered[np.sort(first)]


# ---------------------------------------------------------------------------------------------------------
# What a region looks like
# ---------------------------------------------------------------------------------------------------------
def colour_histograms(picture: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """(n, 25 C), each row with the sum 1, from a picture (C, H, W) in 0..1 and its regions (H, W), 0 to n - 1."""
    return _histograms(picture, regions, COLOUR_BINS)


def texture_histograms(picture: np.ndarray, regions: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    """(n, 10 * 8 C), each row with the sum 1: how much the picture rises in 8 directions, on the scale sigma."""
    dx, dy = (ndimage.gaussian_filter(picture, (0, sigma, sigma), order=order) for order in ((0, 0, 1), (0, 1, 0)))
    along = [np.cos(t) * dx + np.sin(t) * dy for t in np.arange(4) * np.pi / 4]  # (C, H, W) each
    rises = np.concatenate([np.maximum(side, 0) for d in along for side in (d, -d)])  # (8 C, H, W)
    return _histograms(rises / max(rises.max(), 1e-12), regions, TEXTURE_BINS)


def _histograms(values: np.ndarray, regions: np.ndarray, bins: int) -> np.ndarray:
    """Of values (C, H, W) in 0..1 in each of n regions: (n, C * bins), rows with the sum 1."""
    n, each = int(regions.max()) + 1, regions.ravel() * bins
    which = np.minimum((values * bins).astype(np.int32), bins - 1).reshape(len(values), -1)
    counts = [np.bincount(each + of_channel, minlength=n * bins).reshape(n, bins) for of_channel in which]
    histograms = np.concatenate(counts, axis=1).astype(np.float32)
    return histograms / histograms.sum(axis=1, keepdims=True)


def region_boxes(regions: np.ndarray) -> np.ndarray:
    """The box around each of n regions (H, W): float32 (n, 4)."""
    return np.array([[x.start, y.start, x.stop, y.stop] for y, x in ndimage.find_objects(regions + 1)], np.float32)


def adjacent(regions: np.ndarray) -> np.ndarray:
    """The pairs of regions that touch, also at a corner: (P, 2), the smaller number first, sorted."""
    (H, W), n, codes = regions.shape, int(regions.max()) + 1, []
    for down, right in NEIGHBOURS:
        a = regions[:H - down, max(-right, 0):W - max(right, 0)]
        b = regions[down:, max(right, 0):W + min(right, 0)]
        differ = a != b
        low, high = np.minimum(a, b)[differ].astype(np.int64), np.maximum(a, b)[differ]
        codes.append(np.unique(low * n + high))
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), n), axis=1)


# ---------------------------------------------------------------------------------------------------------
# Grouping
# ---------------------------------------------------------------------------------------------------------
def group(regions: np.ndarray, colour: np.ndarray, texture: np.ndarray, similarity: str = "CTSF") -> Hierarchy:
    """Join n regions (H, W) until one is left (Uijlings et al., algorithm 1), by a sum of the letters' similarities."""
    if not similarity or set(similarity) - set("CTSF"):
        raise ValueError(f"group: similarity is made of the letters C, T, S and F, got {similarity!r}")
    n, pixels = len(colour), regions.size
    histograms = [_room(part, n) for letter, part in (("C", colour), ("T", texture)) if letter in similarity]
    sizes = _room(np.bincount(regions.ravel()).astype(np.float32), n)
    boxes = _room(region_boxes(regions), n)
    use_size, use_fill = "S" in similarity, "F" in similarity

    def s(i, j: np.ndarray) -> np.ndarray:
        """Similarity of region i, or of regions i, with each of the regions j: eq. (6)."""
        total = sum(np.minimum(h[i], h[j]).sum(axis=-1) for h in histograms)  # eqs. (1), (3)
        joint = sizes[i] + sizes[j]
        if use_size:
            total = total + 1 - joint / pixels  # eq. (4)
        if use_fill:
            low, high = np.minimum(boxes[i], boxes[j]), np.maximum(boxes[i], boxes[j])
            around = (high[..., 2] - low[..., 0]) * (high[..., 3] - low[..., 1])
            total = total + 1 - (around - joint) / pixels  # eq. (5)
        return total

    pairs = adjacent(regions)
    neighbours: list[set[int]] = [set() for _ in range(2 * n - 1)]
    for i, j in pairs.tolist():
        neighbours[i].add(j)
        neighbours[j].add(i)
    queue = list(zip((-s(pairs[:, 0], pairs[:, 1])).tolist(), *pairs.T.tolist(), strict=True))
    heapq.heapify(queue)
    alive = [True] * n + [False] * (n - 1)
    steps, similarities = [], []
    for new in range(n, 2 * n - 1):
        while True:
            minus, i, j = heapq.heappop(queue)
            if alive[i] and alive[j]:  # a pair with a region that has been joined is left in the queue until here
                break
        steps.append((i, j))
        similarities.append(-minus)
        alive[i] = alive[j] = False
        alive[new] = True
        sizes[new] = sizes[i] + sizes[j]
        for h in histograms:
            h[new] = (sizes[i] * h[i] + sizes[j] * h[j]) / sizes[new]  # eq. (2)
        boxes[new, :2], boxes[new, 2:] = np.minimum(boxes[i, :2], boxes[j, :2]), np.maximum(boxes[i, 2:], boxes[j, 2:])
        around = (neighbours[i] | neighbours[j]) - {i, j}
        for other in around:
            neighbours[other] -= {i, j}
            neighbours[other].add(new)
        neighbours[new] = around
        if around:
            others = sorted(around)
            for value, other in zip((-s(new, np.array(others))).tolist(), others, strict=True):
                heapq.heappush(queue, (value, other, new))
    return Hierarchy(boxes, sizes, np.array(steps, int).reshape(-1, 2), np.array(similarities))


def _room(rows: np.ndarray, n: int) -> np.ndarray:
    """The rows of n regions, with room for the n - 1 that will be made of them."""
    return np.concatenate([rows, np.zeros((n - 1, *rows.shape[1:]), rows.dtype)])


# ---------------------------------------------------------------------------------------------------------
# What it is compared with
# ---------------------------------------------------------------------------------------------------------
def sliding_windows(size: tuple[int, int], step: float = 0.25, smallest: float = 16.0,
                    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> np.ndarray:
    """Boxes float32 (R, 4) at regular places inside a picture (H, W): the search that is not selective.

    Areas from ``smallest`` squared on, each twice the one before, until a window fills the picture; ratios of height to
    width; neighbours are ``step`` of their side apart. The order is none: rank them at random.
    """
    if step <= 0 or smallest <= 0:
        raise ValueError(f"sliding_windows: step and smallest must be positive, got {step} and {smallest}")
    (H, W), boxes = size, []
    for ratio in ratios:
        side = smallest
        while side * np.sqrt(ratio) <= H and side / np.sqrt(ratio) <= W:
            h, w = side * np.sqrt(ratio), side / np.sqrt(ratio)
            y, x = (np.linspace(0, room - part, max(int(np.ceil((room - part) / (step * part))) + 1, 1))
                    for room, part in ((H, h), (W, w)))
            top, left = (v.ravel() for v in np.meshgrid(y, x, indexing="ij"))
            boxes.append(np.stack([left, top, left + w, top + h], axis=1))
            side *= np.sqrt(2)
    return np.concatenate([*boxes, np.zeros((0, 4))]).astype(np.float32)
