"""Agreement between a score of candidates and their accuracy after transfer."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError
from tl_jax.stats.intervals import drawn_clusters

RESAMPLES = 1000


class Agreement(NamedTuple):
    """A measure over all candidates with its 95 % bootstrap interval; NaN if undefined."""

    value: float
    low: float
    high: float


def pearson(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Return Pearson's linear correlation."""
    from scipy import stats

    return _statistic(stats.pearsonr, scores, accuracies)


def kendall(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Return Kendall's tau-b: concordant minus discordant pairs, corrected for ties."""
    from scipy import stats

    return _statistic(stats.kendalltau, scores, accuracies)


def weighted_tau(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Return weighted Kendall's tau (Vigna 2015), where the best count most, as You et al. 2021."""
    from scipy import stats

    return _statistic(stats.weightedtau, scores, accuracies)


MEASURES = {"Pearson": pearson, "Kendall": kendall, "weighted tau": weighted_tau}


def agreement(
    *,
    scores: np.ndarray,
    accuracies: np.ndarray,
    clusters: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, Agreement]:
    """Return `MEASURES` between scores and accuracies, (K, S) each, of K candidates over S seeds.

    A candidate's value is its mean over seeds. The interval is a percentile bootstrap over clusters
    of candidates, such as the cuts of one base, and independently over seeds. `clusters` (K,) names
    the cluster of each candidate; by default each is a cluster of its own. Resamples of equal
    values are left out; with a single cluster the interval is NaN. UserError for fewer
    than three candidates or values that are not finite.
    """
    scores, accuracies = np.asarray(scores, np.float64), np.asarray(accuracies, np.float64)
    if scores.ndim != 2 or scores.shape != accuracies.shape:
        raise UserError(
            "scores and accuracies must be (candidates, seeds); "
            f"got {scores.shape} and {accuracies.shape}"
        )
    if len(scores) < 3:
        raise UserError(f"a ranking needs at least 3 candidates; got {len(scores)}")
    if not (np.isfinite(scores).all() and np.isfinite(accuracies).all()):
        raise UserError("scores and accuracies must be finite")
    if clusters is None:
        clusters = [str(candidate) for candidate in range(len(scores))]
    drawn = {name: [] for name in MEASURES}
    for one, other in _drawn((scores, accuracies), clusters, resamples):
        for name, measure in MEASURES.items():
            drawn[name].append(measure(one, other))
    agreements = {}
    for name, measure in MEASURES.items():
        low, high = _interval(np.array(drawn[name] if len(set(clusters)) > 1 else []))
        agreements[name] = Agreement(measure(scores.mean(1), accuracies.mean(1)), low, high)
    return agreements


def shares_best(
    scores: Mapping[str, np.ndarray],
    accuracies: np.ndarray,
    *,
    clusters: Sequence[str],
    resamples: int = RESAMPLES,
) -> dict[str, float]:
    """Return the share of resamples where each score has the highest weighted tau.

    The scores are (K, S) each, of the same K candidates over S seeds, and are drawn together as in
    `agreement`; scores that tie share a resample. NaN if there is a single cluster, or if all
    values are equal in every resample.
    """
    won, decided = dict.fromkeys(scores, 0.0), 0
    resamples = resamples if len(set(clusters)) > 1 else 0
    for *each, reached in _drawn((*scores.values(), accuracies), clusters, resamples):
        taus = np.array([weighted_tau(values, reached) for values in each])
        if np.isfinite(taus).all():
            decided += 1
            for name, best in zip(scores, taus == taus.max(), strict=True):
                won[name] += best / (taus == taus.max()).sum()
    return {name: count / decided if decided else np.nan for name, count in won.items()}


def _drawn(
    several: Sequence[np.ndarray], clusters: Sequence[str], resamples: int
) -> Iterator[list[np.ndarray]]:
    """Yield, by resample of clusters and seeds, means over seeds (k,) of each of several (K, S)."""
    random = np.random.default_rng(0)  # always the same draws, so that a report is reproducible
    for _ in range(resamples):
        seeds = random.integers(0, several[0].shape[1], several[0].shape[1])
        rows = drawn_clusters(clusters, random)
        yield [values[rows][:, seeds].mean(1) for values in several]


def _interval(values: np.ndarray) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _statistic(measure: Callable, scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Return the measure; NaN if all scores or all accuracies are equal: they have no order."""
    if np.ptp(scores) == 0 or np.ptp(accuracies) == 0:
        return float("nan")
    with warnings.catch_warnings():
        # scipy warns of values that differ by rounding only.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(measure(scores, accuracies).statistic)
