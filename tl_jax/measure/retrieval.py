"""Image search with features off the shelf, and how good it is.

As in Babenko et al. 2014 (arXiv:1404.1777) and Sharif Razavian et al. 2014 (arXiv:1403.6382): the
features of a layer, of unit length, perhaps whitened, compared by their cosines.
"""

from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError

BLOCK = 256  # queries whose similarities to the whole gallery are held at a time


class Whitening(NamedTuple):
    """What whitens features (N, D): they vary alike along each of K principal axes."""

    mean: np.ndarray  # (D,)
    axes: np.ndarray  # (D, K), divided by the deviation along each


class Quality(NamedTuple):
    """How well the images of a class find each other, a mean over the images that have a fellow."""

    average_precision: float
    recall: dict[int, float]  # k: share of the queries with a fellow among the first k
    queries: int


def unit(features: np.ndarray) -> np.ndarray:
    """Rows (N, D) at length 1, as float32; what is all zero stays so."""
    features = np.asarray(features, np.float32)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)


def whitening(gallery: np.ndarray, dimensions: int) -> Whitening:
    """PCA-whitening learned on the gallery (N, D) (Jégou & Chum 2012, section 3).

    To `dimensions`, or to the rank of the gallery if that is less. UserError unless they are fewer
    than N - 1: with as many, any N features in general position are equally far from each other.
    """
    n = len(gallery)
    if not 0 < dimensions < n - 1:
        raise UserError(
            f"whitening to {dimensions} dimensions: take 1 or more, and fewer than {n - 1} for a "
            f"gallery of {n} images (far fewer, or all images look alike)"
        )
    mean = gallery.mean(0, dtype=np.float64)
    centred = gallery - mean
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    rank = np.count_nonzero(spread > spread[0] * max(centred.shape) * np.finfo(np.float32).eps)
    if not rank:
        raise UserError("whitening: all images of the gallery have the same features")
    kept = slice(min(dimensions, rank))
    return Whitening(mean, axes[kept].T / (spread[kept] / np.sqrt(n - 1)))


def whitened(features: np.ndarray, fitted: Whitening) -> np.ndarray:
    """(N, D) -> (N, K), of unit length again."""
    return unit((features - fitted.mean) @ fitted.axes)


def similarities(
    *, queries: np.ndarray, gallery: np.ndarray, expand: int = 0, own: np.ndarray | None = None
) -> np.ndarray:
    """Cosines (Q, N) of unit-length queries (Q, D) and gallery (N, D).

    `expand`: each query is first averaged with its nearest so many (average query expansion, Chum
    et al. 2007, section 4.1). `own` (Q,) is where in the gallery each query itself is: -inf there.
    """
    found = _without(queries @ gallery.T, own)
    if not expand:
        return found
    if not 0 < expand < gallery.shape[0]:
        raise UserError(
            f"expanding by {expand} neighbours in a gallery of {len(gallery)}: take fewer"
        )
    nearest = np.argpartition(-found, expand - 1, axis=1)[:, :expand]
    averaged = unit(queries + gallery[nearest].sum(1))
    return _without(averaged @ gallery.T, own)


def _without(found: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    if own is not None:
        found[np.arange(len(found)), own] = -np.inf
    return found


def average_precision(relevant: np.ndarray) -> np.ndarray:
    """(Q,) from whether each ranked image (Q, N), best first, is relevant; NaN where none is.

    The mean over the relevant images of the precision down to each.
    """
    relevant = np.asarray(relevant, bool)
    precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
    with np.errstate(invalid="ignore"):
        return (precision * relevant).sum(1) / relevant.sum(1)


def recall_at(relevant: np.ndarray, k: int) -> np.ndarray:
    """(Q,) whether one of the first `k` is relevant, as metric learning counts: (Q, N) as above.

    Oh Song et al. 2016 (arXiv:1511.06452), section 6. NaN where none is relevant.
    """
    relevant = np.asarray(relevant, bool)
    return np.where(relevant.any(1), relevant[:, :k].any(1), np.nan)


def leave_one_out(
    features: np.ndarray, labels: np.ndarray, *, expand: int = 0, at: tuple[int, ...] = (1, 5, 10)
) -> Quality:
    """How well each of unit-length (N, D) finds the others of its label (N,) among all others."""
    labels = np.asarray(labels)
    if not (np.bincount(labels) > 1).any():
        raise UserError("no class of the gallery has two images, so that one could find the other")
    precisions, recalls = [], {k: [] for k in at}
    for first in range(0, len(labels), BLOCK):
        own = np.arange(first, min(first + BLOCK, len(labels)))
        found = similarities(queries=features[own], gallery=features, expand=expand, own=own)
        ranked = np.argsort(-found, axis=1, kind="stable")[:, :-1]  # the query itself is last
        relevant = labels[ranked] == labels[own, None]
        precisions.append(average_precision(relevant))
        for k in at:
            recalls[k].append(recall_at(relevant, k))
    precisions = np.concatenate(precisions)
    return Quality(
        float(np.nanmean(precisions)),
        {k: float(np.nanmean(np.concatenate(found))) for k, found in recalls.items()},
        int(np.isfinite(precisions).sum()),
    )
