"""Box regression of R-CNN: from a box's features to the deltas that move it onto its object (Girshick et al., app. C).

    w = argmin sum_i (t_i - w phi(P_i))^2 + lambda |w|^2                                  R-CNN, eq. (5)

for each class and each of the four deltas t (``encode_boxes``), solved in closed form: w = (X'X + lambda I)^-1 X't.
Features and deltas are centered on their means, which amounts to a bias without the penalty lambda: if the features
explain nothing, a box moves by the mean delta.
"""
from __future__ import annotations

import dataclasses

import numpy as np

from .boxes import decode_boxes

LAMBDA = 1000.0  # R-CNN, app. C: "lambda = 1000 based on a validation set"


@dataclasses.dataclass(frozen=True)
class BoxRegressors:
    """One ridge regression per class: weight float32 (K, D, 4), bias float32 (K, 4); zeros for a class without pairs.
    """

    weight: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, t: np.ndarray, labels: np.ndarray, num_classes: int,
            lam: float = LAMBDA) -> BoxRegressors:
        """Fit to pairs of a proposal and an object: features (N, D), deltas (N, 4), the objects' classes (N,).

        R-CNN's pairs have an IoU above 0.6 (app. C).
        """
        if labels.shape != x.shape[:1] or t.shape != (len(x), 4):
            raise ValueError(f"BoxRegressors.fit: needs features (N, D), deltas (N, 4) and labels (N,), got {x.shape}, "
                             f"{t.shape} and {labels.shape}")
        weight, bias = zip(*(ridge(x[labels == k], t[labels == k], lam) for k in range(num_classes)), strict=True)
        return cls(np.stack(weight), np.stack(bias))

    def box_deltas(self, x: np.ndarray, k: int) -> np.ndarray:
        """Return t (R, 4) for features (R, D) of boxes of class k."""
        return x @ self.weight[k] + self.bias[k]

    def boxes(self, x: np.ndarray, proposals: np.ndarray, k: int) -> np.ndarray:
        """Move proposals (R, 4) with features (R, D) onto their objects, taken to be of class k: (R, 4)."""
        return decode_boxes(self.box_deltas(x, k), proposals)


def ridge(x: np.ndarray, t: np.ndarray, lam: float = LAMBDA) -> tuple[np.ndarray, np.ndarray]:
    """Return the weight (D, M) and bias (M,) that predict t (N, M) from x (N, D): R-CNN, eq. (5). Zeros for N = 0.

    (X'X + lambda I)^-1 X' = X' (XX' + lambda I)^-1: the side with the smaller matrix is solved.
    """
    if x.ndim != 2 or t.ndim != 2 or len(x) != len(t):
        raise ValueError(f"ridge: needs features (N, D) and as many targets (N, M), got {x.shape} and {t.shape}")
    if lam <= 0:
        raise ValueError(f"ridge: lambda must be positive, got {lam}")
    (N, D), M = x.shape, t.shape[1]
    if N == 0:
        return np.zeros((D, M), np.float32), np.zeros(M, np.float32)
    x, t = x.astype(np.float64), t.astype(np.float64)
    x_mean, t_mean = x.mean(axis=0), t.mean(axis=0)
    X, T = x - x_mean, t - t_mean
    if D <= N:
        w = np.linalg.solve(X.T @ X + lam * np.eye(D), X.T @ T)  # (D, D) \ (D, M)
    else:
        w = X.T @ np.linalg.solve(X @ X.T + lam * np.eye(N), T)  # (D, N) @ (N, N) \ (N, M)
    return w.astype(np.float32), (t_mean - x_mean @ w).astype(np.float32)
