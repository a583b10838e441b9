"""Intervals, calibration bins and the worst mistakes, which a page shows beside the metrics."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.stats.metrics import BINS, calibration_error

RESAMPLES = 1000


class Bins(NamedTuple):
    """Predictions binned by confidence; B bins of equal width over [0, 1]."""

    edges: np.ndarray  # (B + 1,)
    count: np.ndarray  # (B,)
    confidence: np.ndarray  # (B,) mean in the bin; NaN if the bin is empty
    accuracy: np.ndarray  # (B,) likewise
    error: float  # expected calibration error; NaN without predictions


def wilson(correct: int, n: int) -> tuple[float, float] | None:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927); None if `n` is 0.

    >>> [f"{bound:.3f}" for bound in wilson(90, 100)]
    ['0.826', '0.945']
    """
    if n == 0:
        return None
    from scipy import stats

    interval = stats.binomtest(correct, n).proportion_ci(0.95, method="wilson")
    return interval.low, interval.high


def of_spearman(value: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of Spearman's correlation of `n` pairs: normal on Fisher's scale,
    with the variance (1 + value^2 / 2) / (n - 3) (Bonett & Wright 2000, Psychometrika 65, p. 23).

    NaN for fewer than four pairs, and for a correlation of NaN.
    """
    if n < 4 or not abs(value) < 1:
        return (value, value) if n > 3 and abs(value) == 1 else (np.nan, np.nan)
    half = 1.959964 * np.sqrt((1 + value**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(value) + np.array([-half, half]))
    return float(low), float(high)


def bootstrap(correct: np.ndarray, weights: np.ndarray) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a weighted accuracy.

    `correct` and `weights` are (N,); None if the weights sum to 0. The draws are always the same,
    so that the page is reproducible.
    """
    if not weights.sum() > 0:
        return None
    random = np.random.default_rng(0)
    figures = np.full(RESAMPLES, np.nan)
    for i in range(RESAMPLES):
        drawn = random.integers(0, len(weights), len(weights))
        if weights[drawn].any():
            figures[i] = np.average(correct[drawn], weights=weights[drawn])
    low, high = np.nanquantile(figures, (0.025, 0.975))
    return float(low), float(high)


def drawn_clusters(clusters: Sequence[Any], random: np.random.Generator) -> np.ndarray:
    """Draw as many clusters as there are, with replacement; return the rows of all of them.

    `clusters` (N,) names the cluster of each row. Rows of a cluster are drawn together, so that a
    bootstrap is right if only the clusters are independent (Davison & Hinkley 1997, "Bootstrap
    Methods and their Application", section 3.8). With few clusters its interval is too narrow.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(member.max()) + 1
    drawn = random.integers(0, count, count)
    return np.concatenate([np.flatnonzero(member == cluster) for cluster in drawn])


def over_seeds(
    values: np.ndarray | Sequence[Any], *, ratio: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (...,) of (..., S), and half their 95 % intervals by Student's t (1908).

    NaNs are left out; the half is NaN if fewer than two values remain. Splits drawn anew from one
    dataset overlap: `ratio`, their n_test / n_train, widens the interval as in `paired.corrected`.
    """
    from scipy import stats

    values = np.asarray(values, np.float64)
    finite = np.isfinite(values)
    n = finite.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(finite, values, 0).sum(-1) / n
        squares = np.where(finite, values - mean[..., None], 0) ** 2
        half = stats.t.ppf(0.975, n - 1) * np.sqrt(squares.sum(-1) / (n - 1) * (1 / n + ratio))
    return mean, half


def known(half: float | np.ndarray) -> float | None:
    """Return half an interval as a table shows it: None for NaN, of too few values."""
    return float(half) if np.isfinite(half) else None


def over_episodes(accuracies: np.ndarray | Sequence[float]) -> tuple[float, float]:
    """Return the mean of accuracies (E,) of episodes, and half its 95 % interval: 1.96 s / sqrt(E).

    It is of the episodes that one could draw from the same examples, with the same base.
    """
    values = np.asarray(accuracies, np.float64)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> Bins:
    """Return confidence and accuracy by bin, and their mean gap, ECE (Guo et al. 2017, eq. 3).

    `confidence` and `correct` are (N,). Confidences that are not finite, as after divergence, are
    left out.
    """
    finite = np.isfinite(confidence)
    confidence, correct = confidence[finite], correct[finite]
    where = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(where, minlength=bins)
    divisor = np.where(count, count, np.nan)
    mean = np.bincount(where, confidence, bins) / divisor
    accuracy = np.bincount(where, correct, bins) / divisor
    error = calibration_error(confidence, correct, bins)
    return Bins(np.linspace(0, 1, bins + 1), count, mean, accuracy, error)


def worst(probabilities: np.ndarray, labels: np.ndarray, *, most: int) -> np.ndarray:
    """Return at most `most` wrong predictions of (N, C), (N,) as rows, the most confident first."""
    confidence = probabilities.max(1, initial=0)
    wrong = np.flatnonzero((probabilities.argmax(1) != labels) & np.isfinite(confidence))
    return wrong[np.argsort(-confidence[wrong], kind="stable")][:most]


def confusions(confusion: np.ndarray, *, most: int) -> list[tuple[int, int, int]]:
    """Return (true, predicted, count) of the commonest mistakes; the rows of (C, C) are true."""
    off = confusion - np.diag(np.diag(confusion))
    order = np.argsort(-off, axis=None, kind="stable")[:most]
    pairs = np.transpose(np.unravel_index(order, off.shape)).tolist()
    return [(t, p, int(off[t, p])) for t, p in pairs if off[t, p]]
