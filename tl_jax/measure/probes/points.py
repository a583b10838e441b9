"""Labelled points and queries in principal axes, without loss: as many columns as the rank."""

from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-12  # share of the largest eigenvalue; below it lies the rounding of float32


class Points(NamedTuple):
    """N examples to learn from and M to classify, in R centred coordinates, uncorrelated.

    Probes that do not penalise the intercept, and probes that use distances, give the same answers
    as on the features. The part of a query outside the examples' span is known by its length only.
    """

    train: np.ndarray  # (N, R) float64
    query: np.ndarray  # (M, R)
    outside: np.ndarray  # (M,) squared length of each query's part outside the span
    variances: np.ndarray  # (R,) of the columns of `train`, in descending order
    labels: np.ndarray  # (N,) 0 to C-1, each class at least once
    weights: np.ndarray  # (N,) all above 0; their sum is 1
    classes: int  # C


def in_principal_axes(
    train: np.ndarray,
    query: np.ndarray,
    *,
    labels: np.ndarray,
    classes: int,
    weights: np.ndarray | None = None,
) -> Points:
    """Return the points of features (N, D), queries (M, D), labels and weights (N,).

    R is at most min(N - 1, D). The axes come from the eigenvectors of the smaller of the two
    products, D x D or N x N.
    """
    train, query = np.asarray(train, np.float64), np.asarray(query, np.float64)
    weights = np.ones(len(train)) if weights is None else np.asarray(weights, np.float64)
    weights = weights / weights.sum()
    mean, power = weights @ train, weights @ (train**2).sum(1)
    train, query = train - mean, query - mean
    scaled = np.sqrt(weights)[:, None] * train
    n, d = train.shape
    values, vectors = np.linalg.eigh(scaled.T @ scaled if d <= n else scaled @ scaled.T)
    # Centring leaves constant features with the rounding error of float64 at their size.
    least = TOLERANCE * max(values[-1], TOLERANCE * power)
    significant = np.flatnonzero(values > least)[::-1]
    values, vectors = values[significant], vectors[:, significant]
    axes = vectors if d <= n else scaled.T @ vectors / np.sqrt(values)
    turned = query @ axes
    outside = np.maximum((query**2).sum(1) - (turned**2).sum(1), 0)
    return Points(train @ axes, turned, outside, values, labels, weights, classes)
