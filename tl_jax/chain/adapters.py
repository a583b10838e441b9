"""Adapters: a few new parameters beside frozen ones; a tie adds them to the layers they change."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer, Tie
from tl_jax.chain.variables import flat
from tl_jax.errors import UserError

SUFFIX = "_lora"


class LowRank(nn.Module):
    """The factors of updates to kernels: for each kernel "down" (inputs, rank) and "up" (rank,
    outputs).

    It reads nothing and returns its parameters. `kernels` has (number, inputs, outputs) of each.
    "down" is drawn with a standard deviation of 1 / sqrt(inputs) and "up" is 0, so that the first
    update is 0 (section 4.1).
    """

    rank: int
    kernels: tuple[tuple[int, int, int], ...]

    @nn.compact
    def __call__(self):
        factors = {}
        for number, inputs, outputs in self.kernels:
            draw, zeros = nn.initializers.normal(inputs**-0.5), nn.initializers.zeros
            down, up = f"down{number}", f"up{number}"
            factors[down] = self.param(down, draw, (inputs, self.rank))
            factors[up] = self.param(up, zeros, (self.rank, outputs))
        return factors


@dataclasses.dataclass(frozen=True)
class LowRankUpdate:
    """A tie's function: return the leaf `to` plus `scale` times the product of two others."""

    to: str
    down: str
    up: str
    scale: float

    def __call__(self, leaves: Mapping[str, Any]) -> jax.Array:
        kernel, update = leaves[self.to], leaves[self.down] @ leaves[self.up]
        return kernel + (self.scale * update).reshape(kernel.shape).astype(kernel.dtype)


def with_lora(
    network: Network, params: Any, layers: Sequence[str], *, rank: int, alpha: float | None = None
) -> Network:
    """Return the network with adapters of that rank beside each kernel of `layers`: LoRA (Hu et al.
    2021, arXiv:2106.09685).

    A kernel W (..., outputs), read as a matrix, becomes W + alpha / rank * down up (section 4.1,
    equation 3); `alpha` is `rank` by default. A new layer "NAME_lora" before each layer NAME holds
    the factors: a plan that trains these layers alone leaves the base unchanged. `params` are the
    network's, or their shapes. UserError for layers without kernels.
    """
    adapted, ties = [], []
    for name in layers:
        network.index(name)
    for layer in network.layers:
        if layer.name in layers:
            name, leaves = layer.name + SUFFIX, flat({layer.name: params[layer.name]})
            kernels = [path for path in leaves if path.endswith("/kernel")]
            if not kernels:
                raise UserError(f"layer {layer.name!r} has no kernel to adapt")
            sizes = ((int(np.prod(s[:-1])), s[-1]) for s in (leaves[p].shape for p in kernels))
            module = LowRank(rank, tuple((i, *size) for i, size in enumerate(sizes)))
            adapted.append(Layer(name, module, ()))
            for i, path in enumerate(kernels):
                factors = f"{name}/down{i}", f"{name}/up{i}"
                scale = (rank if alpha is None else alpha) / rank
                ties.append(Tie(path, (name,), LowRankUpdate(path, *factors, scale), whole=False))
        adapted.append(layer)
    return Network(tuple(adapted), network.ties + tuple(ties))
