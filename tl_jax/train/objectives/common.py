"""Pieces that several objectives are made of."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.heads import is_head
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import Layer
from tl_jax.errors import UserError
from tl_jax.ops import unit as unit
from tl_jax.train.objective import Now, Term


def jointly(net: Net, knowns: Sequence[Mapping[str, Any]], wanted: Any, **how: Any) -> list[Any]:
    """What `net` gives for each of `knowns`, from one call on all of them side by side.

    Batch statistics are then common to all. The parts may differ in size (B1, B2, ...), and their
    values are split where they were joined.
    """
    values = net(jax.tree.map(lambda *parts: jnp.concatenate(parts), *knowns), wanted, **how)
    ends = np.cumsum([len(jax.tree.leaves(known)[0]) for known in knowns])[:-1]
    leaves, structure = jax.tree.flatten(values)
    split = [jnp.split(leaf, ends) for leaf in leaves]
    return [structure.unflatten(parts) for parts in zip(*split, strict=True)]


def falling(rate: float, now: Now) -> jax.Array:
    """`rate` where a phase begins, and 0 where it ends, with a cosine."""
    return rate * (jnp.cos(jnp.pi * now.progress) + 1) / 2


@jax.custom_vjp
def reversed_gradient(x: jax.Array, coefficient: Any) -> jax.Array:
    """`x`; its gradient is multiplied by -`coefficient` (Ganin et al. 2016, section 4.2)."""
    return x


def _reversed(coefficient: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return -coefficient * gradient, jnp.zeros_like(coefficient)


reversed_gradient.defvjp(lambda x, coefficient: (x, coefficient), _reversed)


def read_by(network: Network, layer: str) -> str:
    """The place that a layer reads; UserError if it reads several, or none."""
    places = network.layers[network.index(layer)].places
    if len(places) != 1:
        raise UserError(f"{layer!r} reads {', '.join(places) or 'nothing'}, and not one place")
    return places[0]


def second_head(network: Network, output: str, name: str) -> tuple[Layer, ...]:
    """The layers of the head that ends at `output`, as another one that ends at `name`."""
    own = [layer for layer in network.layers if is_head(layer.name, output)]
    names = {layer.name: name + layer.name.removeprefix(output) for layer in own}
    return tuple(
        Layer(names[layer.name], layer.module, tuple(names.get(p, p) for p in layer.places))
        for layer in own
    )


def over_known(losses: jax.Array, targets: jax.Array, weights: jax.Array) -> Term:
    """The weighted mean (B,) over examples of the mean of their losses (B, C) where the targets are
    not NaN; examples of which nothing is known are left out.
    """
    known = ~jnp.isnan(targets)
    count = known.sum(-1)
    weights = weights * (count > 0)
    own = jnp.where(known, losses, 0.0).sum(-1) / jnp.maximum(count, 1)
    return Term((own * weights).sum(), weights.sum())
