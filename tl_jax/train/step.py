"""The step: `update` turns a state and a batch into the next state, whatever the objective.

One function serves a run on any number of devices, many runs in one program, and `pmap`.
"""

import functools
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain import variables as leaves_of
from tl_jax.chain.network import Net
from tl_jax.chain.variables import overlaid, select
from tl_jax.engine.parallel import Parallel
from tl_jax.plans import norms
from tl_jax.plans.plan import Phase
from tl_jax.train import optim
from tl_jax.train.objective import Loss, Now, Term, Turn, mean
from tl_jax.train.problem import Setup

_AUGMENT, _OBJECTIVE, _NORM = map(zlib.crc32, (b"augmentation", b"objective", b"batch norm"))


class Recipe(NamedTuple):
    """What a step is compiled for; runs that differ in seed, rates or data share the program."""

    setup: Setup
    multipliers: tuple[tuple[str, float], ...]  # of the trained layers, in forward order
    optimizer: Any = "adamw"
    clip: float = 1.0
    batch_norm: str = "frozen"  # "batch": trained layers normalise by the batch
    leaves: str = ""  # pattern of the parameters that are trained inside these layers
    augment: Callable[[Any, Any], Any] | None = None  # (key, batch) -> batch, on raw inputs
    accumulate: int = 1  # number of parts of a batch that run one after the other
    running: float = 0.0  # with "batch": each channel's probability of running statistics instead
    remat: str = ""  # pattern of the layers that the backward pass runs again

    def factors(self, params: Mapping[str, Any]) -> dict[str, float]:
        """Return the multipliers of the trained layers that `params` has."""
        return {name: factor for name, factor in self.multipliers if name in params}

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of the trained layers, in forward order."""
        return tuple(name for name, _ in self.multipliers)

    def of_trained(self, variables: Any) -> dict[str, Any]:
        """Return the variables that change: {"params": trained leaves, "batch_stats": ...}."""
        params, stats = select(variables, self.trained).values()
        if self.leaves:
            flat = leaves_of.flat(params)
            chosen = {path: leaf for path, leaf in flat.items() if re.search(self.leaves, path)}
            params = leaves_of.nested(chosen)
        return {"params": params, "batch_stats": stats}


def recipe(setup: Setup, phase: Phase, augment: Callable | None = None) -> Recipe:
    """Return the recipe of a phase's steps."""
    settings = phase.settings
    norm = norms.make(settings.batch_norm)
    return Recipe(
        setup,
        tuple((name, factor) for name, factor in phase.multipliers.items() if factor > 0),
        settings.optimizer,
        settings.clip,
        "batch" if norm.by_batch else "frozen",
        settings.leaves,
        augment,
        settings.accumulate,
        norm.running,
        settings.remat,
    )


class State(NamedTuple):
    """The arrays that a step takes and returns; checkpoints hold all of them."""

    params: Any  # {layer: tree of the trained leaves}
    batch_stats: Any  # {layer: tree} of the trained layers
    optimizer: Any  # {layer: state}
    average: Any  # {"params", "batch_stats"}: their average over steps, or ()
    memory: Any  # the memory of the objective
    step: jax.Array  # steps since the run began
    sums: Any  # {term: (sum, weight, scaled sum)} over this epoch
    bad: jax.Array  # the first step whose loss was not finite; -1: none


def evaluated(setup: Setup, state: State) -> dict[str, Any]:
    """Return the variables that are evaluated and handed on: the trained ones or their average."""
    if setup.objective.evaluates == "average":
        return state.average
    return {"params": state.params, "batch_stats": state.batch_stats}


def update(recipe: Recipe, state: State, fixed: Mapping[str, Any], batch: Any) -> State:
    """Return the state after one step: for each turn the loss, gradients and update. Pure.

    `fixed` holds the values that the phase does not change: "params" and "batch_stats" of the
    layers that run, "rates" (S,) by step of the phase, "first", the step at which the phase began,
    "decay", "key", and, if the objective asks for it, "anchor", the run's first variables. `batch`:
    {"inputs": Known, "targets": (B, ...), "weights": (B,), ...}, or such a dictionary by source.
    """
    objective, parallel = recipe.setup.objective, recipe.setup.parallel
    key = jax.random.fold_in(jax.random.wrap_key_data(fixed["key"]), state.step)
    if recipe.augment is not None:
        batch = recipe.augment(parallel.key(jax.random.fold_in(key, _AUGMENT)), batch)
    progress = (state.step - fixed["first"]) / fixed["rates"].shape[0]
    sums = {}
    for number, turn in enumerate(objective.turns):
        turn_key = key if number == 0 else jax.random.fold_in(key, number)
        drawn = parallel.key(jax.random.fold_in(turn_key, _OBJECTIVE))
        now = Now(drawn, progress, turn.name, fixed["rates"].shape[0])
        state, terms = _turn(recipe, state, fixed, batch, turn_key, turn, now)
        named = {term_name(objective.turns, turn, name): term for name, term in terms.items()}
        sums |= {name: (t.sum, t.weight, t.scale * t.sum) for name, t in named.items()}
    if objective.average is not None:
        rate = objective.average(Now(key, progress, "", fixed["rates"].shape[0]))
        weights = {"params": state.params, "batch_stats": state.batch_stats}
        moved = jax.tree.map(lambda a, p: a + rate * (p - a), state.average, weights)
        state = state._replace(average=moved)
    added = jax.tree.map(jnp.add, state.sums, sums)
    return state._replace(step=state.step + 1, sums=added)


def term_name(turns: tuple[Turn, ...], turn: Turn, name: str) -> str:
    """Return a term's name in an epoch's row: prefixed by its turn's name if there are several."""
    return name if len(turns) == 1 else f"{turn.name}_{name}"


def _turn(
    recipe: Recipe, state: State, fixed: Any, batch: Any, key: Any, turn: Turn, now: Now
) -> tuple[State, dict[str, Term]]:
    """Return the state after one update, and its terms; those that are only logged have scale 0."""
    objective, parallel = recipe.setup.objective, recipe.setup.parallel
    mine = {name: tree for name, tree in state.params.items() if turn.trains(name)}

    def values(mine):
        params = {**state.params, **mine}
        carry, loss = _parts(recipe, state, params, fixed, batch, key, now)
        # Divide the loss, not the gradients, which would take one more pass over each.
        weights = {n: jax.lax.stop_gradient(parallel.sum(t.weight)) for n, t in loss.terms.items()}
        scaled = {n: t.scale * mean(Term(t.sum, weights[n])) for n, t in loss.terms.items()}
        return scaled, (carry, loss)

    scaled, pullback, ((memory, stats), loss) = jax.vjp(values, mine, has_aux=True)
    if objective.resolve is not None:
        one = {n: {m: jnp.ones_like(x) * (m == n) for m, x in scaled.items()} for n in scaled}
        gradients = {n: parallel.sum(pullback(o)[0]) for n, o in one.items()}
        gradient, memory = objective.resolve(gradients, parallel.sum(scaled), memory, now)
    else:
        gradient = parallel.sum(pullback(jax.tree.map(jnp.ones_like, scaled))[0])
    if recipe.clip:
        clip = optax.clip_by_global_norm(recipe.clip)
        gradient, _ = clip.update(gradient, clip.init(gradient))
    factors = recipe.factors(mine)
    transformation = optim.transformation(recipe.optimizer, factors, fixed["decay"])
    moved, optimizer = optim.update(transformation, gradient, state.optimizer, state.params)
    rate = fixed["rates"][state.step - fixed["first"]]
    params = jax.tree.map(lambda p, u: p - rate * u, mine, moved)
    finite = _finite(parallel.sum(sum(scaled.values())), gradient)
    total = {n: _whole(parallel, term) for n, term in loss.terms.items()}
    logs = {n: _whole(parallel, term)._replace(scale=0.0) for n, term in loss.logs.items()}
    return state._replace(
        params={**state.params, **params},
        batch_stats=stats,
        optimizer=optimizer,
        memory=memory,
        bad=jnp.where((state.bad < 0) & ~finite, state.step, state.bad),
    ), jax.lax.stop_gradient({**total, **logs})


def _whole(parallel: Parallel, term: Term) -> Term:
    """Return the term of the whole batch, summed over devices that may see only parts of it."""
    total, weight = parallel.sum((term.sum, term.weight))
    return Term(total, weight, term.scale)


def _parts(recipe, state, params, fixed, batch, key, now) -> tuple[tuple[Any, Any], Loss]:
    """Return (memory, statistics) after a batch, and the batch's loss with terms in float32.

    If the batch runs in several parts, their sums and weights are added up before the division, so
    that parts of unequal weight stay exact. The backward pass runs each part again.
    """

    def part(carry, numbered):
        (memory, stats), (batch, number) = carry, numbered
        part_key, moment = key, now
        if recipe.accumulate > 1:
            part_key, drawn = (jax.random.fold_in(k, number) for k in (key, now.key))
            moment = now._replace(key=drawn)
        net = bound(recipe, state, params, stats, fixed, part_key)
        loss = recipe.setup.objective.loss(net, batch, memory, moment)
        terms, logs = (
            {n: Term(*map(jnp.float32, t)) for n, t in each.items()}
            for each in (loss.terms, loss.logs)
        )
        moved = {name: net.stats[name] for name in state.batch_stats}
        return jax.lax.stop_gradient((loss.memory, moved)), (terms, logs)

    first = state.memory, state.batch_stats
    if recipe.accumulate == 1:
        carry, (terms, logs) = part(first, (batch, 0))
    else:  # strided, because consecutive examples may all lie on one device
        parts = recipe.accumulate
        split = jax.tree.map(lambda a: a.reshape(-1, parts, *a.shape[1:]).swapaxes(0, 1), batch)
        carry, stacked = jax.lax.scan(jax.checkpoint(part), first, (split, jnp.arange(parts)))
        add = functools.partial(
            jax.tree.map,
            lambda t: Term(t.sum.sum(), t.weight.sum(), t.scale.mean()),
            is_leaf=lambda t: isinstance(t, Term),
        )
        terms, logs = add(stacked)
    return carry, Loss(terms, carry[0], logs)


def bound(recipe: Recipe, state: State, params: Any, stats: Any, fixed: Any, key: Any) -> Net:
    """Return the network of a step: trained layers in training mode, with views of the weights."""
    setup = recipe.setup
    normed = recipe.trained if recipe.batch_norm == "batch" else ()
    # Channels are of the whole batch, so all devices draw the same; examples are of one device.
    channels = jax.random.fold_in(key, _NORM)
    key = setup.parallel.key(key)

    def views(name: str) -> tuple[Any, Any]:
        if name == "anchor":
            return setup.cast(fixed["anchor"]["params"]), fixed["anchor"]["batch_stats"]
        params = overlaid(fixed["params"], state.average["params"])
        return setup.cast(params), {**fixed["batch_stats"], **state.average["batch_stats"]}

    available = ["anchor"] * ("anchor" in fixed) + ["average"] * bool(state.average)
    return Net(
        setup.network,
        setup.cast(overlaid(fixed["params"], params)),
        {**fixed["batch_stats"], **stats},
        train=recipe.trained,
        norm=normed,
        running=(recipe.running, channels),
        key=key,
        remat=recipe.remat,
        views={name: views(name) for name in available},
        prepare=setup.prepare,
    )


def _finite(loss: Any, gradients: Any) -> Any:
    """Return whether the loss and the gradients of biases and norms are finite.

    These gradients are cheap to check and show a NaN in any layer; in the loss it may be missing,
    because oneDNN's ReLU and maximum above that layer can turn NaN into a number.
    """
    sums = [g.sum() for g in jax.tree.leaves(gradients) if g.ndim < 2]
    return jnp.isfinite(jnp.stack([loss, *(s.astype(loss.dtype) for s in sums)])).all()
