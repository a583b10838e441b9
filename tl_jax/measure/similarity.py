"""How alike the representations of two layers are, whatever their bases and their widths.

Both measures take lists of A and of B layers' features, (N, D) each, of the same N examples in the
same order, and give an (A, B) matrix from 0 to 1: `svcca`, `linear_cka`. Neither changes when
features are rotated or scaled. What of a value is chance is said by the same measure where one
side's examples are `shuffled`.
"""

from collections.abc import Sequence

import numpy as np

from tl_jax.errors import UserError

LEAST = 4  # examples that the unbiased estimator needs


def linear_cka(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, batch: int = 256, seed: int = 0
) -> np.ndarray:
    """Linear centred kernel alignment of all pairs of layers, (A, B), in one pass over batches.

    Nguyen, Raghu & Kornblith 2021 (arXiv:2010.15327), equations 2 to 4: means over minibatches of
    the unbiased estimator of HSIC (Song et al. 2012, JMLR 13, equation 5), so that the value does
    not depend on the batches' size. As any unbiased estimate it may be a little below 0. NaN where
    a layer's features are the same for all examples. Examples are shuffled by `seed`, since tasks
    may be in the order of their classes, and each is in one batch.
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
        np.where([np.ptp(layer, axis=0).any() for layer in layers], np.maximum(own, 0), 0)
        for layers, own in ((first, own_first), (second, own_second))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.outer(a, b) > 0, crossed / np.sqrt(np.outer(a, b)), np.nan)


def svcca(
    first: Sequence[np.ndarray], second: Sequence[np.ndarray], *, variance: float = 0.99
) -> np.ndarray:
    """Mean canonical correlation of all pairs of layers, (A, B), on their principal subspaces.

    Raghu et al. 2017 (arXiv:1706.05806), section 2: each layer's directions of most variance, down
    to the share `variance` of it, then canonical correlation analysis, averaged over as many
    correlations as the smaller subspace has. It is 1 for any two subspaces that fill the examples'
    space, so take several times more examples than directions. NaN for constant features.
    """
    _require_same_examples([*first, *second])
    left = [_subspace(layer, variance) for layer in first]
    right = left if second is first else [_subspace(layer, variance) for layer in second]
    found = np.full((len(left), len(right)), np.nan)
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            if min(a.shape[1], b.shape[1]):
                correlations = np.linalg.svd(a.T @ b, compute_uv=False)
                found[i, j] = np.minimum(correlations, 1).mean()
    return found


def shuffled(layers: Sequence[np.ndarray], *, seed: int = 0) -> list[np.ndarray]:
    """The layers' features in another order of the examples, the same one for all layers.

    A measure between one side and the other shuffled is what it gives by chance for features so
    distributed: the null of the permutation tests of the RV coefficient (Josse, Pagès & Husson
    2008, Computational Statistics & Data Analysis 53, 82-91), which is linear CKA with the biased
    estimator, and of canonical correlations (Winkler et al. 2020, NeuroImage 220, 117065).
    """
    order = np.random.default_rng(seed).permutation(_require_same_examples(layers))
    return [layer[order] for layer in layers]


def _grams(layers: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """(A, n, n) inner products between the n examples, 0 on the diagonal."""
    grams = np.empty((len(layers), len(rows), len(rows)))
    for gram, layer in zip(grams, layers, strict=True):
        features = np.asarray(layer[rows], np.float64)
        # The estimator does not see a shift, but float64 would: means are large beside deviations.
        features -= features.mean(0)
        np.matmul(features, features.T, out=gram)
        np.fill_diagonal(gram, 0)
    return grams


def _hsic(k: np.ndarray, l_: np.ndarray | None = None) -> np.ndarray:
    """Unbiased HSIC of (A, n, n) with (B, n, n), diagonals 0: (A, B); of each with itself: (A,)."""
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
    """(N, k) orthonormal: where the examples are along the directions of most variance."""
    features = np.asarray(features, np.float64)
    centred = features - features.mean(0)
    n, d = centred.shape
    # From the smaller matrix of products, in a tenth of the time of the singular values' own way.
    squares, axes = np.linalg.eigh(centred.T @ centred if d < n else centred @ centred.T)
    squares, axes = squares[::-1], axes[:, ::-1]
    kept = squares > max(n, d) * np.finfo(np.float64).eps * np.linalg.norm(features) ** 2
    squares, axes = squares[kept], axes[:, kept]
    if len(squares):
        share = np.cumsum(squares) / squares.sum()
        axes = axes[:, : np.searchsorted(share, variance * (1 - 1e-12)) + 1]
    return np.linalg.qr(centred @ axes)[0] if d < n else axes


def _require_same_examples(layers: Sequence[np.ndarray]) -> int:
    """N; UserError unless all are (N, D) and finite."""
    shapes = [np.shape(layer) for layer in layers]
    if any(len(shape) != 2 or shape[0] != shapes[0][0] for shape in shapes):
        raise UserError(f"layers are compared on the same examples, (N, D) each; got {shapes}")
    for number, layer in enumerate(layers):
        if not np.isfinite(layer).all():
            raise UserError(f"the features of layer {number} are not finite")
    return shapes[0][0]
