"""How well a score ranks candidates by the accuracy that transfer really gave them."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError
from tl_jax.stats.intervals import drawn_clusters

RESAMPLES = 1000


class Agreement(NamedTuple):
    """A measure over all candidates with its 95 % bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float


def pearson(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Pearson's linear correlation."""
    from scipy import stats

    return _statistic(stats.pearsonr, scores, accuracies)


def kendall(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Kendall's tau-b: concordant less discordant pairs, with regard to ties."""
    from scipy import stats

    return _statistic(stats.kendalltau, scores, accuracies)


def weighted_tau(scores: np.ndarray, accuracies: np.ndarray) -> float:
    """Kendall's tau in which the best candidates weigh most (Vigna 2015), as You et al. 2021."""
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
    """Each of `MEASURES` between K candidates' scores and accuracies, (K, S) each over S seeds.

    A candidate's value is its mean over seeds. The interval is the percentile bootstrap's over
    clusters of candidates, such as the cuts of one base, which are drawn together, and,
    independently, over seeds; a resample in which nothing differs is left out. `clusters` (K,)
    names each candidate's; without it each is its own. The interval is NaN where there is only one
    cluster. UserError for fewer than three candidates or values that are not finite.
    """
    scores, accuracies = np.asarray(scores, np.float64), np.asarray(accuracies, np.float64)
    if scores.ndim != 2 or scores.shape != accuracies.shape:
        raise UserError(
            f"scores and accuracies are (candidates, seeds); got {scores.shape}, {accuracies.shape}"
        )
    if len(scores) < 3:
        raise UserError(f"a ranking needs 3 candidates at least; got {len(scores)}")
    if not (np.isfinite(scores).all() and np.isfinite(accuracies).all()):
        raise UserError("scores and accuracies must be finite")
    if clusters is None:
        clusters = [str(candidate) for candidate in range(len(scores))]
    drawn = {name: [] for name in MEASURES}
    for one, other in _drawn((scores, accuracies), clusters, resamples):
        for name, measure in MEASURES.items():
            drawn[name].append(measure(one, other))
    found = {}
    for name, measure in MEASURES.items():
        low, high = _interval(np.array(drawn[name] if len(set(clusters)) > 1 else []))
        found[name] = Agreement(measure(scores.mean(1), accuracies.mean(1)), low, high)
    return found


def shares_best(
    scores: Mapping[str, np.ndarray],
    accuracies: np.ndarray,
    *,
    clusters: Sequence[str],
    resamples: int = RESAMPLES,
) -> dict[str, float]:
    """In what share of resamples each score has the highest weighted tau, a tie being shared.

    Of Q scores of the same K candidates over S seeds, (K, S) each, all drawn together as in
    `agreement`. NaN where there is only one cluster, or no resample in which anything differs.
    """
    won, told = dict.fromkeys(scores, 0.0), 0
    resamples = resamples if len(set(clusters)) > 1 else 0
    for *each, reached in _drawn((*scores.values(), accuracies), clusters, resamples):
        found = np.array([weighted_tau(own, reached) for own in each])
        if np.isfinite(found).all():
            told += 1
            for name, own in zip(scores, found == found.max(), strict=True):
                won[name] += own / (found == found.max()).sum()
    return {name: count / told if told else np.nan for name, count in won.items()}


def _drawn(
    several: Sequence[np.ndarray], clusters: Sequence[str], resamples: int
) -> Iterator[list[np.ndarray]]:
    """Means over seeds (k,) of each of several (K, S), for resamples of clusters and of seeds."""
    random = np.random.default_rng(0)  # always the same draws, so that a report can be made again
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
    """NaN where all of one are equal: there is no order to agree with."""
    if np.ptp(scores) == 0 or np.ptp(accuracies) == 0:
        return float("nan")
    with warnings.catch_warnings():
        # Two of three values a rounding apart are as good as constant to scipy.
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(measure(scores, accuracies).statistic)
