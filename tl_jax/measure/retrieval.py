"""Image search with off-the-shelf features, and its quality.

As in Babenko et al. 2014 (arXiv:1404.1777) and Sharif Razavian et al. 2014 (arXiv:1403.6382), the
features of a layer are scaled to unit length, optionally whitened, and compared by their cosines.
"""

from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError
from tl_jax.stats.representation import unit

BLOCK = 256  # queries that are compared with the whole gallery at a time


class Whitening(NamedTuple):
    """A transformation of features (N, D) that gives them equal variance along K principal axes."""

    mean: np.ndarray  # (D,)
    axes: np.ndarray  # (D, K), each divided by the standard deviation along it


class Quality(NamedTuple):
    """How well images find others of their class; a mean over images whose class has others."""

    average_precision: float
    recall: dict[int, float]  # k: share of queries that find their class among the first k
    queries: int


def whitening(gallery: np.ndarray, dimensions: int) -> Whitening:
    """Learn PCA-whitening on the gallery (N, D) (Jégou & Chum 2012, section 3).

    It keeps `dimensions`, or as many as the gallery's rank if that is less. UserError unless they
    are fewer than N - 1: with N - 1, any N features in general position are equally far apart.
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
    first = slice(min(dimensions, rank))
    return Whitening(mean, axes[first].T / (spread[first] / np.sqrt(n - 1)))


def whitened(features: np.ndarray, fitted: Whitening) -> np.ndarray:
    """Return whitened features (N, K) of features (N, D), of unit length again."""
    return unit((features - fitted.mean) @ fitted.axes)


def similarities(
    *, queries: np.ndarray, gallery: np.ndarray, expand: int = 0, own: np.ndarray | None = None
) -> np.ndarray:
    """Return the cosines (Q, N) of unit-length queries (Q, D) and gallery (N, D).

    Each query is first averaged with its `expand` nearest images (average query expansion, Chum et
    al. 2007, section 4.1). `own` (Q,) is each query's index in the gallery; its cosine is -inf.
    """
    cosines = _without(queries @ gallery.T, own)
    if not expand:
        return cosines
    if not 0 < expand < gallery.shape[0]:
        raise UserError(
            f"expanding by {expand} neighbours in a gallery of {len(gallery)}: take fewer"
        )
    nearest = np.argpartition(-cosines, expand - 1, axis=1)[:, :expand]
    averaged = unit(queries + gallery[nearest].sum(1))
    return _without(averaged @ gallery.T, own)


def _without(cosines: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    if own is not None:
        cosines[np.arange(len(cosines)), own] = -np.inf
    return cosines


def average_precision(relevant: np.ndarray) -> np.ndarray:
    """Return average precision (Q,); `relevant` (Q, N) tells it of each ranked image, best first.

    It is the mean, over the relevant images, of the precision down to each; NaN if none is.
    """
    relevant = np.asarray(relevant, bool)
    precision = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
    with np.errstate(invalid="ignore"):
        return (precision * relevant).sum(1) / relevant.sum(1)


def recall_at(relevant: np.ndarray, k: int) -> np.ndarray:
    """Return (Q,) whether any of the first `k` images is relevant, which metric learning counts.

    Oh Song et al. 2016 (arXiv:1511.06452), section 6. `relevant` (Q, N) is as in
    `average_precision`; NaN if no image is relevant.
    """
    relevant = np.asarray(relevant, bool)
    return np.where(relevant.any(1), relevant[:, :k].any(1), np.nan)


def leave_one_out(
    features: np.ndarray, labels: np.ndarray, *, expand: int = 0, at: tuple[int, ...] = (1, 5, 10)
) -> Quality:
    """Return how well each of unit-length (N, D) finds its label (N,) among all others."""
    labels = np.asarray(labels)
    if not (np.bincount(labels) > 1).any():
        raise UserError("no class of the gallery has two images, so none can find another")
    precisions, recalls = [], {k: [] for k in at}
    for first in range(0, len(labels), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(labels)))
        cosines = similarities(queries=features[rows], gallery=features, expand=expand, own=rows)
        ranked = np.argsort(-cosines, axis=1, kind="stable")[:, :-1]  # the query itself is last
        relevant = labels[ranked] == labels[rows, None]
        precisions.append(average_precision(relevant))
        for k in at:
            recalls[k].append(recall_at(relevant, k))
    precisions = np.concatenate(precisions)
    return Quality(
        float(np.nanmean(precisions)),
        {k: float(np.nanmean(np.concatenate(recall))) for k, recall in recalls.items()},
        int(np.isfinite(precisions).sum()),
    )
