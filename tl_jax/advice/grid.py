"""Rows of tables of scenarios as arrays: landmarks, and the test accuracy of every plan.

Landmarks are figures of cheap learners that describe a task (Pfahringer, Bensusan & Giraud-Carrier
2000, "Meta-learning by landmarking various learning algorithms").
"""

import collections
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.errors import UserError, takes_several, unknown

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
SIZE, CHANCE, FIRST = 0, 1, 2  # places in the landmarks: FIRST is the first cheap plan's


class Scenario(NamedTuple):
    """A task with so many labels, to be learned from a base."""

    task: str
    base: str
    budget: int

    def __str__(self) -> str:
        labels = f"{self.budget} labels a class" if self.budget else "all labels"
        return f"{self.task} from {self.base}, {labels}"


class Grid(NamedTuple):
    """S scenarios, and what each of P plans reached in them."""

    scenarios: tuple[Scenario, ...]
    plans: tuple[str, ...]
    cheap: tuple[str, ...]
    landmarks: np.ndarray  # (S, 2 + cheap plans), of `landmarks`
    test: tuple[np.ndarray, ...]  # of each scenario (seeds, P)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The task of each scenario."""
        return tuple(scenario.task for scenario in self.scenarios)

    @property
    def means(self) -> np.ndarray:
        """Mean test accuracies over seeds (S, P)."""
        return np.stack([accuracies.mean(0) for accuracies in self.test])

    @property
    def best_fixed(self) -> str:
        """The plan that is best on average over the scenarios."""
        return self.plans[self.means.mean(0).argmax()]

    def take(self, rows: Sequence[int] | np.ndarray) -> "Grid":
        """Return the grid of some of the scenarios."""
        return self._replace(
            scenarios=tuple(self.scenarios[row] for row in rows),
            landmarks=self.landmarks[list(rows)],
            test=tuple(self.test[row] for row in rows),
        )

    def divided(self, task: str) -> tuple["Grid", np.ndarray]:
        """Return the grid without a task, and the rows of the task's scenarios."""
        own = np.array([name == task for name in self.tasks])
        return self.take(np.flatnonzero(~own)), np.flatnonzero(own)


def grid_of(rows: Sequence[Row], *, cheap: Sequence[str], column: str) -> Grid:
    """Return the scenarios of a table's rows, or of several tables' together.

    `column` is the test accuracy: test, or test_weighted. The plans are those that every scenario
    has, and its seeds those in which all of them finished, so that comparisons are paired. A
    scenario with fewer than two such seeds is left out: regret needs two halves. The log says what
    is left out. UserError if fewer than two plans or no scenario remain, or if two rows are of one
    cell.
    """
    found = _cells(rows, column)
    had = [{plan for own in seeds.values() for plan in own} for seeds in found.values()]
    every = dict.fromkeys(row["plan"] for row in rows)
    plans = tuple(plan for plan in every if all(plan in own for own in had))
    if not found or len(plans) < 2:
        raise UserError(
            f"advice chooses among plans that every scenario has: these tables have {len(found)} "
            f"scenarios that share {len(plans)} plans"
        )
    test = {
        scenario: [[own[p] for p in plans] for own in seeds.values() if own.keys() >= set(plans)]
        for scenario, seeds in found.items()
    }
    kept = tuple(scenario for scenario, seeds in test.items() if len(seeds) > 1)
    _tell("plans that some scenario lacks", [plan for plan in every if plan not in plans])
    _tell("scenarios with fewer than two seeds", [own for own in found if own not in kept])
    if not kept:
        raise UserError("no scenario has two seeds in which all of its plans finished")
    described = landmarks(rows, cheap)
    return Grid(
        kept, plans, tuple(cheap), np.stack([described[s] for s in kept]),
        tuple(np.array(test[scenario]) for scenario in kept),
    )  # fmt: skip


def landmarks(rows: Sequence[Row], cheap: Sequence[str]) -> dict[Scenario, np.ndarray]:
    """Return (2 + C,) by scenario: the logarithm of the training examples a class, the chance
    level, and the mean validation accuracy over seeds of each of C cheap plans.

    Nothing here looks at the test split, so a new task has landmarks as well. UserError for a cheap
    plan that a scenario lacks.
    """
    takes_several(cheap, "cheap")
    scores = collections.defaultdict(list)
    sizes = {}
    for row in _finished(rows):
        scores[_scenario(row), row["plan"]].append(row["val"])
        sizes[_scenario(row)] = row["n_train"], _classes(row)
    for plan in cheap:
        for scenario in sizes:
            if (scenario, plan) not in scores:
                known = [own for where, own in scores if where == scenario]
                raise unknown(f"cheap plan of {scenario}:", plan, known)
    return {
        scenario: np.array(
            [
                np.log(n_train / classes),
                1 / classes,
                *(np.mean(scores[scenario, plan]) for plan in cheap),
            ]
        )
        for scenario, (n_train, classes) in sizes.items()
    }


def seconds(rows: Sequence[Row]) -> dict[str, float]:
    """Return the median seconds of each plan's cells, the quickest plan first."""
    costs = collections.defaultdict(list)
    for row in _finished(rows):
        costs[row["plan"]].append(row["seconds"])
    medians = {plan: float(np.median(own)) for plan, own in costs.items()}
    return dict(sorted(medians.items(), key=lambda pair: pair[1]))


def _cells(rows: Sequence[Row], column: str) -> dict[Scenario, dict[int, dict[str, float]]]:
    """Return the column's values by scenario, seed and plan."""
    found: dict[Scenario, dict[int, dict[str, float]]] = {}
    for row in _finished(rows):
        own = found.setdefault(_scenario(row), {}).setdefault(row["seed"], {})
        if row["plan"] in own:
            raise UserError(
                f"two rows are of one cell ({_scenario(row)}, {row['plan']}, seed {row['seed']}): "
                "name tables of different tasks, each once"
            )
        own[row["plan"]] = row[column]
    return found


def _tell(what: str, names: Sequence[object]) -> None:
    if names:
        logger.warning("left out, %s: %s", what, "; ".join(map(str, names)))


def _finished(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.get("error") is None]


def _scenario(row: Row) -> Scenario:
    return Scenario(row["task"], row["base"], row["budget"])


def _classes(row: Row) -> int:
    if row["n_classes"] is None:  # in tables of an earlier program
        raise UserError(
            f"the table does not say how many classes {row['task']} has: study it again"
        )
    return row["n_classes"]
