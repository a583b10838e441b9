"""Cross-stitch networks: a trunk for each task, whose outputs are mixed at some places.

Misra et al. 2016, Cross-stitch Networks for Multi-task Learning (arXiv:1604.03539).
"""

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.variables import COLLECTIONS, merged
from tl_jax.errors import UserError, takes, unknown


class Mix(nn.Module):
    """A weighted sum of the T values that it reads (N, ...), of one shape: a row of equation 1.

    Its weights (T,) are `share` for the value number `own` at first, and the rest is spread evenly.
    """

    own: int
    share: float

    @nn.compact
    def __call__(self, *values):
        first = np.full(len(values), (1 - self.share) / max(len(values) - 1, 1), np.float32)
        first[self.own] = self.share
        weights = self.param("weights", lambda key: jnp.asarray(first))
        return sum(weight * value for weight, value in zip(weights, values, strict=True))


class Stitched(NamedTuple):
    """A network with a trunk for each task."""

    network: Network
    copies: dict[str, str]  # each new trunk's layers, with the layers that they begin as
    mixes: dict[str, str]  # the mixing layers, with the layers whose outputs they mix

    def begun(self, variables: Any, *, seed: int, example: Any) -> dict[str, Any]:
        """Return `variables`, those of the copies, and fresh ones of the mixing layers."""
        copied = {
            kind: {new: known[old] for new, old in self.copies.items() if old in known}
            for kind, known in ((kind, variables[kind]) for kind in COLLECTIONS)
        }
        fresh = self.network.init(seed, example, self.mixes)
        return merged(merged(variables, copied), fresh)

    def rates(self, rates: dict[str, float], factor: float) -> dict[str, float]:
        """Return the rates by layer of a phase: copies learn as their originals, mixing layers at
        `factor` times the rate of what they mix.
        """
        found = {**rates, **{new: rates[old] for new, old in self.copies.items()}}
        found |= {name: factor * rates[of] for name, of in self.mixes.items()}
        return {name: found[name] for name in self.network.names}


def stitched(
    network: Network,
    heads: Sequence[str],
    at: Collection[str],
    *,
    trunk: Collection[str],
    share: float = 0.9,
) -> Stitched:
    """Return the network with a copy of the layers `trunk` for each of `heads` but the first.

    NAME's copy for the head OTHER is OTHER_NAME. At each of the places `at`, layers NAME_mixed
    follow, one a trunk, which later layers of that trunk read instead. Layers below the trunk, such
    as frozen ones, stay common. UserError for a place that is no layer of the trunk.
    """
    takes(0 <= share <= 1, "share=", "a number from 0 to 1", share)
    for place in at:
        if place not in trunk:
            raise unknown("place to stitch at", place, list(trunk), ordered=True)
    if network.ties:
        raise UserError("a network with adapters or tied layers cannot be cross-stitched")
    now: list[dict[str, str]] = [{} for _ in heads]  # by trunk, what stands for a place
    layers: list[Layer] = []
    copies, mixes = {}, {}
    for layer in network.layers:
        if layer.name in heads:
            of = now[heads.index(layer.name)]
            layers.append(layer._replace(reads=tuple(of.get(p, p) for p in layer.places)))
        elif layer.name not in trunk:
            layers.append(layer)
        else:
            names = [layer.name, *(f"{head}_{layer.name}" for head in heads[1:])]
            for name, of in zip(names, now, strict=True):
                reads = tuple(of.get(p, p) for p in layer.places)
                layers.append(Layer(name, layer.module, reads))
                of[layer.name] = name
            copies |= dict.fromkeys(names[1:], layer.name)
            if layer.name in at:
                for number, (name, of) in enumerate(zip(names, now, strict=True)):
                    of[layer.name] = f"{name}_mixed"
                    layers.append(Layer(f"{name}_mixed", Mix(number, share), tuple(names)))
                    mixes[f"{name}_mixed"] = layer.name
    return Stitched(Network(tuple(layers)), copies, mixes)
