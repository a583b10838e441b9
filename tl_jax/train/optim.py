"""From a phase to an optax transformation, with state by layer so that phases can hand it on."""

from typing import Any

import jax
import numpy as np
import optax

from tl_jax.plans.plan import Phase, Settings


def schedule(settings: Settings, total_steps: int) -> optax.Schedule:
    """Learning rate by step of the phase."""
    peak = settings.learning_rate
    match settings.schedule:
        case "constant":
            return optax.constant_schedule(peak)
        case "cosine":
            return optax.cosine_decay_schedule(peak, total_steps)
        case "one_cycle":
            return optax.cosine_onecycle_schedule(total_steps, peak)
    raise AssertionError(settings.schedule)


def transformation(phase: Phase, total_steps: int) -> optax.GradientTransformation:
    """Updates for {layer: gradients} of the phase's trained layers only.

    Clipping and decay are inside the trained set: a norm over frozen layers would bring their
    backward pass back. Every layer has its own optimizer state; the schedule's step is the phase's.
    """
    settings = phase.settings
    by_layer = {
        name: optax.chain(
            _direction(settings.optimizer),
            optax.add_decayed_weights(settings.weight_decay, mask=_kernels),
            optax.scale(phase.multipliers[name]),
        )
        for name in phase.trained
    }
    return optax.chain(
        optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity(),
        optax.partition(by_layer, lambda params: {name: name for name in params}),
        optax.scale_by_learning_rate(schedule(settings, total_steps)),
    )


def begin(phase: Phase, params: Any) -> Any:
    """The phase's first optimizer state: zeros, whichever the optimizer.

    On the host, as `init` would compile a program for every shape of the parameters.
    """
    return jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes(phase, params))


def shapes(phase: Phase, params: Any) -> Any:
    """That state as shapes, of parameters or their shapes."""
    return jax.eval_shape(transformation(phase, total_steps=1).init, params)


def carry_over(old: Any, new: Any) -> Any:
    """`new` optimizer state, but `old` for the layers that were already training."""
    clip, layers, rate = new
    former = old[1].inner_states
    kept = {name: _filled(own, former.get(name)) for name, own in layers.inner_states.items()}
    return clip, layers._replace(inner_states=kept), rate


def _filled(new: Any, old: Any) -> Any:
    """A layer's state `new` with the arrays of `old`, if the same optimizer made them.

    Their structures differ: each has an empty place for every other layer of its phase.
    """
    mine, theirs = (dict(jax.tree_util.tree_leaves_with_path(state)) for state in (new, old))
    if mine.keys() != theirs.keys():
        return new
    return jax.tree.structure(new).unflatten(theirs[path] for path in mine)


def _direction(optimizer: str) -> optax.GradientTransformation:
    if optimizer == "adamw":
        return optax.scale_by_adam()
    return optax.trace(decay=0.9, nesterov=True)


def _kernels(params: Any) -> Any:
    """True for what is decayed: arrays of two or more dimensions, so no biases and no norms."""
    return jax.tree.map(lambda p: p.ndim > 1, params)
