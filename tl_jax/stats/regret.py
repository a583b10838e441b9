"""Regret: what a choice among plans loses, against the best plan of each scenario.

Kotthoff 2016 ("Algorithm selection for combinatorial search problems: a survey") and Lindauer et
al. 2019 (the open algorithm selection challenges) measure a chooser between two others: the best
single fixed plan, and the best plan of every scenario, which nobody knows beforehand.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.stats.intervals import RESAMPLES, drawn_clusters
from tl_jax.stats.paired import LEVEL


class Regret(NamedTuple):
    """Regrets of a chooser over scenarios, in the unit of the accuracies."""

    mean: float
    low: float  # of the mean's 95 % bootstrap interval over tasks
    high: float
    worst: float  # mean of the worst tenth of the scenarios
    saved: float  # mean regret of the best fixed plan, less this one's
    saved_low: float
    saved_high: float
    closed: float  # `saved` as a share of the fixed plan's regret; NaN where that has none


def regret(accuracies: np.ndarray, shares: np.ndarray) -> float:
    """Return how much less accurate a choice is than the best plan, over seeds (J, P), J >= 2.

    `shares` (P,) are the chances with which each plan is chosen. The best plan of noisy accuracies
    looks better than it is, so it is found on one half of the seeds and scored on the other, and
    the other way round; of plans that are all worth the same no choice has a regret, on average.
    Seeds whose test splits overlap share some of the luck: that part of the bias stays.
    """
    one, other = accuracies[::2].mean(0), accuracies[1::2].mean(0)
    best = [b[a == a.max()].mean() for a, b in ((one, other), (other, one))]
    return float(np.mean(best) - (one + other) @ shares / 2)


def summarised(
    regrets: Mapping[str, np.ndarray], *, fixed: str, tasks: Sequence[Any]
) -> dict[str, Regret]:
    """Return the regrets (S,) of each chooser in a few numbers; one of them is the `fixed` plan.

    `tasks` (S,) names the task of each scenario. Scenarios of a task are not independent, so the
    bootstrap draws tasks; all choosers share its draws, and with a single task there is no
    interval.
    """
    random = np.random.default_rng(0)  # always the same draws, so that a report is reproducible
    resamples = RESAMPLES if len(set(tasks)) > 1 else 0
    drawn = [drawn_clusters(tasks, random) for _ in range(resamples)]
    return {name: _summary(own, regrets[fixed], drawn) for name, own in regrets.items()}


def _summary(own: np.ndarray, fixed: np.ndarray, drawn: Sequence[np.ndarray]) -> Regret:
    tenth = np.sort(own)[-max(1, len(own) // 10) :]
    saved, most = fixed - own, float(fixed.mean())
    return Regret(
        float(own.mean()),
        *_interval(own, drawn),
        float(tenth.mean()),
        float(saved.mean()),
        *_interval(saved, drawn),
        float(saved.mean() / most) if most > 0 else float("nan"),
    )


def _interval(values: np.ndarray, drawn: Sequence[np.ndarray]) -> tuple[float, float]:
    if not drawn:
        return float("nan"), float("nan")
    means = [values[rows].mean() for rows in drawn]
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)
