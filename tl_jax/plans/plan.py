"""How to transfer: a plan of phases, and how each phase trains."""

import dataclasses
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tl_jax.data import views
from tl_jax.errors import UserError, takes, takes_type, takes_types, unknown
from tl_jax.plans import norms

CHOICES = {
    "sampling": ("shuffled", "balanced"),
    "views": tuple(views.SETS),
}
STARTS = ("pretrained", "fresh", "redrawn")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a phase trains, whatever its layers."""

    epochs: int = 10
    learning_rate: float = 1e-3  # the schedule's peak
    # adamw, sgd (Nesterov momentum 0.9), as in sgd(momentum=0.8); from Python any optax
    # transformation too
    optimizer: Any = "adamw"
    # constant, cosine, warmup_cosine(warmup=0.1), step(at=(0.5, 0.75), factor=0.1),
    # polynomial(power=1, end=0), one_cycle, slanted_triangular(cut=0.1, ratio=32),
    # dann(gamma=10), tllib(gamma=0.001); from Python any function (peak, steps) -> optax schedule
    schedule: Any = "cosine"
    weight_decay: float = 1e-4  # decoupled; kernels only
    clip: float = 1.0  # largest norm of the trained layers' gradients; 0: no clipping
    # of trained layers: frozen (running statistics, kept), batch (the batch's), recalibrate
    # (running ones, re-estimated), stochastic(p=0.5) (running ones with probability p, by channel)
    batch_norm: str = "frozen"
    leaves: str = ""  # pattern of the parameters that learn inside trained layers, as "bias$"; all
    # numbered views: flip (2), flips (4: both ways), dihedral (8: turns), crops (10: corners too)
    views: str = "none"
    augment: Any = ""  # random augmentation of pixels in the step, as "crop+flip+mixup(0.2)"; none
    # of training examples: shuffled, each at most once an epoch; or balanced, each class as often
    sampling: str = "shuffled"
    accumulate: int = 1  # parts in which a batch is run, where it does not fit the memory whole
    # pattern of layers of which only the output is kept: the backward pass runs them again, which
    # takes less memory and more time; "." is every layer
    remat: str = ""
    # metric that selects the epoch whose weights are kept: val_loss, val_accuracy, ... or last;
    # empty: the objective's own, of a classification val_accuracy. Of equal epochs the latest
    best_by: str = ""
    # share of the way from the phase's first weights to its best that is handed on: WiSE-FT
    # (Wortsman et al. 2022, arXiv:2109.01903) goes half the way, 0.5
    blend: float = 1.0
    # epochs that are no better than the best before them (as good is no better), after which the
    # phase stops; 0: never
    patience: int = 0

    def __post_init__(self):
        # Here, not above: optax takes a second to import, and a config is read without it.
        from tl_jax.plans import schedules

        takes_types(self)
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise unknown(field, getattr(self, field), known)
        for field in ("optimizer", "schedule"):
            schedules.require(getattr(self, field), field)
        norms.make(self.batch_norm)
        if self.epochs < 1 or not 0 < self.learning_rate < math.inf:  # nor is NaN
            raise UserError(
                f"a phase needs epochs >= 1 and a finite learning_rate > 0; "
                f"got {self.epochs} and {self.learning_rate}"
            )
        if not all(value >= 0 for value in (self.weight_decay, self.clip, self.patience)):
            raise UserError("weight_decay, clip and patience must not be negative")
        if not 0 < self.blend <= 1:
            raise UserError(f"blend is a share above 0 and up to 1; got {self.blend}")
        if self.accumulate < 1:
            raise UserError(f"accumulate is at least 1 part of a batch; got {self.accumulate}")
        for field in ("leaves", "remat"):
            try:
                re.compile(getattr(self, field))
            except re.error as error:
                given = f"{field}={getattr(self, field)!r}"
                raise UserError(f"{given} is no pattern: {error}") from None


@dataclasses.dataclass(frozen=True)
class Phase:
    """One stretch of training: by layer the factor on the learning rate, 0 where it is frozen."""

    name: str
    multipliers: Mapping[str, float]  # every layer of the chain, in forward order
    settings: Settings

    def __post_init__(self):
        takes(isinstance(self.settings, Settings), "a phase's settings=", "Settings", self.settings)
        for layer, rate in self.multipliers.items():
            takes_type(f"the multiplier of {layer!r}", float, rate)
            takes(0 <= rate < math.inf, f"the multiplier of {layer!r}", "a number from 0 on", rate)

    def require_layers(self, names: Collection[str]) -> None:
        """UserError unless the phase has a multiplier for each of these layers, and trains one."""
        for layer in self.multipliers:
            if layer not in names:
                raise unknown(f"layer of phase {self.name!r}", layer, names, ordered=True)
        if missing := [name for name in names if name not in self.multipliers]:
            raise UserError(f"phase {self.name!r} has no multiplier for {', '.join(missing)}")
        remat = self.settings.remat
        if remat and not any(re.search(remat, name) for name in names):
            raise UserError(f"remat={remat!r} fits no layer; there are {', '.join(names)}")
        if not self.trained:
            raise UserError(f"phase {self.name!r} trains no layer: give one a multiplier above 0")

    def with_tail(
        self, tail: Mapping[str, Collection[str]], new: Sequence[str], *, kept: bool, alone: bool
    ) -> "Phase":
        """See `Plan.with_tail`; `kept`: no phase trains the classifier."""
        head, trained = new[-1], set(self.trained)
        rate = max(self.multipliers.values()) if kept else self.multipliers.get(head, 0.0)
        own = {name: rate if alone or trained & set(below) else 0.0 for name, below in tail.items()}
        rates = {**own, **self.multipliers}
        below = [name for name in rates if name not in {*tail, *new}]
        leaves = self.settings.leaves
        if leaves and re.search(leaves, f"{head}/"):  # the whole head, of others a part
            leaves = "|".join([*(f"^{name}/" for name in tail), leaves])
        return dataclasses.replace(
            self,
            multipliers={name: rates[name] for name in (*below, *new, *tail) if name in rates},
            settings=dataclasses.replace(self.settings, leaves=leaves),
        )

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the layers that learn, in forward order."""
        return tuple(name for name, m in self.multipliers.items() if m > 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A list of phases, run in order. `start`: the weights that the base's layers begin from.

    They are the "pretrained" ones; "fresh" ones; or "redrawn": normal, with the mean and standard
    deviation of each pretrained array, which keeps its scale and none of its features (Raghu et al.
    2019, arXiv:1902.07208, section 4).
    """

    name: str
    phases: tuple[Phase, ...]
    start: str = "pretrained"

    def __post_init__(self):
        if self.start not in STARTS:
            raise unknown("start", self.start, STARTS)
        takes(isinstance(self.phases, tuple | list), "phases=", "a tuple of phases", self.phases)
        if not self.phases:
            raise UserError(f"the plan {self.name!r} has no phases")
        names = [phase.name for phase in self.phases]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"phases of a plan have different names; repeated: {repeated}")

    def with_tail(
        self, tail: Mapping[str, Collection[str]], new: Sequence[str], *, alone: bool = False
    ) -> "Plan":
        """The plan for a chain with a `tail` beside the layers of the head, `new`.

        `tail` has the layers that the output of each depends on. They learn in phases that train
        one of those, at the classifier's rate (at the largest, if no phase trains the classifier),
        unless a phase names them. On frozen features nothing that they learn would reach the head,
        and of a gradient that is 0 but for rounding Adam would make steps. `alone`: heads of tasks
        of their own learn there too.
        """
        kept = not any(new[-1] in phase.trained for phase in self.phases)
        phases = tuple(phase.with_tail(tail, new, kept=kept, alone=alone) for phase in self.phases)
        return dataclasses.replace(self, phases=phases)


def lengthened(plan: Plan, least: int, *, steps: int) -> Plan:
    """Return the plan with so many epochs that it makes `least` steps, spread evenly over its
    phases, where an epoch has so many `steps`; phases that have more epochs keep them.
    """
    epochs = math.ceil(least / len(plan.phases) / steps)
    phases = []
    for phase in plan.phases:
        longer = dataclasses.replace(phase.settings, epochs=max(phase.settings.epochs, epochs))
        phases.append(dataclasses.replace(phase, settings=longer))
    return dataclasses.replace(plan, phases=tuple(phases))
