"""How far a run has come: a phase's arrays at its beginning, progress, and the best epoch."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train import optim
from tl_jax.train.objective import Objective, better
from tl_jax.train.step import Recipe, State, evaluated
from tl_jax.train.survey import Survey


@dataclasses.dataclass
class Progress:
    """How far a run has come, without its arrays."""

    phase: int = 0
    epoch: int = 0  # finished epochs of the phase
    batch: int = 0  # finished batches of the current epoch
    history: list[dict] = dataclasses.field(default_factory=list)  # one row for each epoch
    inputs: list[dict] = dataclasses.field(default_factory=list)  # what each begun phase reads

    def rows(self, phase: Phase) -> list[dict]:
        """Return the rows of the phase's finished epochs."""
        return [row for row in self.history if row["phase"] == phase.name]


def criterion(phase: Phase, objective: Objective) -> str:
    """Return the column of an epoch's row that selects the phase's best epoch, or `last`."""
    return phase.settings.best_by or objective.chosen_by


def best_row(phase: Phase, rows: Sequence[dict], objective: Objective) -> dict:
    """Return the row of the epoch whose weights the phase hands on.

    Of equal ones, which an accuracy on few examples often has, it is the latest: at the smallest
    rate, and without a reason to go back.
    """
    by = criterion(phase, objective)
    if by == "last":
        return rows[-1]
    sign = -1 if better(objective, by) == "min" else 1
    return max(rows, key=lambda row: (sign * row[by], row["epoch"]))


def choices(plan: Plan, progress: Progress, objective: Objective) -> list[dict[str, Any]]:
    """Return which epoch each phase handed on and why, as a run's result shows it.

    `metric` is the column that selected the epoch; if the phase hands on its last epoch, it is the
    objective's `chosen_by`, or None if that is `last` too. `worse_than` is the best epoch that a
    phase before handed on, if this phase's is worse by that metric.
    """
    chosen, handed_on = [], []
    for phase in plan.phases:
        by, rows = criterion(phase, objective), progress.rows(phase)
        row = best_row(phase, rows, objective)
        metric = objective.chosen_by if by == "last" else by
        metric = None if metric == "last" else metric
        choice = {"best_by": by, "best_epoch": row["epoch"], "epochs_run": len(rows)}
        choice |= {"metric": metric, "value": row[metric] if metric else None}
        choice |= {"worse_than": metric and _worse_than(row, handed_on, metric, objective)}
        chosen.append(choice)
        handed_on.append(row)
    return chosen


def _worse_than(
    row: dict, before: Sequence[dict], metric: str, objective: Objective
) -> dict[str, Any] | None:
    """Return the best of the rows before, if this one is worse by the metric."""
    sign = -1 if better(objective, metric) == "min" else 1
    best = max(before, key=lambda one: sign * one[metric], default=row)
    if sign * best[metric] <= sign * row[metric]:
        return None
    return {"phase": best["phase"], "epoch": best["epoch"], "value": best[metric]}


def begin(
    recipe: Recipe, survey: Survey, variables: Any, memory: Any = (), former: State | None = None
) -> State:
    """Return the initial state of a phase, on the device.

    Layers that were already training keep their optimizer state from `former`.
    """
    params, stats = recipe.of_trained(variables).values()
    # Copied, because JAX may use the memory of its arguments, and a step reuses the state's memory.
    params, stats = jax.tree.map(lambda a: np.array(a, np.float32), (params, stats))
    optimizer = optim.begin(recipe.optimizer, recipe.factors(params), params)
    step: Any = np.int32(0)
    if former is not None:
        optimizer, step = optim.carry_over(former.optimizer, optimizer), former.step
    average = {"params": params, "batch_stats": stats} if _averages(recipe) else ()
    average, memory = jax.tree.map(np.array, (average, memory))
    sums = {name: (np.float32(0),) * 3 for name in survey.terms}
    bad: Any = np.int32(-1)
    state = State(params, stats, optimizer, average, memory, step, sums, bad)
    return jax.device_put(jax.tree.map(np.array, state))


def shapes(recipe: Recipe, survey: Survey, variables: Any) -> State:
    """Return the shapes of the state that `begin` returns, from variables or their shapes."""

    def of(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, np.float32)

    params, stats = jax.tree.map(of, tuple(recipe.of_trained(variables).values()))
    whole: Any = jax.ShapeDtypeStruct((), np.int32)
    real = jax.ShapeDtypeStruct((), np.float32)
    optimizer = optim.shapes(recipe.optimizer, recipe.factors(params), params)
    average = {"params": params, "batch_stats": stats} if _averages(recipe) else ()
    sums = {name: (real,) * 3 for name in survey.terms}
    return State(params, stats, optimizer, average, survey.memory, whole, sums, whole)


def without_sums(state: State) -> State:
    """Return the state with sums of zero, for the beginning of an epoch."""
    return state._replace(sums=jax.tree.map(np.zeros_like, jax.device_get(state.sums)))


def snapshot(recipe: Recipe, state: State) -> Any:
    """Return the variables that the phase would hand on now, on the host."""
    return jax.device_get(evaluated(recipe.setup, state))


class Diverged(UserError):
    """Training came to a loss or weights that are not finite."""


def require_finite(state: State) -> None:
    """Raise Diverged, which names the first step whose loss was not finite, if there is one."""
    if (step := int(state.bad)) >= 0:
        raise Diverged(
            f"the loss is not finite at step {step}: try a smaller learning_rate; "
            "the last good checkpoint is kept"
        )


def _averages(recipe: Recipe) -> bool:
    return recipe.setup.objective.average is not None
