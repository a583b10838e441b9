"""Optax transformations of a phase; their state is kept by layer, so that phases can hand it on."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from tl_jax.plans import schedules
from tl_jax.plans.plan import Settings


def schedule(settings: Settings, total_steps: int) -> optax.Schedule:
    """Return the learning rate by step of the phase."""
    return schedules.schedule(settings.schedule, settings.learning_rate, total_steps)


def transformation(
    optimizer: str | optax.GradientTransformation,
    multipliers: Mapping[str, float],
    weight_decay: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Return the transformation of {layer: gradients} into directions of ascent, at a rate of 1.

    It is one `optax.partition` with a label for each layer of `multipliers`: every layer has its
    own optimizer state and multiplier, and its kernels decay.
    """
    by_layer: dict[Any, optax.GradientTransformation] = {
        name: optax.chain(
            schedules.direction(optimizer),
            optax.add_decayed_weights(weight_decay, mask=_kernels),
            optax.scale(factor),
        )
        for name, factor in multipliers.items()
    }
    return optax.partition(by_layer, lambda params: {name: name for name in params})


def update(
    transformation: optax.GradientTransformation,
    gradient: Mapping[str, Any],
    states: Mapping[str, Any],
    params: Mapping[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """Return directions for the layers of `gradient`, and `states` with their entries updated."""
    mine = {name: params[name] for name in gradient}
    if mine.keys() == states.keys():
        whole: dict[Any, Any] = dict(states)
        moved, new = _updated(transformation, gradient, optax.PartitionState(whole), mine)
        return moved, dict(new.inner_states)
    # A layer's state has an empty place for every other layer of the same `optax.partition`.
    template = jax.eval_shape(transformation.init, mine)
    inner = {name: _filled(template.inner_states[name], states[name]) for name in mine}
    partition = template._replace(inner_states=inner)
    moved, new = _updated(transformation, gradient, partition, mine)
    back = {name: _filled(states[name], new.inner_states[name]) for name in mine}
    return moved, {**states, **back}


def _updated(transformation: Any, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
    """Return the result of optax, whose types say that every state is a tree of arrays."""
    return transformation.update(gradient, state, params)


def begin(
    optimizer: str | optax.GradientTransformation, multipliers: Mapping[str, float], params: Any
) -> dict[str, Any]:
    """Return the first optimizer state, by layer.

    The optimizers that have a name begin with zeros. These are made on the host, because `init`
    would compile a program for every shape of the parameters.
    """
    if not isinstance(optimizer, str):
        state = transformation(optimizer, multipliers).init(params)
        return dict(jax.device_get(state).inner_states)
    empty = shapes(optimizer, multipliers, params)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), empty)


def shapes(
    optimizer: str | optax.GradientTransformation, multipliers: Mapping[str, float], params: Any
) -> dict[str, Any]:
    """Return the shapes of that state, from parameters or their shapes."""
    state = jax.eval_shape(transformation(optimizer, multipliers).init, params)
    return dict(state.inner_states)


def carry_over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `new` optimizer states, but the `old` ones of layers that were trained before."""
    return {n: _taken_over(state, old[n]) if n in old else state for n, state in new.items()}


def _taken_over(new: Any, old: Any) -> Any:
    """Return the state `old` of a layer if the same optimizer made it, else `new`."""

    def described(state: Any) -> list:
        leaves = jax.tree_util.tree_leaves_with_path(state)
        return [(path, np.shape(leaf)) for path, leaf in leaves]

    return _filled(new, old) if described(new) == described(old) else new


def _filled(state: Any, other: Any) -> Any:
    """Return the structure of `state` with the leaves of `other`."""
    return jax.tree.structure(state).unflatten(jax.tree.leaves(other))


def _kernels(params: Any) -> Any:
    """Return true for arrays that decay: those of two or more dimensions, so no biases or norms."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
