"""What an objective asks of the network: found by one abstract trace, which computes nothing.

The trace does not run layers either (`ShapeNet`). It costs only the trace of the objective's own
operations, so it can be repeated for every place that a phase might read.
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
    """What a phase's steps and predictions ask for, and what they return."""

    layers: tuple[str, ...]  # the layers whose weights they need, in forward order
    anchor: bool  # whether they ask for the run's first weights
    memory: Any  # the memory of the objective, as shapes
    terms: tuple[str, ...]  # the terms that a step logs
    minimised: tuple[str, ...]  # those among them that it minimises
    scores: tuple[str, ...]  # the scores of an evaluation
    streams: bool  # whether predictions carry values from batch to batch


class Places(NamedTuple):
    """The places where a phase may begin."""

    found: tuple[str, ...]  # frozen places whose stored outputs it may read, the highest first
    why: str  # why it cannot read a higher one; empty if it can
    survey: Survey | None  # from the highest of them
    shapes: Mapping[str, tuple[int, ...]]  # of each place's output for one example


def survey(recipe: Recipe, variables: Any, batch: Any, single: Any) -> Survey:
    """Return the survey of a training batch and a batch to predict, `single`, both as shapes.

    `variables` are the network's, or their shapes. Unreachable if the batches lack an input that is
    needed.
    """
    try:
        return _survey(recipe, variables, batch, single, anchor=False)
    except Unreachable as missing:
        if missing.place != "anchor":
            raise
        return _survey(recipe, variables, batch, single, anchor=True)


def places(recipe: Recipe, variables: Any, batch: Any, single: Any) -> Places:
    """Return the frozen places that steps and predictions can read instead of the raw inputs.

    A place is frozen if no trained layer lies below it or is tied to it. The trace runs without the
    inputs that the place is computed from; an objective that asks for one of them cannot read the
    place. A phase that can read a place can read all places below it too.
    """
    network, why = recipe.setup.network, ""
    trained, stores = set(recipe.trained), _storable(recipe, variables, single["inputs"])
    changing = [below for below in network.below.values() if below & trained]
    for layer in reversed(network.layers):
        if layer.name not in stores or network.below[layer.name] & trained:
            continue
        at = functools.partial(_shapes_at, network, layer.name, stores[layer.name])
        try:
            needs = survey(recipe, variables, at(batch), at(single))
        except Unreachable as missing:
            if any(layer.name in below for below in changing):  # else it would spare little
                why = why or f"it asks for {missing.place!r}, which {layer.name!r} is computed from"
            continue
        below = [n for n in reversed(network.names) if n in network.below[layer.name]]
        readable = tuple(name for name in below if name in stores)
        return Places(readable, why, needs, {name: stores[name].shape[1:] for name in readable})
    return Places((), why, None, {})


def _storable(recipe: Recipe, variables: Any, known: Known) -> dict[str, jax.ShapeDtypeStruct]:
    """Return shapes (1, ...) for one example of the outputs that can be stored, by layer.

    These are the layers that read something, can be computed from the inputs and return one array.
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

    outputs = jax.eval_shape(values, variables, one)
    return {name: value for name, value in outputs.items() if getattr(value, "ndim", 0)}


def taken_out(network: Any, known: Known, place: str) -> Known:
    """Return `known` without the inputs that `place` is computed from."""
    return Known({name: value for name, value in known.items() if name not in network.below[place]})


def _survey(recipe: Recipe, variables: Any, batch: Any, single: Any, *, anchor: bool) -> Survey:
    objective, asked = recipe.setup.objective, {}
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
            objective.refresh(lambda each, total: each(net, batch, total), memory, 0)
        predictions, carry = objective.predict(net, single, ())
        scores = objective.score(predictions, single)
        asked.update(
            terms=tuple(terms),
            minimised=tuple(minimised),
            scores=tuple(scores),
            streams=bool(jax.tree.leaves(carry)),
        )
        return first

    memory = jax.eval_shape(trace, variables, batch, single)
    return Survey(recipe.setup.network.weights(ran), anchor, memory, **asked)


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
    """Return a batch of shapes where the value at `place` replaces the inputs that it needs.

    `one` (1, ...) is the shape of that value for one example.
    """

    def replaced(node):
        gone = network.below[place] & set(node) if isinstance(node, Known) else ()
        if not gone:
            return node
        size = jax.tree.leaves(node[min(gone)])[0].shape[0]
        value = jax.ShapeDtypeStruct((size, *one.shape[1:]), one.dtype)
        return Known({**taken_out(network, node, place), place: value})

    return jax.tree.map(replaced, batch, is_leaf=lambda node: isinstance(node, Known))
