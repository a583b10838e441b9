"""How to transfer: phases, and the strategies that make them.

A strategy is a pure function from layer names to phases: no parameters and no optimizer in it.
"""

import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax import registry
from tl_jax.data import views
from tl_jax.errors import UserError, takes, takes_type, takes_types, unknown

CHOICES = {
    "batch_norm": ("frozen", "batch", "recalibrate"),
    "views": tuple(views.COUNTS),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a phase trains, whatever its layers."""

    epochs: int = 10
    learning_rate: float = 1e-3  # the schedule's peak
    # adamw, sgd (Nesterov momentum 0.9), as in sgd(momentum=0.8); from Python any optax
    # transformation too
    optimizer: Any = "adamw"
    # constant, cosine, warmup_cosine(warmup=0.1), one_cycle, slanted_triangular(cut=0.1, ratio=32);
    # from Python any function (peak, steps) -> optax schedule too
    schedule: Any = "cosine"
    weight_decay: float = 1e-4  # decoupled; kernels only
    clip: float = 1.0  # largest norm of the trained layers' gradients; 0: no clipping
    batch_norm: str = "frozen"  # of trained layers: running statistics kept, batch's, re-estimated
    leaves: str = ""  # pattern of the parameters that learn inside trained layers, as "bias$"; all
    views: str = "none"  # numbered views: flip (2), flips (4: both ways), dihedral (8: turns)
    augment: Any = ""  # random augmentation of pixels in the step, as "crop+flip+mixup(0.2)"; none
    accumulate: int = 1  # parts in which a batch is run, where it does not fit the memory whole
    # metric that selects the epoch whose weights are kept: val_loss, val_accuracy, ... or last;
    # empty: the objective's own, of a classification val_accuracy
    best_by: str = ""
    patience: int = 0  # epochs without a better one before stopping; 0: never stop early

    def __post_init__(self):
        # Here, not above: optax takes a second to import, and a config is read without it.
        from tl_jax.plans import schedules

        takes_types(self)
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise unknown(field, getattr(self, field), known)
        for field in ("optimizer", "schedule"):
            schedules.require(getattr(self, field), field)
        if self.epochs < 1 or not 0 < self.learning_rate < math.inf:  # nor is NaN
            raise UserError(
                f"a phase needs epochs >= 1 and a finite learning_rate > 0; "
                f"got {self.epochs} and {self.learning_rate}"
            )
        if not all(value >= 0 for value in (self.weight_decay, self.clip, self.patience)):
            raise UserError("weight_decay, clip and patience must not be negative")
        if self.accumulate < 1:
            raise UserError(f"accumulate is at least 1 part of a batch; got {self.accumulate}")
        try:
            re.compile(self.leaves)
        except re.error as error:
            raise UserError(f"leaves={self.leaves!r} is no pattern: {error}") from None


Names = Sequence[str]


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

    def require_layers(self, names: Names) -> None:
        """UserError unless the phase has a multiplier for each of these layers, and trains one."""
        for layer in self.multipliers:
            if layer not in names:
                raise unknown(f"layer of phase {self.name!r}", layer, names, ordered=True)
        if missing := [name for name in names if name not in self.multipliers]:
            raise UserError(f"phase {self.name!r} has no multiplier for {', '.join(missing)}")
        if not self.trained:
            raise UserError(f"phase {self.name!r} trains no layer: give one a multiplier above 0")

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the layers that learn, in forward order."""
        return tuple(name for name, m in self.multipliers.items() if m > 0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A list of phases, run in order; `pretrained` False starts the base's layers afresh."""

    name: str
    phases: tuple[Phase, ...]
    pretrained: bool = True

    def __post_init__(self):
        takes(isinstance(self.phases, tuple | list), "phases=", "a tuple of phases", self.phases)
        if not self.phases:
            raise UserError(f"the plan {self.name!r} has no phases")
        names = [phase.name for phase in self.phases]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"phases of a plan have different names; repeated: {repeated}")


Where = str | float  # a layer, or the share of the layers that are below


def head_only(names: Names, *, new: Names, train_head: Settings) -> Plan:
    """The base as a fixed feature extractor: only the new layers learn."""
    return Plan("head_only", (_phase("head", names, new, train_head),))


def head_then_fine_tune(
    names: Names, *, new: Names, train_head: Settings, tune: Settings, from_layer: Where
) -> Plan:
    """The seven steps: train the head on the frozen base, then unfreeze from `from_layer` up."""
    top = _from(names, from_layer)
    phases = (_phase("head", names, new, train_head), _phase("fine_tune", names, top, tune))
    return Plan("head_then_fine_tune", phases)


def fine_tune_top(names: Names, *, tune: Settings, from_layer: Where) -> Plan:
    """Head and top layers at once, from `from_layer` up; the layers below stay frozen."""
    return Plan("fine_tune_top", (_phase("fine_tune", names, _from(names, from_layer), tune),))


def discriminative(
    names: Names,
    *,
    new: Names,
    weightless: Names = (),
    train_head: Settings,
    tune: Settings,
    from_layer: Where,
    factor: float = 3.0,
    by: str = "stage",
) -> Plan:
    """Head first, then each earlier group of layers at a rate `factor` times smaller.

    Groups are what `by` says: each "layer" one, or "stage": layer names up to the first underscore,
    and mixed_5, mixed_6, ... Layers without parameters, such as pools, are no group. Howard & Ruder
    2018 (ULMFiT, arXiv:1801.06146, section 3.2) take 2.6 from layer to layer.
    """
    if not factor > 1:
        raise UserError(f"factor is above 1: earlier layers learn more slowly; got {factor}")
    if by not in ("layer", "stage"):
        raise unknown("by", by, ("layer", "stage"))
    rates = dict.fromkeys(names, 0.0)
    rate, group = 1.0, None
    for name in reversed(_from(names, from_layer)):
        if name in new:
            rates[name] = 1.0
            continue
        own = name if by == "layer" else _group(name)
        if own != group and name not in weightless:
            rate, group = rate / factor, own
        rates[name] = rate
    phases = (_phase("head", names, new, train_head), Phase("fine_tune", rates, tune))
    return Plan("discriminative", phases)


def full(names: Names, *, tune: Settings) -> Plan:
    """Every layer learns from the first step on."""
    return Plan("full", (_phase("full", names, names, tune),))


def from_scratch(names: Names, *, tune: Settings) -> Plan:
    """Every layer learns, from fresh weights: what transfer is measured against."""
    return Plan("from_scratch", (_phase("from_scratch", names, names, tune),), pretrained=False)


STRATEGIES: dict[str, Callable[..., Plan]] = {
    f.__name__: f
    for f in (head_only, head_then_fine_tune, fine_tune_top, discriminative, full, from_scratch)
}


def register_plan(strategy: Callable[..., Plan]) -> Callable[..., Plan]:
    """Add a function `(names, *, new, ...) -> Plan` to the plans, under its own name.

    `names` are the layers in forward order, `new` those of the head, `weightless` those without
    parameters; the last two are given to a function that asks for them. Its other parameters are
    settings of a transfer: `from_layer`, `factor`, phases' `train_head` and `tune`, or its own.
    """
    return registry.register(STRATEGIES, "plan")(strategy)


# What a strategy is given; its other parameters are its settings.
GIVEN = ("names", "new", "weightless")


def options() -> dict[str, Any]:
    """Every setting of any strategy, with its default; `inspect.Parameter.empty` where none."""
    found: dict[str, Any] = {}
    for strategy in STRATEGIES.values():
        for name, parameter in inspect.signature(strategy).parameters.items():
            if name not in GIVEN and found.get(name, parameter.empty) is parameter.empty:
                found[name] = parameter.default
    return found


def make_plan(
    strategy: str | Callable[..., Plan],
    names: Names,
    *,
    new: Names,
    weightless: Names = (),
    options: Mapping[str, Any],
) -> Plan:
    """The plan of a strategy, or of the one of that name, for a chain of layers `names`.

    `new` are the layers of the head, `weightless` those without parameters. `options` may hold more
    than this strategy asks for; what it asks for must be there.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise unknown("plan", strategy, STRATEGIES)
        strategy = STRATEGIES[strategy]
    takes(callable(strategy), "plan=", "a name, a Plan or a function that makes one", strategy)
    parameters = inspect.signature(strategy).parameters
    wanted = {name: p for name, p in parameters.items() if name not in GIVEN}
    known = {k: v for k, v in options.items() if k in wanted and v not in (None, "")}
    needed = [name for name, p in wanted.items() if p.default is p.empty and name not in known]
    if needed:
        raise UserError(f"plan {strategy.__name__!r} needs {', '.join(sorted(needed))}")
    for name, value in known.items():
        takes_type(f"{name}=", wanted[name].annotation, value)
    given = {"new": new, "weightless": weightless}
    given = {name: value for name, value in given.items() if name in parameters}
    return strategy(names, **given, **known)


def _phase(name: str, names: Names, trained: Names, settings: Settings) -> Phase:
    return Phase(name, {n: 1.0 if n in trained else 0.0 for n in names}, settings)


def _from(names: Names, lowest: Where) -> Names:
    """The layers from `lowest` up: a name, or the share of all layers that are below it."""
    if not isinstance(lowest, str) or re.fullmatch(r"0?\.\d+|0", lowest):
        if not 0 <= float(lowest) < 1:
            raise UserError(f"from_layer is a layer, or a share from 0 to below 1; got {lowest}")
        # At least the last layer: a share near 1 rounds to all layers, which leaves none to learn.
        return names[min(round(float(lowest) * len(names)), len(names) - 1) :]
    if lowest not in names:
        raise unknown("layer", lowest, names)
    return names[list(names).index(lowest) :]


def _group(name: str) -> str:
    return re.findall(r"mixed_\d+|[^_]*", name)[0]
