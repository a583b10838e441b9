"""Rules that choose a plan: fixed ones, the lectures' tables, and advice.

The lectures say neither what small is nor how to measure what is similar. Here a dataset is small
below `SMALL` training examples a class, and similar if a probe on the base's features is more
accurate on validation than one on pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.advice import advisor
from tl_jax.advice.grid import FIRST, SIZE, Grid

SMALL = 100  # training examples a class
# What tables call the plans that the rules speak of: the first of these that a table has.
ROLES: Mapping[str, Sequence[str]] = {
    "head": ("head_only", "logistic", "cnn_svm"),
    "top": ("top",),
    "everything": ("full",),
    "from scratch": ("from_scratch",),
    "svm without transfer": ("pixels_svm", "hog_svm"),
}
FEATURES, PIXELS = "logistic", "pixels_svm"  # cheap plans that tell whether a dataset is similar


class Said(NamedTuple):
    """What a lecture says of a kind of dataset, and the role of the plan that it names, if any."""

    words: str
    role: str | None  # None: the best fixed plan stands in


_HEAD = Said("train the classifier on top", "head")
_TROUBLE = Said("You are in trouble. Get more data", None)
_FEW = Said("fine-tune few more layers", "top")
_MANY = Said("fine-tune a larger number of layers", "everything")
_HIGHER = Said("fine-tune a higher-level portion", "top")
_SVM = Said("SVM without transfer learning", "svm without transfer")
_WHOLE = Said("fine-tune the whole network", "everything")
_SCRATCH = Said("train from scratch", "from scratch")
_FREEZE = Said("freeze", "head")
_TUNE = Said("fine-tune", "everything")
SMALL_SIMILAR, SMALL_DIFFERENT = (True, True), (True, False)
LARGE_SIMILAR, LARGE_DIFFERENT = (False, True), (False, False)
# The lectures' tables, by (small, similar).
LECTURES: Mapping[str, Mapping[tuple[bool, bool], Said]] = {
    "lectures 000, 001": {
        SMALL_SIMILAR: _HEAD,
        SMALL_DIFFERENT: _TROUBLE,
        LARGE_SIMILAR: _FEW,
        LARGE_DIFFERENT: _MANY,
    },
    "lecture 003": {
        SMALL_SIMILAR: _HIGHER,
        SMALL_DIFFERENT: _SVM,
        LARGE_SIMILAR: _WHOLE,
        LARGE_DIFFERENT: _SCRATCH,
    },
    "lecture 004": {
        SMALL_SIMILAR: _FREEZE,
        SMALL_DIFFERENT: _FREEZE,
        LARGE_SIMILAR: _TUNE,
        LARGE_DIFFERENT: _TUNE,
    },
}
# From the grid that was seen, without the task, and the landmarks (N, D) of the task's scenarios to
# the chance (N, P) with which each plan is chosen there.
Rule = Callable[[Grid, np.ndarray], np.ndarray]

ADVICE, BEST_FIXED, FIRST_RANKED = "advice", "best fixed plan", "best expected plan"


def stand_ins(plans: Sequence[str]) -> dict[str, str]:
    """Return by role the plan of a table that stands for it, where there is one."""
    found = {role: _first(names, plans) for role, names in ROLES.items()}
    return {role: plan for role, plan in found.items() if plan}


def rules(grid: Grid) -> dict[str, Rule]:
    """Return by name the rules that the plans of a grid allow."""
    found: dict[str, Rule] = {
        ADVICE: _advised,
        FIRST_RANKED: _first_ranked,
        "best cheap plan": _best_cheap,
        # Of all tasks, in hindsight: chosen without the task it would be a plan that did the worse
        # on it the more alike the plans are, and any rule would seem to beat it.
        BEST_FIXED: lambda seen, new: _only(seen, [grid.best_fixed] * len(new)),
    }
    plans = stand_ins(grid.plans)
    for role in ("head", "everything"):
        if role in plans:
            found[f"always {role}"] = _always(plans[role])
    known = {FEATURES, PIXELS} <= set(grid.cheap)
    for name, roles in LECTURES.items():
        if known and plans.keys() >= {one.role for one in roles.values()} - {None}:
            table = {cell: plans[one.role] if one.role else None for cell, one in roles.items()}
            found[name] = _lecture(table)
    found["random"] = lambda seen, new: np.full((len(new), len(seen.plans)), 1 / len(seen.plans))
    return found


def _always(plan: str) -> Rule:
    return lambda seen, new: _only(seen, [plan] * len(new))


def _lecture(table: Mapping[tuple[bool, bool], str | None]) -> Rule:
    def rule(seen: Grid, new: np.ndarray) -> np.ndarray:
        cells = [kind(own, seen.cheap) for own in new]
        return _only(seen, [table[cell] or seen.best_fixed for cell in cells])

    return rule


def kind(landmarks: np.ndarray, cheap: Sequence[str]) -> tuple[bool, bool]:
    """Return whether a scenario with these landmarks (D,) is small, and whether it is similar."""
    one, other = (FIRST + cheap.index(plan) for plan in (FEATURES, PIXELS))
    return bool(landmarks[SIZE] < np.log(SMALL)), bool(landmarks[one] > landmarks[other])


def _best_cheap(seen: Grid, new: np.ndarray) -> np.ndarray:
    return _only(seen, [seen.cheap[best] for best in new[:, FIRST:].argmax(1)])


def _first_ranked(seen: Grid, new: np.ndarray) -> np.ndarray:
    found = advisor.fit(seen)
    gains, _ = advisor.predict(seen, found.noise, new)
    return _only(seen, [seen.plans[best] for best in gains.argmax(1)])


def _advised(seen: Grid, new: np.ndarray) -> np.ndarray:
    found = advisor.fit(seen)
    return _only(seen, [advisor.advise(found, own).choice for own in new])


def _only(grid: Grid, chosen: Sequence[str]) -> np.ndarray:
    return np.array([[float(plan == own) for plan in grid.plans] for own in chosen])


def _first(names: Sequence[str], known: Sequence[str]) -> str | None:
    return next((name for name in names if name in known), None)
