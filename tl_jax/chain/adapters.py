"""Adapters: few parameters beside frozen ones, which a tie puts into the layers they change."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from tl_jax.chain import variables as leaves_of
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer, Tie
from tl_jax.errors import UserError

SUFFIX = "_lora"


class LowRank(nn.Module):
    """Factors of changes to kernels: for each "down" (inputs, rank) and "up" (rank, outputs).

    Reads nothing and gives its parameters. `kernels`: (number, inputs, outputs) each. "down" is
    drawn with a standard deviation of 1 / sqrt(inputs), "up" is 0: a change of 0 (section 4.1).
    """

    rank: int
    kernels: tuple[tuple[int, int, int], ...]

    @nn.compact
    def __call__(self):
        found = {}
        for number, inputs, outputs in self.kernels:
            draw, zeros = nn.initializers.normal(inputs**-0.5), nn.initializers.zeros
            sizes = {"down": (draw, (inputs, self.rank)), "up": (zeros, (self.rank, outputs))}
            found |= {f"{n}{number}": self.param(f"{n}{number}", *how) for n, how in sizes.items()}
        return found


@dataclasses.dataclass(frozen=True)
class Added:
    """A tie's function: the leaf `to` plus `scale` times the product of two others, reshaped."""

    to: str
    down: str
    up: str
    scale: float

    def __call__(self, leaves: Mapping[str, Any]) -> jax.Array:
        kernel, change = leaves[self.to], leaves[self.down] @ leaves[self.up]
        return kernel + (self.scale * change).reshape(kernel.shape).astype(kernel.dtype)


def with_lora(
    network: Network, params: Any, layers: Sequence[str], *, rank: int, alpha: float | None = None
) -> Network:
    """The network with adapters of such a rank beside each kernel of `layers`: LoRA (Hu et al.
    2021, arXiv:2106.09685).

    A kernel W (..., outputs), a convolution's taken as a matrix (section 4.1, equation 3), becomes
    W + alpha / rank * down up; `alpha` is `rank` if not given. The factors are those of a layer
    "NAME_lora" before each layer NAME: a plan that trains these alone leaves the base as it is.
    `params`: the network's, or their shapes. UserError for layers without kernels.
    """
    found, ties = [], []
    for name in layers:
        network.index(name)
    for layer in network.layers:
        if layer.name in layers:
            name, leaves = layer.name + SUFFIX, leaves_of.flat({layer.name: params[layer.name]})
            kernels = [path for path in leaves if path.endswith("/kernel")]
            if not kernels:
                raise UserError(f"layer {layer.name!r} has no kernel to adapt")
            sizes = ((int(np.prod(s[:-1])), s[-1]) for s in (leaves[p].shape for p in kernels))
            module = LowRank(rank, tuple((i, *size) for i, size in enumerate(sizes)))
            found.append(Layer(name, module, ()))
            for i, path in enumerate(kernels):
                factors = f"{name}/down{i}", f"{name}/up{i}"
                make = Added(path, *factors, (rank if alpha is None else alpha) / rank)
                ties.append(Tie(path, (name,), make, whole=False))
        found.append(layer)
    return Network(tuple(found), network.ties + tuple(ties))
