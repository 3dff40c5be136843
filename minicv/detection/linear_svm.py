"""A linear support vector machine, and how to train one when there are too many negatives to look at them all.

R-CNN (Girshick et al., 2014, sec. 2.3) scores boxes with one SVM for each class, against everything else:

    min over w, b of  1/2 |w|^2 + 1/2 (b/s)^2 + sum_i C_i max(0, 1 - y_i (w x_i + b)),    y_i = 1 or -1

The bias is the weight of one more feature that is ``s`` everywhere: a large s leaves it almost free. C_i is C for
negatives and ``positive_weight`` times C for positives. The numbers are those of the authors' code: C = 0.001, s = 10,
weight 2, on features with a mean norm of 20.

The dual problem has one number per example, a_i in [0, C_i], and w = sum_i a_i y_i x_i. Coordinate descent (Hsieh et
al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008, algorithm 1) solves it for one a_i at a
time. Examples classified correctly with some margin have a_i = 0 and can be left out: that is why mining the hard
negatives among millions suffices.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

HARD_THRESHOLD, EVICT_THRESHOLD = -1.0001, -1.2
"""A negative with a higher score than the first lies within the margin and is kept; one below the second is dropped.
The names and numbers are those of R-CNN's code."""


@dataclasses.dataclass(frozen=True)
class LinearSVM:
    """weight: float32 (D,). bias: a number. A positive score means "of the class"."""

    weight: np.ndarray
    bias: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return w x + b for features (..., D)."""
        return x @ self.weight + np.float32(self.bias)


def train_svm(x: np.ndarray, y: np.ndarray, C: float = 1e-3, positive_weight: float = 2.0, bias_scale: float = 10.0,
              tolerance: float = 1e-2, max_sweeps: int = 1000, seed: int = 0) -> LinearSVM:
    """Train on features x (N, D) and labels y (N,), 1 or -1, until no gradient of the dual exceeds ``tolerance``.

    Stops after ``max_sweeps`` over the examples in any case. Deterministic; ``seed`` sets the order of the examples.
    ``ValueError`` for labels other than 1 and -1, and for features that are not finite.
    """
    _check("train_svm", x, C)
    y = np.asarray(y, np.float64)
    if y.shape != x.shape[:1] or not np.isin(y, (-1, 1)).all():
        raise ValueError(f"train_svm: y must be {x.shape[:1]} numbers, each 1 or -1, got {y.shape} with values "
                         f"{np.unique(y)[:5]}")
    x = np.concatenate([x, np.full((len(x), 1), bias_scale)], axis=1, dtype=np.float64)  # (N, D + 1)
    upper = np.where(y > 0, positive_weight * C, C)  # C_i
    alpha, w, rng = np.zeros(len(x)), np.zeros(x.shape[1]), np.random.default_rng(seed)
    squared_norms = np.maximum(np.einsum("nd,nd->n", x, x), 1e-12)
    yx = y[:, None] * x
    for _ in range(max_sweeps):
        violating = np.flatnonzero(abs(projected_gradient(yx @ w - 1, alpha, upper)) > tolerance)
        if not len(violating):
            break
        for i in rng.permutation(violating).tolist():
            old = alpha[i]
            alpha[i] = min(max(old - (yx[i] @ w - 1) / squared_norms[i], 0), upper[i])  # Hsieh et al., eq. (9)
            w += (alpha[i] - old) * yx[i]
    return LinearSVM(w[:-1].astype(np.float32), float(w[-1] * bias_scale))


def projected_gradient(gradient: np.ndarray, alpha: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Return the dual's gradient without the parts that lead out of [0, upper] (Hsieh et al., eq. (8)).

    It is 0 everywhere at the solution.
    """
    at_zero, at_upper = np.minimum(gradient, 0), np.maximum(gradient, 0)
    return np.where(alpha <= 0, at_zero, np.where(alpha >= upper, at_upper, gradient))


@dataclasses.dataclass(frozen=True)
class MiningRound:
    """One retraining: ``seen`` negatives so far, ``kept`` of them in memory, ``support`` within the margin after it."""

    seen: int
    kept: int
    support: int


def train_svm_with_mining(positives: np.ndarray, negatives: Iterable[np.ndarray], C: float = 1e-3,
                          positive_weight: float = 2.0, retrain_limit: int = 2000,
                          **options: Any) -> tuple[LinearSVM, list[MiningRound]]:
    """Train on positives (P, D) and the hard ones among the negatives, an array (R, D) per image.

    One pass over the images, after which R-CNN's authors (sec. 2.3) saw no further gain. Negatives that score above
    HARD_THRESHOLD are kept. Whenever ``retrain_limit`` new ones have come, the SVM is retrained, and those below
    EVICT_THRESHOLD are dropped. Before the first training every score is 0, so all negatives are hard. ``options`` are
    ``train_svm``'s. Returns the SVM and the rounds.
    """
    _check("train_svm_with_mining", positives, C)
    D = positives.shape[1]
    history: list[MiningRound] = []
    new: list[np.ndarray] = []
    svm, kept, seen = LinearSVM(np.zeros(D, np.float32), 0.0), np.zeros((0, D), np.float32), 0

    def retrain() -> None:
        nonlocal svm, kept
        kept = np.concatenate([kept, *new])
        new.clear()
        x, y = np.concatenate([positives, kept]), np.repeat([1, -1], [len(positives), len(kept)])
        svm = train_svm(x, y, C, positive_weight, **options)
        scores = svm.scores(kept)
        history.append(MiningRound(seen, len(kept), int((scores > HARD_THRESHOLD).sum())))
        kept = kept[scores > EVICT_THRESHOLD]

    for of_image in negatives:
        seen += len(of_image)
        new.append(of_image[svm.scores(of_image) > HARD_THRESHOLD])
        if sum(map(len, new)) >= retrain_limit:
            retrain()
    if new or not history:
        retrain()
    return svm, history


def _check(function: str, x: np.ndarray, C: float) -> None:
    """Raise ``ValueError``, naming the function, unless features are finite, (N, D), and C is positive."""
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"{function}: features must be finite numbers (N, D), got {x.shape}"
                         + ("" if np.isfinite(x).all() else f" with {(~np.isfinite(x)).sum()} that are not finite"))
    if C <= 0:
        raise ValueError(f"{function}: C must be positive, got {C}")
