"""Cross-validation: every example is tested once, in one of several folds."""

import dataclasses
import warnings

import numpy as np

from tl_jax.data import strata
from tl_jax.data.splits import complete, require_seed
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes_whole

MOST = 100


def in_fold(task: Task, folds: int, fold: int, *, seed: int, val: float = 0.1) -> Task:
    """The task whose test split is one of so many `folds` of all its examples, and whose val split
    is the share `val` of all, drawn from the others.

    Folds are spread evenly over the classes, and examples of a group (`Task.groups`) are in one.
    Those of a seed have no example in common. UserError for more folds than a class has examples,
    or the data groups.
    """
    takes_whole(folds, "folds=", 2, MOST)
    takes_whole(fold, "fold=", 0, folds - 1)
    require_seed(seed)
    rows = np.sort(np.concatenate(list(task.splits.values())))
    names = np.array(strata.of_task(task))
    groups = np.array(task.groups) if task.groups else None
    _require_enough(task, names[rows], None if groups is None else groups[rows], folds)
    test = _divided(names[rows], None if groups is None else groups[rows], folds, seed)[fold]
    rest = np.setdiff1d(rows, rows[test])
    share = val * len(rows) / len(rest)  # of what is left
    given = {"train": rest, "test": rows[test]}
    splits = complete(given, names, seed=seed, val=share, test=0.1, groups=groups)
    return dataclasses.replace(task, splits=splits)


def _divided(
    names: np.ndarray, groups: np.ndarray | None, folds: int, seed: int
) -> list[np.ndarray]:
    """The rows of each fold."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    with warnings.catch_warnings():
        # A rare class that one group has is in one fold.
        warnings.filterwarnings("ignore", "The least populated class")
        split = kind(folds, shuffle=True, random_state=seed).split(names, names, groups)
        return [test for _, test in split]


def _require_enough(
    task: Task, names: np.ndarray, groups: np.ndarray | None, folds: int
) -> None:
    if groups is not None and (count := len(np.unique(groups))) < folds:
        raise UserError(f"the task {task.name!r} has {count} groups, too few for {folds} folds")
    found, counts = np.unique(names, return_counts=True)
    if groups is None and counts.min() < folds:
        least = int(counts.argmin())
        raise UserError(
            f"class {str(found[least])!r} of {task.name!r} has {counts[least]} examples, too few "
            f"for {folds} folds: take fewer, or leave the class out"
        )
