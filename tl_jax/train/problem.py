"""The settings of a run: network, tasks, plan and objective; everything but the variables."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tl_jax.chain.depth import with_stochastic_depth
from tl_jax.chain.dropout import with_dropout
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Known
from tl_jax.data import balance
from tl_jax.data.expects import Expected
from tl_jax.data.splits import require_seed
from tl_jax.data.task import Task
from tl_jax.engine.parallel import Parallel
from tl_jax.engine.prefix import PRECISIONS, prepared, require_precision
from tl_jax.errors import UserError, unknown
from tl_jax.plans import norms
from tl_jax.plans.plan import Phase, Plan
from tl_jax.train.objective import Objective
from tl_jax.train.objectives.cross_entropy import CrossEntropy


@dataclasses.dataclass(frozen=True)
class Setup:
    """The settings that all programs of a run are compiled for, whatever the phase and the data."""

    network: Network
    objective: Objective
    preprocessing: Expected | None
    parallel: Parallel
    precision: str = "float32"

    def prepare(self, place: str, value: Any) -> Any:
        """Return the value that layers read: normalised pixels, in the network's precision."""
        return prepared(self.preprocessing, self.precision, place, value)

    def cast(self, params: Any) -> Any:
        """Return combined parameters in the network's precision."""
        return jax.tree.map(lambda p: p.astype(self.precision), self.network.combine(params))

    def bound(self, variables: Any, **how: Any) -> Net:
        """Return the network with these weights, in inference mode unless `how` says otherwise."""
        params = self.cast(variables["params"])
        return Net(self.network, params, variables["batch_stats"], prepare=self.prepare, **how)


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """The settings of a run, whatever the phase.

    `task` judges every epoch and the result. The run trains on it too, unless there are `sources`
    by name; then a step gets a batch of each source, and the first source sets an epoch's length.
    """

    chain: Network
    preprocessing: Expected | None
    task: Task
    plan: Plan
    parallel: Parallel = Parallel()
    seed: int = 0
    batch_size: int = 32
    precision: str = "float32"  # of activations; weights and statistics stay float32
    cache_precision: str = "float32"  # of activations in frozen layers whose outputs are stored
    objective: Objective = CrossEntropy()
    stochastic_depth: float = 0.0  # the last block's probability of leaving its branch out
    drop_mult: float = 1.0  # times every rate of dropout
    sources: Mapping[str, Task] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        require_seed(self.seed)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        require_precision(self.cache_precision)
        if self.sources and not self.objective.judges:
            raise UserError(
                f"{type(self.objective).__name__} trains on one task: leave out sources="
            )
        if self.sources and self.objective.judges not in self.sources:
            raise UserError(
                f"{type(self.objective).__name__} judges the source {self.objective.judges!r}; "
                f"there are {', '.join(self.sources)}"
            )
        for phase in self.plan.phases:
            phase.require_layers(self.chain.names)
            self.drawn_classes(phase)
        self.objective.check(self)
        for turn in self.objective.turns:
            for name in (*turn.only, *turn.never):
                self.chain.index(name)
        if self.objective.coupled:
            self.require_whole_batches(type(self.objective).__name__)
        parts = max((phase.settings.accumulate for phase in self.plan.phases), default=1)
        if self.objective.coupled and parts > 1:
            raise UserError(
                f"{type(self.objective).__name__} couples the examples of a batch, which is no sum "
                "over its parts: take accumulate=1"
            )
        # Here, not after computing the frozen layers' output for minutes.
        for size in self.batch_sizes.values():
            for phase in self.plan.phases:
                if size // self.parallel.count % phase.settings.accumulate:
                    raise UserError(
                        f"phase {phase.name!r}: a batch of {size} on {self.parallel.count} devices "
                        f"cannot be run in {phase.settings.accumulate} parts of equal size"
                    )
                norm = phase.settings.batch_norm
                if norms.make(norm).by_batch and size == phase.settings.accumulate:
                    raise UserError(
                        f"phase {phase.name!r}: batch_norm={norm} normalises by one example at a "
                        "time: take a batch_size above accumulate, or batch_norm=frozen"
                    )

    def drawn_classes(self, phase: Phase) -> np.ndarray | None:
        """Return the class (n,) of each training example, of which the phase draws each as often;
        None if it does not. UserError if there are no such classes.
        """
        if phase.settings.sampling != "balanced":
            return None
        if self.sources:
            raise UserError(
                f"phase {phase.name!r}: sampling=balanced looks at the classes of a single task, "
                "and there are several sources: take sampling=shuffled"
            )
        return balance.train_labels(self.task, f"phase {phase.name!r}: sampling=balanced")

    def require_whole_batches(self, what: str) -> None:
        """Raise UserError if a step sees only a part of a batch, which makes `what` impossible."""
        if self.parallel.way == "pmap" and self.parallel.count > 1:
            raise UserError(
                f"{what} couples the examples of a batch, but pmap shows each device only a part: "
                "take parallel=jit"
            )

    @property
    def trained_on(self) -> Mapping[str, Task]:
        """The tasks that the run trains on, by name; a single one is called ""."""
        return self.sources or {"": self.task}

    @property
    def batch_sizes(self) -> dict[str, int]:
        """Return how many examples of each task of `trained_on` a step gets."""
        counts = {name: len(task.splits["train"]) for name, task in self.trained_on.items()}
        return {n: self.parallel.batch_size(self.batch_size, count) for n, count in counts.items()}

    @property
    def epoch_steps(self) -> int:
        """Return the number of steps of an epoch: of full batches of the first task."""
        name, task = next(iter(self.trained_on.items()))
        return len(task.splits["train"]) // self.batch_sizes[name]

    @functools.cached_property
    def setup(self) -> Setup:
        """The part of the settings that programs are compiled for."""
        # Not in `chain`: what is stored of it serves every probability.
        chain = with_stochastic_depth(self.chain, self.stochastic_depth)
        chain = with_dropout(chain, self.drop_mult)
        return Setup(chain, self.objective, self.preprocessing, self.parallel, self.precision)


def sample(task: Task, known: Any, *, size: int, real: bool = False) -> dict[str, Any]:
    """Return a batch of `size` examples as shapes, from one example of its inputs, (1, ...).

    With `real` the batch has the mask that an evaluation adds: 0 for rows that only pad.
    """

    def resized(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)

    truth = {name: array[:1] for name, array in task.truth.items()}
    if real:
        truth["real"] = np.ones(1, np.float32)
    return jax.tree.map(resized, {"inputs": Known(known), **truth})
