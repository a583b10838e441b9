"""Similarity of the representations of two layers, whatever their bases and widths.

The measures `linear_cka` and `svcca` take the features of A and of B layers, (N, D) each, for the
same N examples in the same order, and return an (A, B) matrix of values from 0 to 1. They do not
change when features are rotated or scaled. To see how much of a value is chance, measure again with
one side's examples `shuffled`.
"""

from collections.abc import Sequence

import numpy as np

from tl_jax.errors import UserError

LEAST = 4  # examples that the unbiased estimator needs


def linear_cka(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, batch: int = 256, seed: int = 0
) -> np.ndarray:
    """Return linear centred kernel alignment (A, B) of all pairs of layers, by minibatches.

    Nguyen, Raghu & Kornblith 2021 (arXiv:2010.15327), equations 2 to 4: means over minibatches of
    the unbiased estimator of HSIC (Song et al. 2012, JMLR 13, equation 5), so that the value does
    not depend on the batch size. Like any unbiased estimate it may be a little below 0. NaN if a
    layer's features are the same for all examples. Each example is in one batch; `seed` shuffles
    them, because tasks may be sorted by class.

    >>> layer = np.random.default_rng(0).normal(size=(64, 3))
    >>> other = 2 * layer[:, ::-1]  # neither the features' order nor their scale counts
    >>> linear_cka([layer], [other]).round(6).tolist()
    [[1.0]]
    """
    n = _require_same_examples([*first, *second])
    if n < LEAST or batch < LEAST:
        raise UserError(f"CKA needs {LEAST} examples in a batch; got {n} in batches of {batch}")
    order = np.random.default_rng(seed).permutation(n)
    crossed, own_first, own_second = 0.0, 0.0, 0.0
    for rows in np.array_split(order, max(1, round(n / batch))):
        k, l_ = _grams(first, rows), _grams(second, rows)
        crossed = crossed + _hsic(k, l_)
        own_first = own_first + _hsic(k)
        own_second = own_second + _hsic(l_)
    a, b = (
        np.where([np.ptp(layer, axis=0).any() for layer in layers], np.maximum(hsic, 0), 0)
        for layers, hsic in ((first, own_first), (second, own_second))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.outer(a, b) > 0, crossed / np.sqrt(np.outer(a, b)), np.nan)


def svcca(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, variance: float = 0.99
) -> np.ndarray:
    """Return the mean canonical correlation (A, B) of all pairs of layers' principal subspaces.

    Raghu et al. 2017 (arXiv:1706.05806), section 2: take each layer's directions of most variance
    until they hold the share `variance`, then average the canonical correlations, as many as the
    smaller subspace has dimensions. The value is 1 for any two subspaces that fill the examples'
    space, so take several times more examples than directions. It is NaN for constant features.
    """
    _require_same_examples([*first, *second])
    left = [_subspace(layer, variance) for layer in first]
    right = left if second is first else [_subspace(layer, variance) for layer in second]
    means = np.full((len(left), len(right)), np.nan)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            if min(a.shape[1], b.shape[1]):
                correlations = np.linalg.svd(a.T @ b, compute_uv=False)
                means[i, j] = np.minimum(correlations, 1).mean()
    return means


def shuffled(layers: Sequence[np.ndarray], *, seed: int = 0) -> list[np.ndarray]:
    """Return the layers' features with the examples in another order, the same for all layers.

    A measure between one side and the shuffled other side is its chance level for features of these
    distributions. It is the null of the permutation tests of the RV coefficient (Josse, Pagès &
    Husson 2008, Computational Statistics & Data Analysis 53, 82-91), which is linear CKA with the
    biased estimator, and of canonical correlations (Winkler et al. 2020, NeuroImage 220, 117065).
    """
    order = np.random.default_rng(seed).permutation(_require_same_examples(layers))
    return [layer[order] for layer in layers]


def _grams(layers: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Return inner products (A, n, n) between the n examples, with 0 on the diagonal."""
    grams = np.empty((len(layers), len(rows), len(rows)))
    for gram, layer in zip(grams, layers, strict=True):
        features = np.asarray(layer[rows], np.float64)
        # A shift does not change the estimator, but large means would cost precision.
        features -= features.mean(0)
        np.matmul(features, features.T, out=gram)
        np.fill_diagonal(gram, 0)
    return grams


def _hsic(k: np.ndarray, l_: np.ndarray | None = None) -> np.ndarray:
    """Return unbiased HSIC (A, B) of (A, n, n) with (B, n, n), or (A,) of each with itself."""
    n = k.shape[1]
    rows = k.sum(2)  # (A, n)
    if l_ is None:
        trace, total, mixed = (k**2).sum((1, 2)), rows.sum(1) ** 2, (rows**2).sum(1)
    else:
        others = l_.sum(2)  # (B, n)
        trace = k.reshape(len(k), -1) @ l_.reshape(len(l_), -1).T
        total = np.outer(rows.sum(1), others.sum(1))
        mixed = rows @ others.T
    return (trace + total / ((n - 1) * (n - 2)) - 2 * mixed / (n - 2)) / (n * (n - 3))


def _subspace(features: np.ndarray, variance: float) -> np.ndarray:
    """Return the examples along the directions of most variance, as orthonormal columns (N, k)."""
    features = np.asarray(features, np.float64)
    centred = features - features.mean(0)
    n, d = centred.shape
    # Eigenvectors of the smaller matrix of products take a tenth of the time of an SVD.
    squares, axes = np.linalg.eigh(centred.T @ centred if d < n else centred @ centred.T)
    squares, axes = squares[::-1], axes[:, ::-1]
    significant = squares > max(n, d) * np.finfo(np.float64).eps * np.linalg.norm(features) ** 2
    squares, axes = squares[significant], axes[:, significant]
    if len(squares):
        share = np.cumsum(squares) / squares.sum()
        axes = axes[:, : np.searchsorted(share, variance * (1 - 1e-12)) + 1]
    return np.linalg.qr(centred @ axes)[0] if d < n else axes


def _require_same_examples(layers: Sequence[np.ndarray]) -> int:
    """Return N; UserError unless all layers are (N, D) and finite."""
    shapes = [np.shape(layer) for layer in layers]
    if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise UserError(
            f"layers must have the same examples to be compared, (N, D) each; got {shapes}"
        )
    for number, layer in enumerate(layers):
        if not np.isfinite(layer).all():
            raise UserError(f"the features of layer {number} are not finite")
    return shapes[0][0]
