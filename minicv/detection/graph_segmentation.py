"""The first step of selective search: small regions (Felzenszwalb and Huttenlocher, IJCV 2004).

At first, every pixel is a region. The edges between neighboring pixels (eight neighbors) weigh as much as the pixels'
colors differ, and are visited from the lightest to the heaviest. An edge between the regions C1 and C2 joins them
unless it is heavier than the edges inside them, plus an allowance that shrinks as a region grows:

    Dif(C1, C2) <= min(Int(C1) + k / |C1|, Int(C2) + k / |C2|)        eqs. (3) to (5)

Int(C) is the heaviest edge that joined C, eq. (1). Finally, regions smaller than ``min_size`` join the neighbor with
the lightest edge. Colors are in 0..255, as in the authors' code, so that their values of k keep their meaning.
"""
from __future__ import annotations

from array import array

import numpy as np
from scipy import ndimage

NEIGHBORS = ((0, 1), (1, 0), (1, 1), (1, -1))  # (down, right): the other four of the eight directions are the reverse
CHUNKS = 64


def graph_segmentation(image: np.ndarray, k: float = 100.0, sigma: float = 0.8,
                       min_size: int | None = None) -> np.ndarray:
    """Segment an image (C, H, W) in 0..1 into regions: int32 (H, W), 0 to n - 1, in the order of their first pixels.

    k: larger values prefer larger regions. sigma: of the Gaussian that smooths the image first, pixels. min_size:
    pixels; None: k, as in selective search's code.
    """
    if image.ndim != 3 or image.size == 0 or k < 0:
        raise ValueError(f"graph_segmentation: needs an image (C, H, W) and k >= 0, got {image.shape} and {k}")
    a, b, w = sorted_edges(image, sigma)
    n = image.shape[1] * image.shape[2]
    parent, size, allowed = array("i", range(n)), array("i", [1]) * n, array("d", [k]) * n
    # The NumPy views of the same memory look at whole chunks of edges at once; only edges that may still join regions
    # are visited one by one. No join is missed: allowed[C] = Int(C) + k/|C| changes only when C is joined, so a C for
    # which a chunk's first edge is too heavy is never joined again. (The chunk's other edges prove nothing: before
    # their turn, C may be joined and be allowed more.)
    root, sizes, allow = np.frombuffer(parent, np.int32), np.frombuffer(size, np.int32), np.frombuffer(allowed)
    for part in np.array_split(np.arange(len(w)), CHUNKS):
        compress_paths(root)
        C1, C2, Dif = root[a[part]], root[b[part]], w[part]
        may_join = (C1 != C2) & (Dif[:1] <= allow[C1]) & (Dif[:1] <= allow[C2])
        for i, j, weight in zip(*(side[may_join].tolist() for side in (C1, C2, Dif)), strict=True):
            while parent[i] != i:
                i = parent[i]
            while parent[j] != j:
                j = parent[j]
            if i != j and weight <= allowed[i] and weight <= allowed[j]:
                if size[i] < size[j]:
                    i, j = j, i
                parent[j] = i
                size[i] += size[j]
                allowed[i] = weight + k / size[i]  # edges come by rising weight: the last is Int(C)
    least = k if min_size is None else min_size
    for part in np.array_split(np.arange(len(w)), CHUNKS):
        compress_paths(root)
        C1, C2 = root[a[part]], root[b[part]]
        small = (C1 != C2) & (np.minimum(sizes[C1], sizes[C2]) < least)
        for i, j in zip(C1[small].tolist(), C2[small].tolist(), strict=True):
            while parent[i] != i:
                i = parent[i]
            while parent[j] != j:
                j = parent[j]
            if i != j and (size[i] < least or size[j] < least):
                parent[j] = i
                size[i] += size[j]
    compress_paths(root)
    _, first, number = np.unique(root, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number].astype(np.int32).reshape(image.shape[1:])


def sorted_edges(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two pixels (i W + j) and the weight of each edge of an image (C, H, W), by rising weight."""
    _, H, W = image.shape
    smooth = ndimage.gaussian_filter(255 * image.astype(np.float64), (0, sigma, sigma))
    pixel = np.arange(H * W, dtype=np.int32).reshape(H, W)
    ends, weights = [], []
    for down, right in NEIGHBORS:
        here = np.s_[..., :H - down, max(-right, 0):W - max(right, 0)]
        there = np.s_[..., down:, max(right, 0):W + min(right, 0)]
        ends.append((pixel[here].ravel(), pixel[there].ravel()))
        weights.append(np.sqrt(((smooth[here] - smooth[there]) ** 2).sum(axis=0)).ravel())
    w = np.concatenate(weights)
    order = np.argsort(w, kind="stable")
    a, b = (np.concatenate(side)[order] for side in zip(*ends, strict=True))
    return a, b, w[order]


def compress_paths(parent: np.ndarray) -> None:
    """Replace each of the parents (N,) by the root of its tree, in place."""
    while True:
        above = parent[parent]
        if (above == parent).all():
            return
        parent[:] = above


def graph_segmentation_loop(image: np.ndarray, k: float = 100.0, sigma: float = 0.8,
                            min_size: int | None = None) -> np.ndarray:
    """``graph_segmentation`` by its definition: regions are sets of pixels, and every edge is visited."""
    a, b, w = sorted_edges(image, sigma)
    region = {p: {p} for p in range(image.shape[1] * image.shape[2])}  # of each pixel, shared by its pixels
    internal = {p: 0.0 for p in region}  # Int(C), under the smallest pixel of C

    def join(p: int, q: int) -> None:
        region[p] |= region[q]
        for pixel in region[q]:
            region[pixel] = region[p]

    edges = list(zip(a.tolist(), b.tolist(), w.tolist(), strict=True))
    for p, q, weight in edges:
        C1, C2 = region[p], region[q]
        if C1 is not C2 and weight <= min(internal[min(C)] + k / len(C) for C in (C1, C2)):
            join(p, q)
            internal[min(region[p])] = weight
    least = k if min_size is None else min_size
    for p, q, _ in edges:
        if region[p] is not region[q] and min(len(region[p]), len(region[q])) < least:
            join(p, q)
    first = np.array([min(region[p]) for p in range(len(region))])
    return np.unique(first, return_inverse=True)[1].astype(np.int32).reshape(image.shape[1:])
