"""From a phase to optax transformations, with state by layer so that phases can hand it on."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from tl_jax.plans import schedules
from tl_jax.plans.plan import Settings


def schedule(settings: Settings, total_steps: int) -> optax.Schedule:
    """Learning rate by step of the phase."""
    return schedules.schedule(settings.schedule, settings.learning_rate, total_steps)


def transformation(
    optimizer: str | optax.GradientTransformation,
    multipliers: Mapping[str, float],
    weight_decay: Any = 0.0,
) -> optax.GradientTransformationExtraArgs:
    """Directions of ascent for {layer: gradients}, at a rate of 1.

    One `optax.partition` with a label for each layer of `multipliers`: every layer has an optimizer
    state of its own, its factor on the rate, and decay of its kernels.
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
    """Directions for the layers of `gradient`, and `states` in which only theirs have moved."""
    mine = {name: params[name] for name in gradient}
    if mine.keys() == states.keys():
        whole: dict[Any, Any] = dict(states)
        moved, new = _updated(transformation, gradient, optax.PartitionState(whole), mine)
        return moved, dict(new.inner_states)
    # Each layer's state has an empty place for every other layer it was made beside.
    template = jax.eval_shape(transformation.init, mine)
    own = {name: _filled(template.inner_states[name], states[name]) for name in mine}
    given = template._replace(inner_states=own)
    moved, new = _updated(transformation, gradient, given, mine)
    back = {name: _filled(states[name], new.inner_states[name]) for name in mine}
    return moved, {**states, **back}


def _updated(transformation: Any, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
    """What optax gives, in whose types every state is a tree of arrays."""
    return transformation.update(gradient, state, params)


def begin(
    optimizer: str | optax.GradientTransformation, multipliers: Mapping[str, float], params: Any
) -> dict[str, Any]:
    """The first optimizer state, by layer.

    Those of the house begin with zeros, made on the host: `init` would compile a program for every
    shape of the parameters.
    """
    if not isinstance(optimizer, str):
        made = transformation(optimizer, multipliers).init(params)
        return dict(jax.device_get(made).inner_states)
    of = shapes(optimizer, multipliers, params)
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), of)


def shapes(
    optimizer: str | optax.GradientTransformation, multipliers: Mapping[str, float], params: Any
) -> dict[str, Any]:
    """That state as shapes, of parameters or their shapes."""
    made = jax.eval_shape(transformation(optimizer, multipliers).init, params)
    return dict(made.inner_states)


def carry_over(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` optimizer states, but `old` for the layers that were already training."""
    return {name: _kept(own, old[name]) if name in old else own for name, own in new.items()}


def _kept(new: Any, old: Any) -> Any:
    """A layer's state `new` with the arrays of `old`, if the same optimizer made them."""

    def described(state: Any) -> list:
        leaves = jax.tree_util.tree_leaves_with_path(state)
        return [(path, np.shape(leaf)) for path, leaf in leaves]

    return _filled(new, old) if described(new) == described(old) else new


def _filled(state: Any, other: Any) -> Any:
    """The structure of `state` with the leaves of `other`."""
    return jax.tree.structure(state).unflatten(jax.tree.leaves(other))


def _kernels(params: Any) -> Any:
    """True for what is decayed: arrays of two or more dimensions, so no biases and no norms."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
