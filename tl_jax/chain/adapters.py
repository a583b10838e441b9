"""Adapters: a few new parameters beside frozen ones; a tie adds them to the layers they change."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import registry
from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer, Tie
from tl_jax.chain.variables import flat
from tl_jax.errors import UserError, takes, takes_type, takes_whole


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


class Centres(nn.Module):
    """Updates to the centres of kernels: for each kernel "centre" (inputs, outputs), which is 0.

    It reads nothing and returns its parameters. `kernels` has (number, inputs, outputs) of each.
    """

    kernels: tuple[tuple[int, int, int], ...]

    @nn.compact
    def __call__(self):
        zeros = nn.initializers.zeros
        return {f"centre{n}": self.param(f"centre{n}", zeros, shape) for n, *shape in self.kernels}


@dataclasses.dataclass(frozen=True)
class CentreUpdate:
    """A tie's function: return the leaf `to` plus another at its kernel's centre."""

    to: str
    centre: str

    def __call__(self, leaves: Mapping[str, Any]) -> jax.Array:
        kernel = jnp.asarray(leaves[self.to])
        height, width = kernel.shape[:2]
        return kernel.at[height // 2, width // 2].add(leaves[self.centre].astype(kernel.dtype))


def with_lora(
    network: Network,
    params: Any,
    layers: Sequence[str],
    *,
    rank: int = 4,
    alpha: float | None = None,
) -> Network:
    """Return the network with adapters of that rank beside the kernels of `layers`: LoRA (Hu et al.
    2021, arXiv:2106.09685).

    A kernel W (..., outputs), read as a matrix, becomes W + alpha / rank * down up (section 4.1,
    equation 3); `alpha` is `rank` by default. A new layer "NAME_lora" before each layer NAME holds
    the factors: a plan that trains these layers alone leaves the base unchanged. Depthwise kernels,
    which are small, have none. `params` are the network's, or their shapes. UserError for layers
    without kernels.
    """
    takes_whole(rank, "lora: rank=", 1, 10**6)
    takes_type("lora: alpha=", float | None, alpha)
    takes(alpha is None or alpha > 0, "lora: alpha=", "a number above 0", alpha)
    scale = (rank if alpha is None else alpha) / rank

    def update(path: str, layer: str, number: int) -> LowRankUpdate:
        return LowRankUpdate(path, f"{layer}/down{number}", f"{layer}/up{number}", scale)

    def sizes(shape: tuple[int, ...]) -> tuple[int, int] | None:
        return None if _is_depthwise(shape) else (int(np.prod(shape[:-1])), shape[-1])

    module = functools.partial(LowRank, rank)
    return _beside(network, params, layers, "_lora", sizes, module, update)


def with_parallel(network: Network, params: Any, layers: Sequence[str]) -> Network:
    """Return the network with a 1 x 1 convolution beside each larger one of `layers`: residual
    adapters in parallel (Rebuffi, Bilen & Vedaldi 2018, arXiv:1803.10082).

    Both read the same and are added, so that the adapter is an update of the kernel's centre. A new
    layer "NAME_parallel" before each layer NAME holds it. `params` as for `with_lora`.
    """

    def sizes(shape: tuple[int, ...]) -> tuple[int, int] | None:
        larger = len(shape) == 4 and shape[0] * shape[1] > 1
        return (shape[2], shape[3]) if larger else None

    def update(path: str, layer: str, number: int) -> CentreUpdate:
        return CentreUpdate(path, f"{layer}/centre{number}")

    return _beside(network, params, layers, "_parallel", sizes, Centres, update)


ADAPTERS = {"lora": with_lora, "parallel": with_parallel}


def make(spec: str, network: Network, params: Any, layers: Sequence[str]) -> Network:
    """Return the network with the adapters that `spec` says, "lora(rank=8)", beside those kernels
    of `layers` that take one. UserError for an unknown kind, and where no kernel takes one.
    """
    add, options = registry.chosen("adapters", spec, ADAPTERS)
    kernels = flat({name: params[name] for name in layers if name in params})
    able = dict.fromkeys(path.split("/")[0] for path in kernels if path.endswith("/kernel"))
    return add(network, params, list(able), **options)


def _is_depthwise(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[2] == 1 and shape[0] * shape[1] > 1


def _beside(
    network: Network,
    params: Any,
    layers: Sequence[str],
    suffix: str,
    sizes: Callable[[tuple[int, ...]], tuple[int, int] | None],
    module: Callable[[tuple[tuple[int, int, int], ...]], nn.Module],
    update: Callable[[str, str, int], Callable[[Mapping[str, Any]], jax.Array]],
) -> Network:
    """Return the network with a new layer before each of `layers` of which a kernel has `sizes`
    (inputs, outputs), and a tie for each such kernel.
    """
    adapted: list[Layer] = []
    ties: list[Tie] = []
    for name in layers:
        network.index(name)
    for layer in network.layers:
        if layer.name in layers:
            name, leaves = layer.name + suffix, flat({layer.name: params.get(layer.name, {})})
            kernels = [path for path in leaves if path.endswith("/kernel")]
            if not kernels:
                raise UserError(f"layer {layer.name!r} has no kernel to adapt")
            own = [(path, sizes(leaves[path].shape)) for path in kernels]
            found = [(path, size) for path, size in own if size is not None]
            if found:
                numbered = tuple((number, *size) for number, (_, size) in enumerate(found))
                adapted.append(Layer(name, module(numbered), ()))
                for number, (path, _) in enumerate(found):
                    ties.append(Tie(path, (name,), update(path, name, number), whole=False))
        adapted.append(layer)
    if not ties:
        raise UserError("none of these layers has a kernel that such an adapter goes beside")
    return Network(tuple(adapted), network.ties + tuple(ties))
