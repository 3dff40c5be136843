"""The three measures of the ISBI 2012 challenge on neuronal membranes, as in U-Net's table 1.

A segmentation is a mask: cells are True, membranes False. A wrong pixel may be a slightly shifted boundary, or the gap
through which two cells become one. So there are three questions:

- pixel error: how many pixels are wrong?
- Rand error: which pairs of pixels are wrongly in one cell, or wrongly in two? (Rand, JASA 1971;
  foreground-restricted as in Arganda-Carreras et al., Frontiers in Neuroanatomy 2015)
- warping error: how many pixels stay wrong when boundaries may move, but cells may not merge, split,
  appear or vanish? (Jain et al., CVPR 2010)

Adjacency: cells are 4-connected, membranes 8-connected, as in Fiji's implementation. A closed curve separates
inside from outside only if the curve and its two sides use different adjacencies, and membranes are thin: one
pixel wide and diagonal, they would leak at every step between 8-connected cells.

Differs from the challenge: its server took the best threshold for the *test* set, measure by measure, its
pixel error was one minus an F-score, and its warping error counted splits and mergers only. Here the
threshold is an argument (`best_threshold` finds one on training images), and every wrong pixel counts.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse

from .checks import as_labels, as_mask, as_probability, check_one_image, check_same_shape, mean_without_nan

THRESHOLDS = tuple(k / 20 for k in range(1, 20))  # 0.05, 0.10, ... 0.95


def pixel_error(probability: np.ndarray, truth: np.ndarray, threshold: float = 0.5) -> float:
    """Share of pixels where `probability > threshold` differs from the mask `truth`; one shape, any shape.

    probability: of being a cell, in [0, 1]; or a mask.
    """
    probability = as_probability("pixel_error", "probability", probability)
    truth = as_mask("pixel_error", "truth", truth)
    check_same_shape("pixel_error", "probability", probability, "truth", truth)
    return float(np.mean((probability > threshold) != truth))


# -------------------------------------------------------------------------------------- Rand

class RandScore(NamedTuple):
    """The Rand F-score and its two parts, each in 0..1."""

    f_score: float  # harmonic mean of the two below
    precision: float  # of the pairs joined in the prediction, the share joined in the truth; low for mergers
    recall: float  # of the pairs joined in the truth, the share joined in the prediction; low for splits


def rand_score(prediction_labels: np.ndarray, truth_labels: np.ndarray) -> RandScore:
    """Foreground-restricted Rand F-score, precision and recall of two integer label maps of one shape.

    Two pixels of one segment are a joined pair. Pixels with label 0 in the truth (membrane) are left out;
    label 0 in the prediction is an ordinary segment. Both are as in scikit-image's `adapted_rand_error`,
    which also leaves out the pairs of a pixel with itself that the paper counts; but precision divides by the
    prediction's pairs and recall by the truth's, as scikit-image documents it; its code has the two the other way
    round. A map without any pair makes no mistake: its ratio is 1. All three are NaN if the truth is 0 everywhere.
    """
    prediction = as_labels("rand_score", "prediction_labels", prediction_labels)
    truth = as_labels("rand_score", "truth_labels", truth_labels)
    check_same_shape("rand_score", "prediction_labels", prediction, "truth_labels", truth)
    foreground = truth != 0
    if not foreground.any():
        return RandScore(*[float("nan")] * 3)

    table = _contingency(truth[foreground], prediction[foreground])
    joined_in_both = _pairs(table.data)
    joined_in_truth = _pairs(table.sum(axis=1))
    joined_in_prediction = _pairs(table.sum(axis=0))
    precision = joined_in_both / joined_in_prediction if joined_in_prediction else 1.0
    recall = joined_in_both / joined_in_truth if joined_in_truth else 1.0
    # Arganda-Carreras et al., the Rand F-score with alpha = 1/2: 2 sum p_ij^2 / (sum s_i^2 + sum t_j^2)
    either = joined_in_truth + joined_in_prediction
    return RandScore(2 * joined_in_both / either if either else 1.0, precision, recall)


def rand_f_score(prediction_labels: np.ndarray, truth_labels: np.ndarray) -> float:
    """The F-score of `rand_score`, 1 for a perfect segmentation."""
    return rand_score(prediction_labels, truth_labels).f_score


def rand_error(prediction_labels: np.ndarray, truth_labels: np.ndarray) -> float:
    """1 - `rand_f_score`, 0 for a perfect segmentation; equal to scikit-image's `adapted_rand_error`."""
    return 1 - rand_score(prediction_labels, truth_labels).f_score


def _contingency(truth: np.ndarray, prediction: np.ndarray) -> sparse.csr_array:
    """How many pixels lie in truth segment i and prediction segment j. Sparse: few segments overlap."""
    _, i = np.unique(truth, return_inverse=True)
    _, j = np.unique(prediction, return_inverse=True)
    return sparse.csr_array((np.ones(i.size, np.int64), (i, j)))  # pixels of the same (i, j) add up


def _pairs(sizes: np.ndarray) -> int:
    """Ordered pairs of two different pixels of one segment, summed over the segments."""
    return int((sizes * (sizes - 1)).sum())


# --------------------------------------------------------------- from a probability to cells

def connected_components(mask: np.ndarray) -> np.ndarray:
    """Number the cells of a mask (H, W): 1, 2, ... for its 4-connected components, 0 where it is False."""
    mask = as_mask("connected_components", "mask", mask)
    check_one_image("connected_components", "mask", mask)
    labels, _ = ndimage.label(mask)  # 4-connected is its default
    return labels


def rand_f_score_at(probability: np.ndarray, truth_mask: np.ndarray, threshold: float) -> float:
    """Rand F-score of the cells in `probability > threshold` against those in `truth_mask`, both (H, W)."""
    probability = as_probability("rand_f_score_at", "probability", probability)
    truth_mask = as_mask("rand_f_score_at", "truth_mask", truth_mask)
    check_same_shape("rand_f_score_at", "probability", probability, "truth_mask", truth_mask)
    check_one_image("rand_f_score_at", "probability", probability)
    return rand_f_score(connected_components(probability > threshold), connected_components(truth_mask))


def best_threshold(probabilities: Sequence[np.ndarray], truths: Sequence[np.ndarray],
                   thresholds: Iterable[float] = THRESHOLDS, smooth: int = 2) -> float:
    """The threshold with the highest mean `rand_f_score_at`; the lowest of equal ones.

    Each mean is averaged with those of the `smooth` thresholds on either side: a score jumps where one membrane breaks,
    so the single highest mean of a few images is chance (on held-out slices 0.51 against 0.53, docs/results.md).
    probabilities, truths: equally many training images (H, W), never test images; their sizes may differ.
    Images without a cell do not count; the result is 0.5 if there are no others.
    """
    if len(probabilities) == 0 or len(probabilities) != len(truths):
        raise ValueError("best_threshold: probabilities and truths must be equally many and at least one, got "
                         f"{len(probabilities)} and {len(truths)}")
    thresholds = sorted(thresholds)
    if not thresholds:
        raise ValueError("best_threshold: thresholds is empty, give at least one value in [0, 1)")
    pairs = list(zip(probabilities, truths, strict=True))
    scores = [mean_without_nan([rand_f_score_at(p, t, threshold) for p, t in pairs]) for threshold in thresholds]
    if np.isnan(scores[0]):
        return 0.5
    smoothed = [np.mean(scores[max(0, i - smooth) : i + smooth + 1]) for i in range(len(scores))]
    return float(thresholds[int(np.argmax(smoothed))])


# ----------------------------------------------------------------------------------- warping

# A point is simple if flipping it changes no cell and no membrane but in shape. That depends on its eight
# neighbors x_0 ... x_7 alone (1 for a cell, counted from the east, as the mathematicians turn):
#     x_3 x_2 x_1
#     x_4  .  x_0
#     x_5 x_6 x_7
# N4 counts how many cells meet at the point: every side that is not joined to the next around the corner.
#     N4 = 1: simple, a boundary moves.
#     N4 > 1: flipping would merge or split cells, or close or open a ring.
#     N4 = 0: a cell of one pixel would appear or vanish, or, with all sides joined, a hole of one pixel.

def _simple_points() -> bytes:
    """1 for a simple point, else 0, for each of the 256 neighborhoods sum_k x_k 2^k."""
    x = np.arange(256) >> np.arange(8)[:, None] & 1  # (8, 256)
    # Yokoi, Toriwaki and Fukumura (1975): N4 = sum over k = 0, 2, 4, 6 of x_k - x_k x_{k+1} x_{k+2}
    N4 = sum(x[k] - x[k] * x[k + 1] * x[(k + 2) % 8] for k in (0, 2, 4, 6))  # (256,)
    return (N4 == 1).astype(np.uint8).tobytes()


SIMPLE = _simple_points()


def warp(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Move the boundaries of the mask `truth` towards those of the mask `prediction`, both (H, W).

    Flips simple points where the two disagree until none is left; outside the image is membrane. Returns the
    warped truth, a boolean mask with as many cells and holes as before (Jain et al., CVPR 2010). Greedy:
    first come, first flipped, from the top row down. Another order (Fiji: the surest prediction first) may
    stop at other pixels.
    """
    truth, prediction = as_mask("warp", "truth", truth), as_mask("warp", "prediction", prediction)
    check_same_shape("warp", "truth", truth, "prediction", prediction)
    check_one_image("warp", "truth", truth)

    # Plain bytes in one row: indexing them is several times faster than indexing an array.
    warped, target = (bytearray(np.pad(mask, 1).tobytes()) for mask in (truth, prediction))
    W = truth.shape[1] + 2
    around = (1, 1 - W, -W, -W - 1, -1, W - 1, W, W + 1)  # E NE N NW W SW S SE, the bits of SIMPLE
    wrong = np.flatnonzero(np.pad(truth != prediction, 1)).tolist()
    queue, waiting = deque(wrong), set(wrong)
    while queue:
        p = queue.popleft()
        waiting.discard(p)
        neighborhood = 0
        for k, step in enumerate(around):
            neighborhood |= warped[p + step] << k
        if SIMPLE[neighborhood]:
            warped[p] = target[p]
            # A flip changes who is simple only next to it.
            for step in around:
                q = p + step
                if warped[q] != target[q] and q not in waiting:
                    waiting.add(q)
                    queue.append(q)
    return np.frombuffer(warped, bool).reshape(-1, W)[1:-1, 1:-1].copy()


def warping_error(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Share of pixels where the mask `prediction` still differs from the warped mask `truth`, both (H, W)."""
    prediction = as_mask("warping_error", "prediction", prediction)
    truth = as_mask("warping_error", "truth", truth)
    check_same_shape("warping_error", "prediction", prediction, "truth", truth)
    return float(np.mean(warp(truth, prediction) != prediction))
