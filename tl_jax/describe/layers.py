"""Layer by layer: parameters, multiply-accumulates, effective stride, receptive field."""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.chain.network import Network
from tl_jax.describe import trace


class Row(NamedTuple):
    """One layer of a chain. Pairs are along height and width, in pixels of the input."""

    name: str
    output: tuple[int, ...]  # (H, W, C) or (D,)
    parameters: int
    statistics: int  # of batch norm: running means and variances
    macs: int  # multiply-accumulates for the inputs given; elementwise arithmetic is free
    stride: tuple[int, int]  # effective: input pixels between positions; 0: there are none
    field: tuple[float, float]  # theoretical receptive field; inf: all of the input
    convs: tuple[float, float]  # the same if only convolutions have an extent


def layers(chain: Network, input_shape: Sequence[int]) -> list[Row]:
    """A row a layer for inputs of `input_shape` (N, H, W, C), from what JAX traces of it.

    Nothing is computed and no parameter is made. UserError if the input is too small for a layer.
    """
    try:
        return list(_rows(chain, tuple(input_shape)))
    except (TypeError, ValueError, ZeroDivisionError):
        chain.shapes(input_shape)  # says which layer nothing is left in, if that is why
        raise


def _rows(chain: Network, shape: tuple[int, ...]):
    seen: trace.Seen | None = trace.IMAGE
    for name, module, _ in chain.layers:
        jaxpr, shape, parameters, statistics = _traced(module, shape)
        if 0 in shape:
            raise ValueError(f"nothing is left in layer {name!r}")
        outputs, macs = trace.walk(jaxpr, [None, seen])
        seen = outputs[0]
        # Every layer's output comes from the image.
        stride, field, convs = zip(*(seen or ()), strict=True)
        if len(shape) != 4:
            convs = (math.inf, math.inf)
        yield Row(name, shape[1:], parameters, statistics, macs, stride, field, convs)


@functools.cache  # nets repeat their blocks, and share them with others of the family
def _traced(module: nn.Module, shape: tuple[int, ...]):
    """The jaxpr of (key, x), the output's shape, and the sizes of parameters and statistics."""
    # Initialisation runs the layer forwards in inference mode: one trace gives variables too.
    given = jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    traced, (output, variables) = jax.make_jaxpr(module.init_with_output, return_shape=True)(*given)
    sizes = [
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables.get(collection, {})))
        for collection in ("params", "batch_stats")
    ]
    return traced.jaxpr, output.shape, *sizes
