"""A linear support vector machine, and how to train one on more negatives than anyone could look at.

R-CNN (Girshick et al., 2014, sec. 2.3) scores boxes with one such machine for each class, against all the rest:

    min over w, b of  1/2 |w|^2 + 1/2 (b/s)^2 + sum_i C_i max(0, 1 - y_i (w x_i + b)),    y_i = 1 or -1

The bias is the weight of one more feature that is ``s`` everywhere: with a large s it is hardly held back. C_i is C,
for positives ``positive_weight`` times C. The numbers are those of the authors' code: C = 0.001, s = 10, weight 2, on
features whose mean length is 20.

The dual problem has one number per example, a_i in [0, C_i], and w = sum_i a_i y_i x_i. Coordinate descent (Hsieh et
al., "A dual coordinate descent method for large-scale linear SVM", ICML 2008, algorithm 1) solves it for one a_i at a
time. Examples that are right with some margin to spare have a_i = 0 and can be left out: that is why it suffices to
look for the hard negatives among millions.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

HARD, EASY = -1.0001, -1.2
"""A negative that scores more than HARD lies within the margin and is kept; below EASY it is dropped (their code)."""


@dataclasses.dataclass(frozen=True)
class LinearSVM:
    """weight: float32 (D,). bias: a number. A positive score means "of the class"."""

    weight: np.ndarray
    bias: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """w x + b for features (..., D)."""
        return x @ self.weight + np.float32(self.bias)


def train_svm(x: np.ndarray, y: np.ndarray, C: float = 1e-3, positive_weight: float = 2.0, bias_scale: float = 10.0,
              tolerance: float = 1e-2, sweeps: int = 1000, seed: int = 0) -> LinearSVM:
    """Train on features x (N, D) and labels y (N,), 1 or -1, until no gradient of the dual exceeds ``tolerance``.

    Or until every example had its turn ``sweeps`` times. Deterministic; ``seed`` gives the order of the examples.
    Raises ``ValueError`` for labels that are neither 1 nor -1, and features that are not finite.
    """
    check("train_svm", x, C)
    y = np.asarray(y, np.float64)
    if y.shape != x.shape[:1] or not np.isin(y, (-1, 1)).all():
        raise ValueError(f"train_svm: y must be {x.shape[:1]} numbers, each 1 or -1, got {y.shape} with values "
                         f"{np.unique(y)[:5]}")
    x = np.concatenate([x, np.full((len(x), 1), bias_scale)], axis=1, dtype=np.float64)  # (N, D + 1)
    most = np.where(y > 0, positive_weight * C, C)
    alpha, w, rng = np.zeros(len(x)), np.zeros(x.shape[1]), np.random.default_rng(seed)
    squares = np.maximum(np.einsum("nd,nd->n", x, x), 1e-12)
    yx = y[:, None] * x
    for _ in range(sweeps):
        wrong = np.flatnonzero(abs(projected(yx @ w - 1, alpha, most)) > tolerance)
        if not len(wrong):
            break
        for i in rng.permutation(wrong).tolist():
            old = alpha[i]
            alpha[i] = min(max(old - (yx[i] @ w - 1) / squares[i], 0), most[i])  # Hsieh et al., eq. (9)
            w += (alpha[i] - old) * yx[i]
    return LinearSVM(w[:-1].astype(np.float32), float(w[-1] * bias_scale))


def projected(gradient: np.ndarray, alpha: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The dual's gradient without what leads out of [0, most]; 0 everywhere at the solution (Hsieh et al., eq. (8))."""
    at_zero, at_most = np.minimum(gradient, 0), np.maximum(gradient, 0)
    return np.where(alpha <= 0, at_zero, np.where(alpha >= most, at_most, gradient))


def objective(svm: LinearSVM, x: np.ndarray, y: np.ndarray, C: float = 1e-3, positive_weight: float = 2.0,
              bias_scale: float = 10.0) -> float:
    """The sum that training makes small."""
    loss = np.maximum(0, 1 - y * svm.scores(x))
    length = svm.weight.astype(np.float64) @ svm.weight + (svm.bias / bias_scale) ** 2
    return float(length / 2 + C * (np.where(y > 0, positive_weight, 1) * loss).sum())


@dataclasses.dataclass(frozen=True)
class Mining:
    """One retraining: ``seen`` negatives so far, ``kept`` of them in memory, ``support`` within the margin after it."""

    seen: int
    kept: int
    support: int


def train_with_hard_negatives(positives: np.ndarray, pictures: Iterable[np.ndarray], C: float = 1e-3,
                              positive_weight: float = 2.0, retrain_after: int = 2000,
                              **options) -> tuple[LinearSVM, list[Mining]]:
    """Train on positives (P, D) and the hard ones among the negatives of many pictures, (R, D) each.

    One pass over the pictures, after which R-CNN's authors (sec. 2.3) saw no further gain. A picture's negatives that
    score more than HARD join those in memory; whenever ``retrain_after`` have come, the machine is trained anew, and
    those below EASY are forgotten. Before the first training every score is 0, so all are hard. ``options`` are
    ``train_svm``'s. Also returns what each training saw.
    """
    check("train_with_hard_negatives", positives, C)
    D, history = positives.shape[1], []
    svm, kept, new, seen = LinearSVM(np.zeros(D, np.float32), 0.0), np.zeros((0, D), np.float32), [], 0

    def retrain() -> None:
        nonlocal svm, kept
        kept = np.concatenate([kept, *new])
        new.clear()
        x, y = np.concatenate([positives, kept]), np.repeat([1, -1], [len(positives), len(kept)])
        svm = train_svm(x, y, C, positive_weight, **options)
        scores = svm.scores(kept)
        history.append(Mining(seen, len(kept), int((scores > HARD).sum())))
        kept = kept[scores > EASY]

    for negatives in pictures:
        seen += len(negatives)
        new.append(negatives[svm.scores(negatives) > HARD])
        if sum(map(len, new)) >= retrain_after:
            retrain()
    if new or not history:
        retrain()
    return svm, history


def check(function: str, x: np.ndarray, C: float) -> None:
    """``ValueError``, in the name of ``function``, for features that are not finite (N, D) and for C <= 0."""
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"{function}: features must be finite numbers (N, D), got {x.shape}"
                         + ("" if np.isfinite(x).all() else f" with {(~np.isfinite(x)).sum()} that are not finite"))
    if C <= 0:
        raise ValueError(f"{function}: C must be positive, got {C}")
