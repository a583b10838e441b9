"""Layer by layer: parameters, multiply-accumulates; of images effective stride, receptive field."""

import functools
import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from tl_jax.chain.network import Example, Network
from tl_jax.chain.variables import COLLECTIONS, flat
from tl_jax.chain.words import READ
from tl_jax.describe import trace


class Row(NamedTuple):
    """One layer of a chain. Pairs are (height, width), in pixels of the input; () of texts."""

    name: str
    output: tuple[int, ...]  # (H, W, C), (T, D) or (D,)
    parameters: int  # but those that are tied to others
    statistics: int  # running means and variances of batch norm
    macs: int  # multiply-accumulates of the whole batch; elementwise arithmetic is free
    stride: tuple[int, ...]  # effective: input pixels between positions; 0 if it has no positions
    field: tuple[float, ...]  # theoretical receptive field; inf is the whole input
    convs: tuple[float, ...]  # the same, if only convolutions have an extent


def layers(chain: Network, inputs: Example) -> list[Row]:
    """Return a row for each layer that computes something, for inputs as `Network.shapes` has them:
    the shape (N, H, W, C) of images, or tokens (N, T).

    JAX traces the layers; nothing is computed and no parameter is created. UserError if the input
    is too small for a layer.
    """
    try:
        return list(_rows(chain, chain.input_shapes(inputs)))
    except (TypeError, ValueError, ZeroDivisionError):
        chain.shapes(inputs)  # names the layer with an empty output, if that is why
        raise


def _rows(chain: Network, inputs: Mapping[str, Any]) -> Iterator[Row]:
    shapes = dict(inputs)
    seen: dict[str, trace.Seen | None] = {
        place: trace.IMAGE if x.ndim == 4 else trace.TEXT for place, x in inputs.items()
    }
    tied = {tie.to for tie in chain.ties if tie.whole}
    for layer in chain.layers:
        name, read = layer.name, [place for place in layer.places if place in seen]
        jaxpr, output, variables = _traced(layer.module, *(shapes[p] for p in layer.places))
        shapes[name] = output
        if not hasattr(output, "shape"):  # a first state is empty
            continue
        if 0 in output.shape:
            raise ValueError(f"the output of layer {name!r} would be empty")
        # From where a captioner reads words, positions are those of a text.
        sees_below = [trace.TEXT if name == READ else seen[place] for place in read]
        (sees, *_), macs = trace.walk(jaxpr, [None, *sees_below])
        seen[name] = sees
        stride, field, convs = zip(*sees, strict=True) if sees else ((), (), ())
        if sees and output.ndim != 4:
            convs = (math.inf, math.inf)
        parameters, statistics = (
            _size({name: variables.get(kind, {})}, tied) for kind in COLLECTIONS
        )
        yield Row(name, output.shape[1:], parameters, statistics, macs, stride, field, convs)


def _size(tree: Mapping[str, Any], tied: Collection[str]) -> int:
    """Return the number of values in a layer's variables, without leaves that are tied."""
    leaves = {path: leaf for path, leaf in flat(tree).items() if path not in tied}
    return sum(leaf.size for leaf in jax.tree.leaves(leaves))


@functools.cache  # networks repeat blocks, and share them with others of the family
def _traced(module: nn.Module, *read: Any) -> tuple[Any, Any, Any]:
    """Return the jaxpr of (key, *read), and the shapes of the output and of the variables."""
    # Initialisation also runs the layer, in inference mode: one trace gives output and variables.
    trace_layer = jax.make_jaxpr(module.init_with_output, return_shape=True)
    traced, (output, variables) = trace_layer(jax.random.key(0), *read)
    return traced.jaxpr, output, variables
