"""A run's checkpoints: written from time to time, and read to resume the run."""

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from tl_jax import interrupt
from tl_jax.chain.variables import merged, select
from tl_jax.engine import checkpoint, processes
from tl_jax.engine.processes import agreed
from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase
from tl_jax.train.identity import changes, of_problem
from tl_jax.train.problem import Problem
from tl_jax.train.state import Progress, require_finite, shapes
from tl_jax.train.step import Recipe, State, evaluated
from tl_jax.train.survey import Survey


class Saver:
    """Writes a checkpoint when enough time has passed, and when a signal asks to stop.

    Without a `workdir` it writes none: a signal then costs the whole run. The state is whole on
    every process, so one of several writes it, and all wait until it is on disk.
    """

    def __init__(
        self, problem: Problem, variables: Any, workdir: pathlib.Path | None, seconds: float
    ):
        self.folder, self.seconds = workdir and workdir / "checkpoints", seconds
        self.phases = problem.plan.phases
        self.last = time.monotonic()
        if self.folder is not None:
            self.identity = of_problem(problem, variables)
            if processes.first():
                checkpoint.remove_leftovers(self.folder)

    def offer(self, progress: Progress, variables: Any, state: State, best: Any, now=False) -> None:
        """Save if a checkpoint is due; raise Interrupted after saving if a signal asked to stop.

        All processes save if it is due for one of them, or if one got the signal.
        """
        due = now or time.monotonic() - self.last >= self.seconds
        if not agreed(due or interrupt.requested()):
            return
        require_finite(state)
        if self.folder is not None and processes.first():
            trained_before = changed(self.phases, variables, progress.phase)
            tree = {"variables": trained_before, "state": state._asdict(), "best": best}
            meta = dataclasses.asdict(progress) | {"identity": self.identity}
            checkpoint.save(self.folder, int(state.step), tree, meta)
        processes.together()
        self.last = time.monotonic()
        if signum := agreed(interrupt.requested()):
            raise interrupt.Interrupted(signum)


def changed(phases: Sequence[Phase], variables: Any, number: int) -> dict[str, Any]:
    """Return the variables of the layers that phases before this `number` have trained.

    All others are in the state, or are the run's first ones, whose fingerprint is in the meta.
    """
    trained = {name for former in phases[:number] for name in former.trained}
    return select(variables, [name for name in phases[0].multipliers if name in trained])


def nbytes(
    phases: Sequence[Phase], number: int, recipe: Recipe, survey: Survey, variables: Any
) -> int:
    """Return the bytes of a checkpoint in the phase `number`, from variables or their shapes."""
    state = shapes(recipe, survey, variables)
    tree = changed(phases, variables, number), state, evaluated(recipe.setup, state)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def resume(
    saver: Saver, variables: Any, shapes_of: Callable[[int], tuple[Any, State]]
) -> tuple[Progress, Any, State | None, Any]:
    """Return progress, variables, state and best variables of the newest whole checkpoint.

    Without a checkpoint they are those of a run that begins. `variables` are the run's first ones.
    `shapes_of(number)` returns the setup of a phase and the shapes of its state. UserError if the
    checkpoint belongs to another run.
    """

    def template(meta: dict) -> Any:
        if "identity" not in meta:
            raise UserError(
                f"the checkpoints in {saver.folder} are of an earlier version: take another folder"
            )
        if different := changes(meta["identity"], saver.identity):
            raise UserError(
                f"the checkpoints in {saver.folder} are of another run "
                f"({'; '.join(different[:5])}): take another folder, or that run's data and "
                "settings"
            )
        setup, state = shapes_of(meta["phase"])
        expected = changed(saver.phases, variables, meta["phase"]), evaluated(setup, state)
        host = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), expected)
        return {"variables": host[0], "state": state._asdict(), "best": host[1]}

    restored = saver.folder and checkpoint.restore_latest(saver.folder, template)
    processes.require_same(restored and restored.step, f"the checkpoints read from {saver.folder}")
    if not restored:
        return Progress(), variables, None, None
    tree = restored.state
    progress = {field.name: restored.meta[field.name] for field in dataclasses.fields(Progress)}
    now = merged(variables, tree["variables"])
    return Progress(**progress), now, State(**tree["state"]), tree["best"]
