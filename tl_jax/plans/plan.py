"""How to transfer: phases, and the strategies that make them.

A strategy is a pure function from layer names to phases: no parameters and no optimizer in it.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tl_jax.data import views
from tl_jax.errors import UserError, unknown

CHOICES = {
    "optimizer": ("adamw", "sgd"),
    "schedule": ("constant", "cosine", "one_cycle"),
    "batch_norm": ("frozen", "batch", "recalibrate"),
    "views": tuple(views.COUNTS),
    "best_by": ("val_loss", "val_accuracy", "val_weighted_accuracy", "last"),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a phase trains, whatever its layers."""

    epochs: int = 10
    learning_rate: float = 1e-3
    optimizer: str = "adamw"  # sgd: Nesterov momentum 0.9
    schedule: str = "cosine"
    weight_decay: float = 1e-4  # decoupled; kernels only
    clip: float = 1.0  # largest norm of the trained layers' gradients; 0: no clipping
    batch_norm: str = "frozen"  # of trained layers: running statistics kept, batch's, re-estimated
    views: str = "none"  # augmentation: flip (2), flips (4: both ways), dihedral (8: turns)
    best_by: str = "val_loss"  # what the epoch is chosen by whose weights the phase hands on
    patience: int = 0  # epochs without a better one before stopping; 0: never stop early

    def __post_init__(self):
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise unknown(field, getattr(self, field), known)
        if self.epochs < 1 or not self.learning_rate > 0:  # NaN is not larger either
            raise UserError(
                f"a phase needs epochs >= 1 and learning_rate > 0; "
                f"got {self.epochs} and {self.learning_rate}"
            )
        if not all(value >= 0 for value in (self.weight_decay, self.clip, self.patience)):
            raise UserError("weight_decay, clip and patience must not be negative")


@dataclasses.dataclass(frozen=True)
class Phase:
    """One stretch of training: by layer the factor on the learning rate, 0 where it is frozen."""

    name: str
    multipliers: Mapping[str, float]  # every layer of the chain, in forward order
    settings: Settings

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the layers that learn, in forward order."""
        return tuple(name for name, m in self.multipliers.items() if m > 0)

    @property
    def prefix(self) -> str | None:
        """The last layer below the lowest trained one; None if the first layer is trained."""
        names = list(self.multipliers)
        lowest = names.index(self.trained[0])
        return names[lowest - 1] if lowest else None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A list of phases, run in order; `pretrained` False starts the base's layers afresh."""

    name: str
    phases: tuple[Phase, ...]
    pretrained: bool = True


Names = Sequence[str]


def head_only(names: Names, *, new: Names, head: Settings) -> Plan:
    """The base as a fixed feature extractor: only the new layers learn."""
    return Plan("head_only", (_phase("head", names, new, head),))


def head_then_fine_tune(
    names: Names, *, new: Names, head: Settings, tune: Settings, from_layer: str
) -> Plan:
    """The seven steps: train the head on the frozen base, then unfreeze from `from_layer` up."""
    top = _from(names, from_layer)
    phases = (_phase("head", names, new, head), _phase("fine_tune", names, top, tune))
    return Plan("head_then_fine_tune", phases)


def fine_tune_top(names: Names, *, tune: Settings, from_layer: str) -> Plan:
    """Head and top layers at once, from `from_layer` up; the layers below stay frozen."""
    return Plan("fine_tune_top", (_phase("fine_tune", names, _from(names, from_layer), tune),))


def discriminative(
    names: Names, *, new: Names, head: Settings, tune: Settings, from_layer: str, factor: float
) -> Plan:
    """Head first, then each earlier group of layers at a rate `factor` (3 to 10) times smaller.

    Groups are stages: layer names up to the first underscore, and mixed_5, mixed_6, ... Howard &
    Ruder 2018 (ULMFiT, arXiv:1801.06146, section 3.2) take 2.6 from layer to layer.
    """
    if not 3 <= factor <= 10:
        raise UserError(f"plan factor must be between 3 and 10; got {factor}")
    rates = dict.fromkeys(names, 0.0)
    rate, group = 1.0, None
    for name in reversed(_from(names, from_layer)):
        if name in new:
            rates[name] = 1.0
            continue
        if _group(name) != group:
            rate, group = rate / factor, _group(name)
        rates[name] = rate
    phases = (_phase("head", names, new, head), Phase("fine_tune", rates, tune))
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


def make_plan(name: str, names: Names, *, new: Names, options: Mapping[str, Any]) -> Plan:
    """The plan of the strategy `name` for a chain of layers `names`, of which `new` are the head.

    `options` may hold more than this strategy asks for; what it asks for must be there.
    """
    if name not in STRATEGIES:
        raise unknown("plan", name, STRATEGIES)
    wanted = set(inspect.signature(STRATEGIES[name]).parameters) - {"names", "new"}
    known = {k: v for k, v in options.items() if k in wanted}
    if missing := sorted(k for k in wanted if known.get(k) in (None, "")):
        raise UserError(f"plan {name!r} needs {', '.join('plan.' + k for k in missing)}")
    if "new" in inspect.signature(STRATEGIES[name]).parameters:
        known["new"] = new
    return STRATEGIES[name](names, **known)


def _phase(name: str, names: Names, trained: Names, settings: Settings) -> Phase:
    return Phase(name, {n: 1.0 if n in trained else 0.0 for n in names}, settings)


def _from(names: Names, lowest: str) -> Names:
    """The layers from `lowest` up: a name, or the share of all layers that are below it."""
    if re.fullmatch(r"0?\.\d+|0", lowest):
        return names[round(float(lowest) * len(names)) :]
    if lowest not in names:
        raise unknown("layer", lowest, names)
    return names[list(names).index(lowest) :]


def _group(name: str) -> str:
    return re.match(r"mixed_\d+|[^_]*", name)[0]
