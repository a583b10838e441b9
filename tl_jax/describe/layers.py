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
    """One layer of a chain. Pairs are (height, width), in pixels of the input."""

    name: str
    output: tuple[int, ...]  # (H, W, C) or (D,)
    parameters: int
    statistics: int  # running means and variances of batch norm
    macs: int  # multiply-accumulates of the whole batch; elementwise arithmetic is free
    stride: tuple[int, int]  # effective: input pixels between positions; 0 if it has no positions
    field: tuple[float, float]  # theoretical receptive field; inf is the whole input
    convs: tuple[float, float]  # the same, if only convolutions have an extent


def layers(chain: Network, input_shape: Sequence[int]) -> list[Row]:
    """Return a row for each layer, for inputs of `input_shape` (N, H, W, C).

    JAX traces the layers; nothing is computed and no parameter is created. UserError if the input
    is too small for a layer.
    """
    try:
        return list(_rows(chain, tuple(input_shape)))
    except (TypeError, ValueError, ZeroDivisionError):
        chain.shapes(input_shape)  # names the layer with an empty output, if that is why
        raise


def _rows(chain: Network, shape: tuple[int, ...]):
    seen: trace.Seen | None = trace.IMAGE
    for name, module, _ in chain.layers:
        jaxpr, shape, parameters, statistics = _traced(module, shape)
        if 0 in shape:
            raise ValueError(f"the output of layer {name!r} would be empty")
        outputs, macs = trace.walk(jaxpr, [None, seen])
        seen = outputs[0]
        # Every layer's output depends on the image.
        stride, field, convs = zip(*(seen or ()), strict=True)
        if len(shape) != 4:
            convs = (math.inf, math.inf)
        yield Row(name, shape[1:], parameters, statistics, macs, stride, field, convs)


@functools.cache  # networks repeat blocks, and share them with others of the family
def _traced(module: nn.Module, shape: tuple[int, ...]):
    """Return the jaxpr of (key, x), the output's shape, and counts of parameters and statistics."""
    # Initialisation also runs the layer, in inference mode: one trace gives output and variables.
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    trace_layer = jax.make_jaxpr(module.init_with_output, return_shape=True)
    traced, (output, variables) = trace_layer(jax.random.key(0), x)
    sizes = [
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables.get(collection, {})))
        for collection in ("params", "batch_stats")
    ]
    return traced.jaxpr, output.shape, *sizes
