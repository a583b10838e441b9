"""Labels that may be wrong, by confident learning (Northcutt, Jiang & Chuang 2021,
arXiv:1911.00068).

A probe that has not seen an example says how probable each class is. An example counts as class j
where p(j) reaches what is usual for examples labelled j, their mean p(j). Those that count as
another class than their label's are doubtful.
"""

from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError
from tl_jax.measure.probes import linear
from tl_jax.measure.probes.points import in_principal_axes

FOLDS = 5
PENALTIES = linear.L2[8:41:4]  # one a decade, 1e3 to 1e-5


class Doubts(NamedTuple):
    """Examples whose label is doubtful, the most doubtful first, and how many to expect."""

    examples: np.ndarray  # (S,)
    suggested: np.ndarray  # (S,) the class that each counts as
    margins: np.ndarray  # (S,) p(label) - the greatest p of another class; -1 to 1
    counts: np.ndarray  # (C, C) examples by label and by the class they count as
    share: float  # estimated share of wrong labels among all


def held_out(
    features: np.ndarray, labels: np.ndarray, classes: int, *, seed: int = 0
) -> np.ndarray:
    """Return probabilities (N, C) by logistic regression on features (N, D), out of fold.

    Each of five folds is predicted by a probe on the four others; the penalty is the one with the
    least cross-entropy over all folds. UserError for a class with fewer than two examples.
    """
    counts = np.bincount(labels, minlength=classes)
    if counts.min() < 2:
        raise UserError(
            f"class {counts.argmin()} has {counts.min()} examples, but labels are judged by others "
            "of their class: 2 or more"
        )
    folds = _folds(labels, seed)
    queries = [np.flatnonzero(folds == fold) for fold in range(FOLDS)]
    queries = [rows for rows in queries if len(rows)]
    taught = [np.setdiff1d(np.arange(len(labels)), rows) for rows in queries]
    sets = [
        in_principal_axes(features[own], features[rows], labels=labels[own], classes=classes)
        for own, rows in zip(taught, queries, strict=True)
    ]
    paths = linear.paths("logistic", sets, [PENALTIES] * len(sets))
    outputs = [path.outputs(points.query) for path, points in zip(paths, sets, strict=True)]
    by_penalty = np.concatenate(outputs, axis=1)  # (G, N, K), in the order of the queries
    order = np.concatenate(queries)
    losses = linear.cross_entropy(by_penalty, labels[order]).mean(1)
    best = by_penalty[losses.argmin()]
    if best.shape[1] == 1:
        best = np.concatenate([np.zeros_like(best), best], axis=1)
    probabilities = np.empty(best.shape)
    probabilities[order] = np.exp(best - np.logaddexp.reduce(best, axis=1, keepdims=True))
    return probabilities


def _folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold (N,) of each example: those of a class are spread evenly over the folds."""
    rng, folds = np.random.default_rng(seed), np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        folds[rows] = (np.arange(len(rows)) + rng.integers(FOLDS)) % FOLDS
    return folds


def confident(probabilities: np.ndarray, labels: np.ndarray) -> Doubts:
    """Return the doubtful ones among labels (N,), by out-of-fold probabilities (N, C).

    The counts are the paper's confident joint (equation 1). For `share` each row of it is scaled to
    the number of examples with that label (equation 3). The doubtful examples are those off its
    diagonal, ranked by normalised margin (section 3.2). Every class needs an example.
    """
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    usual = np.array([probabilities[labels == c, c].mean() for c in range(classes)])
    reached = np.where(probabilities >= usual, probabilities, -np.inf)
    counted, best = np.isfinite(reached).any(1), reached.argmax(1)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels[counted], best[counted]), 1)
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    margins = probabilities[rows, labels] - others.max(1)
    wrong = np.flatnonzero(counted & (best != labels))
    wrong = wrong[np.argsort(margins[wrong], kind="stable")]
    sizes, sums = np.bincount(labels, minlength=classes), counts.sum(1)
    right = np.where(sums > 0, np.diag(counts) / np.maximum(sums, 1), 1)
    share = 1 - (sizes * right).sum() / len(labels)
    return Doubts(wrong, best[wrong], margins[wrong], counts, float(share))
