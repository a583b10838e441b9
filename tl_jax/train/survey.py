"""What an objective asks of the network, found by one abstract trace: nothing is computed.

The trace runs no layer either (`ShapeNet`), so that it costs what the objective's own operations
cost to trace, and can be made for every place from which a phase might read.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net, Network, ShapeNet
from tl_jax.chain.places import Known, Unreachable
from tl_jax.train.objective import Now
from tl_jax.train.step import Recipe, term_name


class Survey(NamedTuple):
    """What a phase's steps and predictions ask for, and what they give."""

    layers: tuple[str, ...]  # whose weights they run with, in forward order
    anchor: bool  # whether they ask for the run's first weights
    memory: Any  # of the objective, as shapes
    terms: tuple[str, ...]  # what a step logs
    minimised: tuple[str, ...]  # of these, what it minimises
    scores: tuple[str, ...]  # what an evaluation says
    streams: bool  # whether predictions hand something on from batch to batch


class Places(NamedTuple):
    """Where a phase may begin."""

    found: tuple[str, ...]  # frozen places whose stored outputs it may read, the highest first
    why: str  # why it cannot read a higher one; empty if it can
    survey: Survey | None  # from the highest of them
    shapes: Mapping[str, tuple[int, ...]]  # of the output of each for one example


def survey(recipe: Recipe, variables: Any, batch: Any, single: Any) -> Survey:
    """The survey for a training batch and one to predict, as shapes; Unreachable if they do not do.

    `variables`: those of the network, or their shapes.
    """
    try:
        return _survey(recipe, variables, batch, single, anchor=False)
    except Unreachable as missing:
        if missing.place != "anchor":
            raise
        return _survey(recipe, variables, batch, single, anchor=True)


def places(recipe: Recipe, variables: Any, batch: Any, single: Any) -> Places:
    """The frozen places from which steps and predictions work without the raw inputs.

    A place is frozen if no trained layer lies below it or is tied to it. The inputs that it is made
    of are taken out of every `Known`; whatever still asks for them asks for a place further down.
    What works from a place works from those below it, from which it can be computed.
    """
    network, why = recipe.setup.network, ""
    trained, stores = set(recipe.trained), _storable(recipe, variables, single["inputs"])
    for layer in reversed(network.layers):
        if layer.name not in stores or network.below[layer.name] & trained:
            continue
        at = functools.partial(_shapes_at, network, layer.name, stores[layer.name])
        try:
            told = survey(recipe, variables, at(batch), at(single))
        except Unreachable as missing:
            why = why or f"it asks for {missing.place!r}, which {layer.name!r} is computed from"
            continue
        below = [n for n in reversed(network.names) if n in network.below[layer.name]]
        found = tuple(name for name in below if name in stores)
        return Places(found, why, told, {name: stores[name].shape[1:] for name in found})
    return Places((), why, None, {})


def _storable(recipe: Recipe, variables: Any, known: Known) -> dict[str, jax.ShapeDtypeStruct]:
    """Of the layers that read something, can be computed from the inputs and give one array, its
    shape for one example, (1, ...).
    """
    network = recipe.setup.network
    missing = set(network.inputs) - set(known)
    names = [
        layer.name
        for layer in network.layers
        if layer.reads and not network.below[layer.name] & missing
    ]
    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), known)

    def values(variables, known):
        net = _net(recipe, variables, {}, {})
        return dict(zip(names, net(known, names, train=False), strict=True))

    found = jax.eval_shape(values, variables, one)
    return {name: value for name, value in found.items() if getattr(value, "ndim", 0)}


def taken_out(network: Any, known: Known, place: str) -> Known:
    """The inputs of `known` that `place` is not made of."""
    return Known({name: value for name, value in known.items() if name not in network.below[place]})


def _survey(recipe: Recipe, variables: Any, batch: Any, single: Any, *, anchor: bool) -> Survey:
    objective, told = recipe.setup.objective, {}
    ran: dict[str, None] = {}

    def trace(variables, batch, single):
        key, now = jax.random.key(0), Now(jax.random.key(0), jnp.zeros(()), "")
        weights = variables["params"], variables["batch_stats"]
        views = {"anchor": weights} if anchor else {}
        views |= {"average": weights} if objective.average is not None else {}
        net = _net(recipe, variables, ran, views)
        if recipe.augment is not None:
            batch = recipe.augment(key, batch)
        first = memory = objective.begin(net, batch)
        terms, minimised = [], []
        for turn in objective.turns:
            moment = now._replace(turn=turn.name)
            loss = objective.loss(_net(recipe, variables, ran, views), batch, memory, moment)
            memory = loss.memory
            minimised += [term_name(objective.turns, turn, name) for name in loss.terms]
            named = {**loss.terms, **loss.logs}
            terms += [term_name(objective.turns, turn, name) for name in named]
        if objective.refresh is not None:
            objective.refresh(lambda each, total: each(net, batch, total), memory)
        predictions, carry = objective.predict(net, single, ())
        scores = objective.score(predictions, single)
        told.update(
            terms=tuple(terms),
            minimised=tuple(minimised),
            scores=tuple(scores),
            streams=bool(jax.tree.leaves(carry)),
        )
        return first

    memory = jax.eval_shape(trace, variables, batch, single)
    return Survey(recipe.setup.network.weights(ran), anchor, memory, **told)


def _net(recipe: Recipe, variables: Any, ran: dict[str, None], views: Mapping[str, Any]) -> Net:
    setup = recipe.setup
    return ShapeNet(
        setup.network,
        setup.cast(variables["params"]),
        variables["batch_stats"],
        views=views,
        prepare=setup.prepare,
        ran=ran,
    )


def _shapes_at(network: Network, place: str, one: jax.ShapeDtypeStruct, batch: Any) -> Any:
    """The batch with the value at `place`, `one` (1, ...) an example, in the stead of the inputs
    that it is made of; as shapes.
    """

    def replaced(node):
        gone = network.below[place] & set(node) if isinstance(node, Known) else ()
        if not gone:
            return node
        size = jax.tree.leaves(node[min(gone)])[0].shape[0]
        value = jax.ShapeDtypeStruct((size, *one.shape[1:]), one.dtype)
        return Known({**taken_out(network, node, place), place: value})

    return jax.tree.map(replaced, batch, is_leaf=lambda node: isinstance(node, Known))
