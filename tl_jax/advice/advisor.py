"""Expected gains of plans on a new task, from its landmarks and from scenarios that were measured.

What a cheap plan will reach on test is first of all what it has on validation. Another plan is
expected to be as far from the cheap plans' mean as elsewhere. Kriging (Rasmussen & Williams 2006,
chapter 2) corrects both: by their mean error over all tasks, moved towards the errors in scenarios
with similar landmarks. Far from all of them the mean remains, and the interval is at its widest.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tl_jax.advice.grid import FIRST, Grid
from tl_jax.stats.paired import Estimate
from tl_jax.stats.verdict import CANNOT_TELL, verdicts

# Variance of the noise over that of the signal in the gains; with inf landmarks count for nothing.
NOISES = (0.1, 0.3, 1.0, 3.0, np.inf)
LEAST_SCALE = 0.1  # of a landmark: one that is the same in all scenarios does not count without end
RUNS = 3  # plans at most whose runs would settle what cannot be told
RECOMMEND = "recommend"


class Advisor(NamedTuple):
    """What a grid teaches; P plans, S scenarios."""

    grid: Grid
    noise: float  # of NOISES: what predicts tasks best that were left out
    misses: np.ndarray  # (S, P) errors of these predictions, each over its `spread`


class Expected(NamedTuple):
    """A plan's gain over the reference that is to be expected on a task."""

    plan: str
    gain: Estimate  # `count` is the number of tasks that it rests on


class Advice(NamedTuple):
    """Plans for a task, the best first."""

    reference: str  # the cheap plan that is best on validation
    ranked: list[Expected]
    choice: str  # the plan to take: the recommended one, or the reference
    verdict: str  # recommend the choice, or cannot tell whether another plan is better
    settle: tuple[str, ...]  # plans whose runs would settle what cannot be told
    # From 0, a scenario unlike all that were measured, or landmarks that do not help: its gains are
    # the plans' means; to 1, one that the landmarks tell all about.
    likeness: float


def fit(grid: Grid) -> Advisor:
    """Return the advisor whose `noise` best predicts each task of the grid from the others.

    All scenarios of a task are left out together. From a single task nothing can be left out: then
    landmarks count for nothing, and no gain has an interval.
    """
    if len(set(grid.tasks)) == 1:
        return Advisor(grid, np.inf, np.full(grid.means.shape, np.nan))
    tried = []
    for noise in NOISES:
        misses, spread = np.empty(grid.means.shape), np.empty(len(grid.scenarios))
        for task in set(grid.tasks):
            seen, own = grid.divided(task)
            predicted, spread[own] = predict(seen, noise, grid.landmarks[own])
            missed = grid.means[own] - predicted
            misses[own] = missed - missed.mean(1, keepdims=True)  # only differences are told
        tried.append((float(np.square(misses).sum()), noise, misses / spread[:, None]))
    _, noise, misses = min(tried, key=lambda one: (one[0], -one[1]))
    return Advisor(grid, noise, misses)


def predict(grid: Grid, noise: float, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return accuracies (N, P), whose differences are what counts, and their relative spread (N,),
    for landmarks (N, D) of new scenarios.
    """
    first = expected(grid, landmarks)
    errors = grid.means - expected(grid, grid.landmarks)
    mean = (_shares(grid)[:, None] * errors).sum(0)
    if np.isinf(noise):
        return first + mean, np.ones(len(landmarks))
    scale = np.maximum(grid.landmarks.std(0), LEAST_SCALE)
    known, new = grid.landmarks / scale, landmarks / scale
    apart = _distances(known, known)
    width = np.median(apart[apart > 0]) if (apart > 0).any() else 1.0
    near = np.exp(-_distances(new, known) / width)  # (N, S)
    among = np.exp(-apart / width) + noise * np.eye(len(known))
    weights = np.linalg.solve(among, near.T).T
    corrected = first + mean + weights @ (errors - mean)
    return corrected, np.sqrt(1 + noise - (weights * near).sum(1))


def expected(grid: Grid, landmarks: np.ndarray) -> np.ndarray:
    """Return the accuracies (N, P) that landmarks (N, D) alone let one expect: of a cheap plan its
    own on validation, of the others the mean of these.
    """
    measured = landmarks[:, FIRST:]
    found = np.tile(measured.mean(1, keepdims=True), len(grid.plans))
    for place, plan in enumerate(grid.cheap):
        if plan in grid.plans:
            found[:, grid.plans.index(plan)] = measured[:, place]
    return found


def _shares(grid: Grid) -> np.ndarray:
    """Return weights (S,) of the scenarios, with which each task counts once."""
    tasks = np.array(grid.tasks)
    return np.array([1 / (tasks == task).sum() for task in tasks]) / len(set(grid.tasks))


def advise(advisor: Advisor, landmarks: np.ndarray) -> Advice:
    """Return the plans for a scenario with these landmarks (D,), ranked by their expected gain.

    The gain is over the cheap plan that is best on validation, which is there already. Another plan
    is recommended if it is better by the rules of all verdicts: after Holm's correction for the
    number of plans, and from five tasks or more. Where no plan is told better the cheap one is the
    choice, and `settle` names it and those that may be better.
    """
    plans, cheap = advisor.grid.plans, advisor.grid.cheap
    reference = cheap[int(landmarks[FIRST:].argmax())]
    (gains,), (spread,) = predict(advisor.grid, advisor.noise, landmarks[None])
    likeness = 1 + advisor.noise - spread**2 if np.isfinite(advisor.noise) else 0.0
    over = _differences(advisor, gains, spread)
    ranked = sorted(
        (Expected(plan, over(plan, reference)) for plan in plans), key=lambda one: -one.gain.mean
    )
    others = [one for one in ranked if one.plan != reference]
    words = verdicts([one.gain for one in others], margin=0.0)
    better = [one.plan for one, word in zip(others, words, strict=True) if word == "helps"]
    if better or set(words) == {"hurts"}:
        return Advice(reference, ranked, (*better, reference)[0], RECOMMEND, (), likeness)
    settle = (reference, *(one.plan for one in others[: RUNS - 1]))
    return Advice(reference, ranked, reference, CANNOT_TELL, settle, likeness)


def _differences(
    advisor: Advisor, gains: np.ndarray, spread: float
) -> Callable[[str, str], Estimate]:
    """Return a function that estimates the gain of one plan over another in a scenario for which
    these gains (P,) are predicted.

    The standard error is the error of such predictions for tasks that were left out, wider for a
    scenario unlike those seen. It has the spread over tasks in it and that over seeds, because what
    was predicted are means over seeds.
    """
    grid, shares = advisor.grid, _shares(advisor.grid)

    def over(plan: str, other: str) -> Estimate:
        one, two = grid.plans.index(plan), grid.plans.index(other)
        squares = shares @ np.square(advisor.misses[:, one] - advisor.misses[:, two])
        error = spread * np.sqrt(squares)
        return Estimate(float(gains[one] - gains[two]), float(error), len(set(grid.tasks)))

    return over


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return squared distances (N, M) between (N, D) and (M, D)."""
    return np.square(one[:, None] - other[None]).sum(-1)
