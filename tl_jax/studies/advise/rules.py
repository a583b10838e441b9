"""Rules that choose a plan: fixed ones, the lectures' tables, and advice.

The lectures' tables, as they have them:

| target dataset | lectures 000 and 001 | lecture 003 | lecture 004 |
|---|---|---|---|
| small, similar | train the classifier on top | fine-tune a higher-level portion | freeze |
| small, different | "You are in trouble. Get more data" | SVM without transfer learning | freeze |
| large, similar | fine-tune few more layers | fine-tune the whole network | fine-tune |
| large, different | fine-tune a larger number of layers | train from scratch | fine-tune |

They say neither what small is nor how to measure what is similar. Here a dataset is small below
`SMALL` training examples a class, and similar if a probe on the base's features is more accurate on
validation than one on pixels.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tl_jax.studies.advise import advisor
from tl_jax.studies.advise.grid import FIRST, SIZE, Grid

SMALL = 100  # training examples a class
# What tables call the plans that the rules speak of: the first of these that a table has.
ROLES: Mapping[str, Sequence[str]] = {
    "head": ("head_only", "logistic", "cnn_svm"),
    "top": ("top", "fine_tune"),
    "everything": ("full",),
    "from scratch": ("from_scratch",),
    "svm without transfer": ("pixels_svm", "hog_svm", "pixels"),
}
# The cheap plans that tell whether a dataset is similar.
FEATURES = ("logistic", "cnn_svm", "off_the_shelf", "neighbours")
PIXELS = ("pixels_svm", "pixels", "hog_svm")
# Roles for (small, similar): None where a lecture names no plan, and the best fixed one stands in.
LECTURES: Mapping[str, Mapping[tuple[bool, bool], str | None]] = {
    "lectures 000, 001": {
        (True, True): "head",
        (True, False): None,
        (False, True): "top",
        (False, False): "everything",
    },
    "lecture 003": {
        (True, True): "top",
        (True, False): "svm without transfer",
        (False, True): "everything",
        (False, False): "from scratch",
    },
    "lecture 004": {
        (True, True): "head",
        (True, False): "head",
        (False, True): "everything",
        (False, False): "everything",
    },
}
# From the grid that was seen, without the task, and the landmarks (N, D) of the task's scenarios to
# the chance (N, P) with which each plan is chosen there.
Rule = Callable[[Grid, np.ndarray], np.ndarray]

BEST_FIXED, FIRST_RANKED, WHERE_SURE = "best fixed plan", "advice", "advice where it can tell"


def stand_ins(plans: Sequence[str]) -> dict[str, str]:
    """Return by role the plan of a table that stands for it, where there is one."""
    found = {role: _first(names, plans) for role, names in ROLES.items()}
    return {role: plan for role, plan in found.items() if plan}


def rules(grid: Grid) -> dict[str, Rule]:
    """Return by name the rules that the plans of a grid allow."""
    found: dict[str, Rule] = {
        FIRST_RANKED: _first_ranked,
        WHERE_SURE: _where_sure,
        BEST_FIXED: lambda seen, new: _only(seen, [seen.best_fixed] * len(new)),
    }
    plans = stand_ins(grid.plans)
    for role in ("head", "everything"):
        if role in plans:
            found[f"always {role}"] = _always(plans[role])
    features, pixels = _first(FEATURES, grid.cheap), _first(PIXELS, grid.cheap)
    for name, roles in LECTURES.items():
        if features and pixels and plans.keys() >= set(roles.values()) - {None}:
            table = {cell: plans[role] if role else None for cell, role in roles.items()}
            found[name] = _lecture(table, features, pixels)
    found["random"] = lambda seen, new: np.full((len(new), len(seen.plans)), 1 / len(seen.plans))
    return found


def _always(plan: str) -> Rule:
    return lambda seen, new: _only(seen, [plan] * len(new))


def _lecture(table: Mapping[tuple[bool, bool], str | None], features: str, pixels: str) -> Rule:
    def rule(seen: Grid, new: np.ndarray) -> np.ndarray:
        one, other = (FIRST + seen.cheap.index(plan) for plan in (features, pixels))
        cells = [(bool(x[SIZE] < np.log(SMALL)), bool(x[one] > x[other])) for x in new]
        return _only(seen, [table[cell] or seen.best_fixed for cell in cells])

    return rule


def _first_ranked(seen: Grid, new: np.ndarray) -> np.ndarray:
    found = advisor.fit(seen)
    gains, _ = advisor.predict(seen, found.noise, new)
    return _only(seen, [seen.plans[best] for best in gains.argmax(1)])


def _where_sure(seen: Grid, new: np.ndarray) -> np.ndarray:
    found = advisor.fit(seen)
    advice = [advisor.advise(found, own) for own in new]
    sure = [own.ranked[0].plan if own.verdict == advisor.RECOMMEND else "" for own in advice]
    return _only(seen, [plan or seen.best_fixed for plan in sure])


def _only(grid: Grid, chosen: Sequence[str]) -> np.ndarray:
    return np.array([[float(plan == own) for plan in grid.plans] for own in chosen])


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in names if name in known), None)
