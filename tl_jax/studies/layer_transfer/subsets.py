"""The two sides A and B of a study: classes of one task, two tasks, or given bases and a task."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.data import splits
from tl_jax.data.subset import ClassSubset, group
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes, takes_several, takes_whole, unknown
from tl_jax.runs.subject import named_task, task_of
from tl_jax.studies.layer_transfer.treatments import TREATMENTS

OF_ALL = ("random", "tasks")  # arms that need no names of their own
SEED = "{seed}"  # in the name of a given base's weights


class Side(NamedTuple):
    """A or B: where a base comes from."""

    name: str
    subsets: list[ClassSubset]  # on which the study trains it, one for each seed
    weights: str = ""  # or its weights, if it is given, with `SEED` for the seed's number


class Arm(NamedTuple):
    """The two sides of a comparison."""

    a: Side
    b: Side


def require(config: Any) -> None:
    """Raise UserError for arms that no data could have, and for an empty study."""
    if len(config.budgets) != len(config.epochs) or not config.budgets or config.seeds < 1:
        raise UserError("a study needs at least one seed, and as many epochs as budgets")
    takes_several(config.arms, "arms=")
    takes_several(config.budgets, "budgets=")
    taken = {*OF_ALL, *config.groups, *TREATMENTS}
    for name, weights in config.bases.items():
        takes(name not in taken and ":" not in name, "bases=", "names of their own", name)
        what = "a file, the folder of a run, or the name of weights"
        takes(isinstance(weights, str) and weights != "", f"bases.{name}=", what, weights)
    for budget, epochs in zip(config.budgets, config.epochs, strict=True):
        takes_whole(budget, "a budget", 0, splits.SEEDS)
        takes_whole(epochs, "epochs=", 1, splits.SEEDS)
    for arm in config.arms:
        if arm == "tasks" and not config.source.name:
            raise UserError("the arm 'tasks' needs the task of base A: source.name=...")
        whole = (*OF_ALL, *config.bases)
        for name in () if arm in whole else arm.split(":"):
            if name not in config.groups:
                known = config.groups if ":" in arm else [*config.groups, *whole]
                raise unknown("group of classes", name, known)


def arms(config: Any) -> list[Arm]:
    """Return the config's arms; UserError for sides that do not fit."""
    tasks = [task_of(config, seed) for seed in range(config.seeds)]
    found = [_arm(config, arm, tasks) for arm in config.arms]
    names = [(arm.a.name, arm.b.name) for arm in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two arms are called {' to '.join(twice[0])}: rename one of bases=")
    return found


def _arm(config: Any, arm: str, tasks: list[Task]) -> Arm:
    if arm in config.bases:
        return Arm(Side(arm, [], config.bases[arm]), Side(tasks[0].name, _whole(tasks)))
    if arm == "tasks":
        sources = [source(config, seed) for seed in range(config.seeds)]
        a, b = sources[0].name, tasks[0].name
        if a == b:  # folders of the same name
            a, b = f"{a} A", f"{b} B"
        return Arm(Side(a, _whole(sources)), Side(b, _whole(tasks)))
    if arm == "random":
        pairs = [halves(task.classes, seed) for seed, task in enumerate(tasks)]
        sides = {"random A": [a for a, _ in pairs], "random B": [b for _, b in pairs]}
    else:
        sides = _groups(config, arm, tasks)
    a, b = (
        Side(name, [ClassSubset(task, n) for task, n in zip(tasks, classes, strict=True)])
        for name, classes in sides.items()
    )
    return Arm(a, b)


def _whole(tasks: list[Task]) -> list[ClassSubset]:
    return [ClassSubset(task, task.classes) for task in tasks]


def _groups(config: Any, arm: str, tasks: list[Task]) -> dict[str, list[tuple[str, ...]]]:
    """Return the classes of the two groups that an arm such as `clothes:shoes` names."""
    names = arm.split(":")
    sides = {name: [group(t.classes, config.groups[name]) for t in tasks] for name in names}
    if len(sides) != 2 or set.intersection(*(set(classes[0]) for classes in sides.values())):
        raise UserError(f"an arm needs two groups without a common class; got {arm!r}")
    return sides


def source(config: Any, seed: int) -> Task:
    """Return the task of base A in the arm `tasks`."""
    return named_task(config.source, seed, val=config.task.val)


def halves(classes: Sequence[str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw two halves of the classes; an odd one is left out. UserError for fewer than four."""
    if len(classes) < 4:
        raise UserError(f"{len(classes)} classes cannot be halved: each half needs two classes")
    order = np.random.default_rng(seed).permutation(len(classes))
    half = len(classes) // 2
    one, other = sorted(order[:half]), sorted(order[half : 2 * half])
    return tuple(classes[i] for i in one), tuple(classes[i] for i in other)
