"""What a run is made of and where it stands: the problem, the arrays, the numbers beside them."""

import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tl_jax import interrupt
from tl_jax.chain.network import Applied, Chain, select
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.engine import checkpoint
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError, unknown
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train import optim

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Network:
    """A chain and how it is fed and spread: what programs are compiled for, whatever the data."""

    chain: Chain
    preprocessing: Preprocessing
    parallel: Parallel
    precision: str

    def apply(self, variables: Any, stored: jax.Array, start: str | None, **options) -> Applied:
        """`Chain.apply` above `start` on stored pixels (uint8) or features (B, ...).

        Activations and parameters are in the network's precision, statistics as they are.
        """
        x = self.preprocessing.normalise(stored) if start is None else stored
        params = jax.tree.map(lambda p: p.astype(self.precision), variables["params"])
        cast = {"params": params, "batch_stats": variables["batch_stats"]}
        return self.chain.apply(cast, x.astype(self.precision), start=start, **options)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """What is trained on what, and how, whichever phase it is in."""

    chain: Chain
    preprocessing: Preprocessing
    task: Task
    plan: Plan
    parallel: Parallel = Parallel()
    seed: int = 0
    batch_size: int = 32
    precision: str = "float32"  # of activations; weights and statistics stay float32

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        # Now, and not after minutes of computing the frozen layers' output.
        self.parallel.batch_size(self.batch_size, len(self.task.splits["train"]))

    @property
    def network(self) -> Network:
        """What is trained, without what on."""
        return Network(self.chain, self.preprocessing, self.parallel, self.precision)


class State(NamedTuple):
    """The arrays that a step takes and gives; of the layers, only those that are trained."""

    params: Any  # {layer: tree}
    batch_stats: Any  # {layer: tree}
    optimizer: Any
    step: jax.Array  # steps since the run began
    loss: jax.Array  # sum of weighted losses over this epoch
    weight: jax.Array  # sum of weights over this epoch
    bad: jax.Array  # the first step with a loss that is not finite; -1: none


@dataclasses.dataclass
class Progress:
    """Where a run is: all of it that is not arrays."""

    phase: int = 0
    epoch: int = 0  # finished epochs of the phase
    batch: int = 0  # finished batches of the epoch under way
    history: list[dict] = dataclasses.field(default_factory=list)  # a row an epoch
    inputs: list[dict] = dataclasses.field(default_factory=list)  # what each phase begun reads

    def rows(self, phase: Phase) -> list[dict]:
        """The phase's epochs so far."""
        return [row for row in self.history if row["phase"] == phase.name]


def best_row(phase: Phase, rows: Sequence[dict]) -> dict:
    """The epoch whose weights the phase hands on; of equally good ones the latest."""
    by = phase.settings.best_by
    if by == "last":
        return rows[-1]
    return max(rows, key=lambda row: (-row[by] if by == "val_loss" else row[by], row["epoch"]))


def begin(phase: Phase, variables: Any, former: State | None = None) -> State:
    """A phase's first state; what `former` knows of layers that were already training is kept."""
    params, stats = select(variables, phase.trained).values()
    # Copied here, as JAX may use the memory of what it is given, and a step's is used again.
    params, stats = jax.tree.map(lambda a: np.array(a, np.float32), (params, stats))
    optimizer, step, zero = optim.begin(phase, params), np.int32(0), np.float32(0)
    if former is not None:
        optimizer, step = optim.carry_over(former.optimizer, optimizer), former.step
    return jax.device_put(State(params, stats, optimizer, step, zero, zero, np.int32(-1)))


def shapes(phase: Phase, variables: Any) -> State:
    """What `begin` gives as shapes, of variables or their shapes."""

    def of(array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, np.float32)

    params, stats = jax.tree.map(of, tuple(select(variables, phase.trained).values()))
    whole, real = (jax.ShapeDtypeStruct((), dtype) for dtype in (np.int32, np.float32))
    return State(params, stats, optim.shapes(phase, params), whole, real, real, whole)


def snapshot(state: State) -> Any:
    """The trained layers' variables as they are now, on the host."""
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats})


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
    folder: pathlib.Path, plan: Plan, variables: Any
) -> tuple[Progress, Any, State | None, Any]:
    """Progress, variables, state and best of the newest whole checkpoint; a fresh start without."""

    def template(meta: dict) -> Any:
        state = shapes(plan.phases[meta["phase"]], variables)
        best = {"params": state.params, "batch_stats": state.batch_stats}
        host = jax.tree.map(lambda a: np.empty(a.shape, a.dtype), (variables, best))
        return {"variables": host[0], "state": state._asdict(), "best": host[1]}

    restored = checkpoint.restore_latest(folder, template)
    if restored is None:
        return Progress(), variables, None, None
    tree = restored.state
    return Progress(**restored.meta), tree["variables"], State(**tree["state"]), tree["best"]


def require_finite(state: State) -> None:
    """UserError that names the first step whose loss was not finite."""
    if (step := int(state.bad)) >= 0:
        raise UserError(
            f"the loss is not finite at step {step}: try a smaller learning_rate; "
            "the last good checkpoint is kept"
        )
