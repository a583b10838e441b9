"""A run's checkpoints: written when it is time, and gone on from."""

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tl_jax import interrupt
from tl_jax.engine import checkpoint
from tl_jax.train.state import Progress, require_finite
from tl_jax.train.step import State, evaluated


class Saver:
    """Writes checkpoints: when enough time has passed, and when a signal asks to stop."""

    def __init__(self, workdir: pathlib.Path, seconds: float):
        self.folder, self.seconds = workdir / "checkpoints", seconds
        self.last = time.monotonic()
        checkpoint.remove_leftovers(self.folder)

    def offer(self, progress: Progress, variables: Any, state: State, best: Any, now=False) -> None:
        """Save if it is time to; raises Interrupted after saving if a signal asked to stop."""
        due = now or time.monotonic() - self.last >= self.seconds
        if not due and not interrupt.requested():
            return
        require_finite(state)
        tree = {"variables": variables, "state": state._asdict(), "best": best}
        checkpoint.save(self.folder, int(state.step), tree, dataclasses.asdict(progress))
        self.last = time.monotonic()
        interrupt.check()


def resume(
    folder: pathlib.Path, variables: Any, shapes_of: Callable[[int], tuple[Any, State]]
) -> tuple[Progress, Any, State | None, Any]:
    """Progress, variables, state and best of the newest whole checkpoint; a fresh start without.

    `shapes_of(number)` gives the setup and the state's shapes of a phase, when it is asked for.
    """

    def template(meta: dict) -> Any:
        setup, state = shapes_of(meta["phase"])
        best = evaluated(setup, state)
        host = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), (variables, best))
        return {"variables": host[0], "state": state._asdict(), "best": host[1]}

    restored = checkpoint.restore_latest(folder, template)
    if restored is None:
        return Progress(), variables, None, None
    tree = restored.state
    return Progress(**restored.meta), tree["variables"], State(**tree["state"]), tree["best"]
