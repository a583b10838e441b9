"""Strategies: pure functions from layer names to the phases of a plan.

No parameters and no optimizer are in them. What each takes besides the names are its settings.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tl_jax import registry
from tl_jax.errors import UserError, takes, takes_type, unknown
from tl_jax.plans.plan import Phase, Plan, Settings

Names = Sequence[str]
Where = str | float  # a layer, or the share of the layers that are below
ORDERS = ("top", "middle")


def head_only(names: Names, *, new: Names, train_head: Settings) -> Plan:
    """The base as a fixed feature extractor: only the new layers learn."""
    return Plan("head_only", (_phase("head", names, new, train_head),))


def head_then_fine_tune(
    names: Names, *, new: Names, train_head: Settings, tune: Settings, from_layer: Where
) -> Plan:
    """The seven steps: train the head on the frozen base, then unfreeze from `from_layer` up.

    >>> layers, how = ("stem", "stage1", "stage2", "head"), Settings()
    >>> same = {"new": ("head",), "train_head": how, "tune": how, "from_layer": "stage2"}
    >>> [(phase.name, phase.trained) for phase in head_then_fine_tune(layers, **same).phases]
    [('head', ('head',)), ('fine_tune', ('stage2', 'head'))]
    """
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
    groups = _groups(_from(names, from_layer), new, weightless, by)
    rates = _rates(names, new, groups, factor)
    phases = (_phase("head", names, new, train_head), Phase("fine_tune", rates, tune))
    return Plan("discriminative", phases)


def gradual_unfreezing(
    names: Names,
    *,
    new: Names,
    weightless: Names = (),
    train_head: Settings,
    tune: Settings,
    from_layer: Where,
    factor: float = 3.0,
    by: str = "stage",
    order: str = "top",
) -> Plan:
    """The head, then a phase for each group of layers that joins those which learn already.

    `order`: "top" unfreezes the highest group first, "middle" the middle one and then its
    neighbours outwards. Groups and rates are those of `discriminative`; a factor of 1 gives all the
    same rate. `tune` is one phase's settings. Howard & Ruder 2018 (ULMFiT, arXiv:1801.06146,
    section 3.3): an epoch a layer, from the top, with a factor of 2.6 and slanted triangular rates.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    groups = _groups(_from(names, from_layer), new, weightless, by)
    rates = _rates(names, new, groups, factor)
    middle = len(groups) // 2
    later = range(1, len(groups))  # the first group has no parameters
    if order == "middle":
        later = sorted(later, key=lambda number: (abs(number - middle), number))
    phases, learning = [_phase("head", names, new, train_head)], {*new, *groups[0]}
    for number in later:
        learning |= set(groups[number])
        own = {name: rate if name in learning else 0.0 for name, rate in rates.items()}
        phases.append(Phase(f"unfreeze_{_label(groups[number], by)}", own, tune))
    return Plan("gradual_unfreezing", tuple(phases))


def one_block(
    names: Names, *, new: Names, train_head: Settings, tune: Settings, block: str
) -> Plan:
    """The head, then the head and one block of the base: surgical fine-tuning (Lee et al. 2023,
    arXiv:2210.11466). `block`: a layer, a stage as "stage2", or a range as "stage2:stage4".
    """
    phases = (
        _phase("head", names, new, train_head),
        _phase("fine_tune", names, {*_block(names, block), *new}, tune),
    )
    return Plan("one_block", phases)


def norms_only(names: Names, *, new: Names, train_head: Settings, tune: Settings) -> Plan:
    """The head, then the head and the scales and biases of all norms (TENT's parameters; Wang et
    al. 2021, arXiv:2006.10726).
    """
    return _leaves_only("norms_only", r"(^|/)norm/(scale|bias)$", names, new, train_head, tune)


def biases_only(names: Names, *, new: Names, train_head: Settings, tune: Settings) -> Plan:
    """The head, then the head and all biases, those of norms included: BitFit (Ben Zaken et al.
    2022, arXiv:2106.10199).
    """
    return _leaves_only("biases_only", r"(^|/)bias$", names, new, train_head, tune)


def adapters_only(
    names: Names, *, new: Names, adapters: Names = (), train_head: Settings, tune: Settings
) -> Plan:
    """The head, then the head and the adapters of the setting `adapters`: the base stays."""
    if not adapters:
        raise UserError("plan 'adapters_only' needs adapters, as adapters='lora(rank=4)'")
    phases = (
        _phase("head", names, new, train_head),
        _phase("adapters", names, {*adapters, *new}, tune),
    )
    return Plan("adapters_only", phases)


def features_only(names: Names, *, new: Names, tune: Settings, from_layer: Where = "") -> Plan:
    """Every layer but the classifier, the last of the head: it is the source's, to which features
    are adapted (SHOT, ADDA). The layers below `from_layer`, if it is given, stay frozen.
    """
    below = [name for name in _from(names, from_layer or 0) if name != new[-1]]
    return Plan("features_only", (_phase("features", names, below, tune),))


def chain_thaw(
    names: Names, *, new: Names, weightless: Names = (), train_head: Settings, tune: Settings
) -> Plan:
    """The head, then each layer of the base alone, from the lowest up, then everything at once
    (Felbo et al. 2017, arXiv:1708.00524). `tune` is one phase's settings.
    """
    alone = [name for name in names if name not in {*new, *weightless}]
    phases = [_phase("head", names, new, train_head)]
    phases += [_phase(f"thaw_{name}", names, [name], tune) for name in alone]
    return Plan("chain_thaw", (*phases, _phase("full", names, names, tune)))


def full(names: Names, *, tune: Settings) -> Plan:
    """Every layer learns from the first step on."""
    return Plan("full", (_phase("full", names, names, tune),))


def full_discriminative(
    names: Names,
    *,
    new: Names,
    weightless: Names = (),
    tune: Settings,
    factor: float = 3.0,
    by: str = "stage",
) -> Plan:
    """Every layer learns from the first step on, each earlier group at a rate `factor` times
    smaller: `discriminative` without a phase for the head.
    """
    rates = _rates(names, new, _groups(names, new, weightless, by), factor)
    return Plan("full_discriminative", (Phase("full", rates, tune),))


def from_scratch(names: Names, *, tune: Settings) -> Plan:
    """Every layer learns, from fresh weights: what transfer is measured against."""
    return Plan("from_scratch", (_phase("from_scratch", names, names, tune),), start="fresh")


def redrawn(names: Names, *, tune: Settings) -> Plan:
    """Every layer learns, from weights of the pretrained scale: what transfer gives besides
    features.
    """
    return Plan("redrawn", (_phase("redrawn", names, names, tune),), start="redrawn")


STRATEGIES: dict[str, Callable[..., Plan]] = {
    f.__name__: f
    for f in (
        *(head_only, head_then_fine_tune, fine_tune_top, discriminative, gradual_unfreezing),
        *(one_block, chain_thaw, norms_only, biases_only, adapters_only, features_only),
        *(full, full_discriminative, from_scratch, redrawn),
    )
}


def register_plan(strategy: Callable[..., Plan]) -> Callable[..., Plan]:
    """Add a function `(names, *, new, ...) -> Plan` to the plans, under its own name.

    `names` are the layers in forward order, `new` those of the head, `weightless` those without
    parameters, `adapters` those beside others; the last three are given to a function that asks for
    them. Its other parameters are settings of a transfer: `from_layer`, `factor`, phases'
    `train_head` and `tune`, or its own.
    """
    return registry.register(STRATEGIES, "plan")(strategy)


# What a strategy is given; its other parameters are its settings.
GIVEN = ("names", "new", "weightless", "adapters")


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
    adapters: Names = (),
    options: Mapping[str, Any],
) -> Plan:
    """Return the plan of a strategy, or of the one of that name, for a chain of layers `names`.

    `new` are the layers of the head, `weightless` those without parameters, `adapters` those beside
    others that hold an update of theirs. `options` may hold more than this strategy asks for; what
    it asks for must be there.
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
    given = {"new": new, "weightless": weightless, "adapters": adapters}
    given = {name: value for name, value in given.items() if name in parameters}
    return strategy(names, **given, **known)


def _phase(
    name: str, names: Names, trained: Collection[str], settings: Settings
) -> Phase:
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


def _block(names: Names, spec: str) -> Names:
    """The layers from the first of one layer or stage to the last of another, or of one."""
    first, _, last = spec.partition(":")
    ends = {}
    for end in {first, last or first}:
        ends[end] = [i for i, name in enumerate(names) if end in (name, _stage(name))]
        if not ends[end]:
            raise unknown("block", end, [*dict.fromkeys(map(_stage, names)), *names], ordered=True)
    lowest, highest = ends[first][0], ends[last or first][-1]
    if highest < lowest:
        raise UserError(f"block {spec!r} ends below its beginning: from the lower to the higher")
    return names[lowest : highest + 1]


def _leaves_only(
    plan: str, pattern: str, names: Names, new: Names, train_head: Settings, tune: Settings
) -> Plan:
    """The head, then all of the head and the parameters of every layer that match."""
    if tune.leaves:
        raise UserError(f"plan {plan!r} says which parameters learn: leave tune.leaves empty")
    heads = "|".join(f"^{re.escape(name)}/" for name in new)
    own = dataclasses.replace(tune, leaves=f"{heads}|{pattern}")
    phases = _phase("head", names, new, train_head), _phase("fine_tune", names, names, own)
    return Plan(plan, phases)


def _groups(names: Names, new: Names, weightless: Names, by: str) -> list[list[str]]:
    """The layers below the head by group, the highest first.

    Layers without parameters, such as pools, go with the group above them; the first group is of
    those that have none above.
    """
    if by not in ("layer", "stage"):
        raise unknown("by", by, ("layer", "stage"))
    groups: list[list[str]] = [[]]
    last = None
    for name in reversed([name for name in names if name not in new]):
        own = name if by == "layer" else _stage(name)
        if own != last and name not in weightless:
            groups.append([])
            last = own
        groups[-1].append(name)
    return groups


def _rates(names: Names, new: Names, groups: list[list[str]], factor: float) -> dict[str, float]:
    """1 for the head, a `factor` less from group to group, 0 for layers that are in none."""
    if not factor >= 1:
        raise UserError(f"factor is at least 1: earlier layers learn no faster; got {factor}")
    by_layer = {name: factor**-number for number, group in enumerate(groups) for name in group}
    return {name: 1.0 if name in new else by_layer.get(name, 0.0) for name in names}


def _label(group: list[str], by: str) -> str:
    """What a group is called: its highest layer with parameters, or that one's stage."""
    return group[0] if by == "layer" else _stage(group[0])


def _stage(name: str) -> str:
    """Layer names up to the first underscore, and mixed_5, mixed_6, ..."""
    return re.findall(r"mixed_\d+|[^_]*", name)[0]
