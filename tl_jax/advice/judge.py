"""How good advice is: on every task from the others, beside rules that need no measurements."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.advice import advisor
from tl_jax.advice.grid import Grid
from tl_jax.advice.rules import BEST_FIXED, rules
from tl_jax.errors import UserError
from tl_jax.stats.regret import Regret, regret, summarised
from tl_jax.stats.verdict import LEAST_PAIRS


class Judgement(NamedTuple):
    """What each rule chose, and what it lost, where its task was left out."""

    grid: Grid
    shares: dict[str, np.ndarray]  # (S, P) by rule: the chance of each plan in each scenario
    regrets: dict[str, np.ndarray]  # (S,) by rule
    summary: dict[str, Regret]
    # share of measured gains over the best fixed plan within their interval; NaN without intervals
    covered: float
    told: int  # number of scenarios for which advice recommends a plan


def judge(grid: Grid) -> Judgement:
    """Choose for every task by every rule from the grid without it, and return the regrets.

    All bases and budgets of a task are left out together. UserError for a grid of one task.
    """
    if len(set(grid.tasks)) < 2:
        raise UserError(
            f"these tables have the single task {grid.tasks[0]}: advice is judged on tasks that it "
            "has not seen, so it needs two or more"
        )
    every = rules(grid)
    shares = {name: np.empty(grid.means.shape) for name in every}
    covered, told = np.empty(grid.means.shape), 0
    for task in dict.fromkeys(grid.tasks):
        seen, own = grid.divided(task)
        for name, rule in every.items():
            shares[name][own] = rule(seen, grid.landmarks[own])
        found = advisor.fit(seen)
        advice = [advisor.advise(found, landmarks) for landmarks in grid.landmarks[own]]
        covered[own] = [
            _covered(*pair, grid.plans) for pair in zip(advice, grid.means[own], strict=True)
        ]
        told += sum(one.verdict == advisor.RECOMMEND for one in advice)
    regrets = {
        name: np.array([regret(*pair) for pair in zip(grid.test, chosen, strict=True)])
        for name, chosen in shares.items()
    }
    summary = summarised(regrets, fixed=BEST_FIXED, tasks=grid.tasks)
    known = covered[np.isfinite(covered)]
    share = float(known.mean()) if len(known) else np.nan
    return Judgement(grid, shares, regrets, summary, share, told)


def _covered(advice: advisor.Advice, measured: np.ndarray, plans: Sequence[str]) -> list[float]:
    """Return for each plan whether its gain, of mean accuracies (P,), lies within its interval; NaN
    where there is none, and for the reference itself.
    """
    accuracy = dict(zip(plans, measured, strict=True))
    gains = {one.plan: one.gain for one in advice.ranked}
    inside = []
    for plan in plans:
        truth = accuracy[plan] - accuracy[advice.reference]
        told = plan != advice.reference and np.isfinite(gains[plan].half)
        inside.append(float(gains[plan].low <= truth <= gains[plan].high) if told else np.nan)
    return inside


def said(judgement: Judgement, rule: str) -> str:
    """Return a sentence: does the rule beat the best fixed plan?

    As for all verdicts, fewer than five tasks decide nothing.
    """
    own, tasks = judgement.summary[rule], len(set(judgement.grid.tasks))
    low, high = 100 * own.saved_low, 100 * own.saved_high
    if tasks < LEAST_PAIRS:
        found = f"on {tasks} tasks cannot be told better or worse than"
    elif own.saved_low > 0:
        found = "beats"
    else:
        found = "is worse than" if own.saved_high < 0 else "does not beat"
    return (
        f"{rule[0].upper()}{rule[1:]} {found} the best fixed plan: it saves "
        f"{100 * own.saved:.1f} points of regret ({low:z.1f} to {high:z.1f}), which is what a plan "
        "loses on test against the best one."
    )
