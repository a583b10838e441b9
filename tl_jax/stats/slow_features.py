"""Slow feature analysis: the linear features of a signal that change least over time.

Wiskott & Sejnowski 2002, Slow Feature Analysis: Unsupervised Learning of Invariances (Neural
Computation 14).
"""

from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError, takes_whole


class Slow(NamedTuple):
    """Slow features: uncorrelated, of mean 0 and variance 1, the slowest first."""

    features: np.ndarray  # (T, K) of the signal
    mean: np.ndarray  # (D,); features of other values are (x - mean) @ weights
    weights: np.ndarray  # (D, K)
    delta: np.ndarray  # (K,) mean squared change from one moment to the next


def slow_features(x: np.ndarray, count: int | None = None) -> Slow:
    """Return the `count` slowest features of x (T, D), all of its rank if None.

    x is whitened; among the features of variance 1 the least eigenvalues of the covariance of their
    differences belong to the slowest. Directions in which x does not vary are left out. For what is
    no linear function of x, give products of its columns as further ones. UserError for fewer than
    three moments, and for a signal that is constant.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) < 3:
        raise UserError(f"slow features are of a signal (T, D) of 3 moments or more; got {x.shape}")
    mean = x.mean(0)
    _, size, axes = np.linalg.svd(x - mean, full_matrices=False)
    kept = size > size.max() * max(x.shape) * np.finfo(np.float64).eps
    if not kept.any():
        raise UserError("slow features: the signal does not change")
    if count is not None:
        takes_whole(count, "count=", 1, int(kept.sum()))
    whitening = axes[kept].T / (size[kept] / np.sqrt(len(x)))
    change = np.diff((x - mean) @ whitening, axis=0)
    delta, turned = np.linalg.eigh(change.T @ change / len(change))  # the least first
    weights = (whitening @ turned)[:, :count]
    return Slow((x - mean) @ weights, mean, weights, delta[:count])
