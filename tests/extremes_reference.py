"""Softmax, its losses and the normalizations by their definitions, with nothing lost: what ``extremes.py`` expects.

Sums are ``math.fsum``'s, which rounds once; a probability that is almost 1 is never subtracted from 1.
Each returns values and the size of their terms.
"""
from __future__ import annotations

import math

import numpy as np

LONG = np.longdouble


def softmax_parts(x: list[float]) -> tuple[list[float], list[float], float]:
    """p, 1 - p, and log(sum of exp(x - max)), of one vector."""
    largest = max(x)
    e = [math.exp(v - largest) for v in x]
    first = e.index(1.0)
    rest = [math.fsum(v for j, v in enumerate(e) if j != k) for k in range(len(e))]  # of the others
    total = 1 + rest[first]
    return [v / total for v in e], [r / total for r in rest], math.log1p(rest[first])


def softmax(x: list[float], gy: list[float]) -> tuple[list, list, list, list]:
    """p and its gradient, p_k sum_j p_j (gy_k - gy_j); and the terms of both."""
    p, _, _ = softmax_parts(x)
    K = range(len(x))
    terms = [[p[k] * p[j] * (gy[k] - gy[j]) for j in K] for k in K]
    return p, [math.fsum(t) for t in terms], [0.0] * len(x), [math.fsum(map(abs, t)) for t in terms]


def log_softmax(x: list[float], gy: list[float]) -> tuple[list, list, list, list]:
    """x - max - log(sum) and its gradient, gy_k (1 - p_k) - p_k sum of the other gy; and the terms of both."""
    p, q, log_sum = softmax_parts(x)
    K = range(len(x))
    terms = [[gy[k] * q[k], *(-p[k] * gy[j] for j in K if j != k)] for k in K]
    y = [v - max(x) - log_sum for v in x]
    return y, [math.fsum(t) for t in terms], [0.0] * len(x), [math.fsum(map(abs, t)) for t in terms]


def cross_entropy(x: list[float], target: int) -> tuple[float, list[float]]:
    """The loss of one pixel, and its gradient p - onehot."""
    p, q, log_sum = softmax_parts(x)
    return log_sum + (max(x) - x[target]), [-q[k] if k == target else p[k] for k in range(len(x))]


def batch_norm(x, w, b, gy, eps: float = 1e-5) -> tuple[list, list]:
    """[y, gx, gw, gb] of a matrix (P, C) in training, and their terms: a column's deviation counts as 1."""
    x, w, b, gy = (np.asarray(v, LONG) for v in (x, w, b, gy))
    P = len(x)
    centered = x - x.sum(axis=0) / P
    centered = centered - centered.sum(axis=0) / P
    inverse = 1 / np.sqrt((centered * centered).sum(axis=0) / P + eps)
    n = centered * inverse
    gb, gw, a = gy.sum(axis=0), (gy * n).sum(axis=0), w * inverse
    gx = a * (gy - gb / P - n * gw / P)
    gb_terms, gw_terms = abs(gy).sum(axis=0), abs(gy * n).sum(axis=0)
    gx_terms = abs(a) * (abs(gy) + gb_terms / P + abs(n) * gw_terms / P)
    terms = [abs(n * w) + abs(w) + abs(b), gx_terms, gw_terms, gb_terms]
    return [n * w + b, gx, gw, gb], terms


def local_response_norm(x, gy, size: int, alpha: float, beta: float, k: float) -> tuple[list, list]:
    """[y, gx] of a matrix (P, C), and their terms."""
    x, gy = np.asarray(x, LONG), np.asarray(gy, LONG)
    C = x.shape[1]
    near = [range(max(0, i - size // 2), min(C, i + (size - 1) // 2 + 1)) for i in range(C)]
    d = np.stack([k + LONG(alpha) / size * (x[:, list(r)] ** 2).sum(axis=1) for r in near], axis=1)
    direct = gy * d ** -LONG(beta)
    across = [[(i, 2 * LONG(beta) * alpha / size * direct[:, i] * x[:, i] / d[:, i] * x[:, j])
               for i in range(C) if j in near[i]] for j in range(C)]
    minus = np.stack([sum(t for _, t in column) for column in across], axis=1)
    terms = np.stack([sum(abs(t) for _, t in column) for column in across], axis=1)
    return [x * d ** -LONG(beta), direct - minus], [np.zeros_like(x), abs(direct) + terms]
