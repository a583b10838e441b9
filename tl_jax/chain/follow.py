"""Which channels the axes of a network's parameters carry, read off what its layers compute.

Every index of every axis of a parameter begins as a channel of its own; a walk over the layers'
jaxprs joins those that are the same.
"""

from typing import Any

import flax.linen as nn
import jax

from tl_jax.chain.channels import Axis, Channels, Value, Walk
from tl_jax.chain.network import Network


def followed(network: Network, inputs: Any) -> Channels:
    """Return what a network does with its channels; `inputs` as of `Network.shapes`."""
    known, found = network.input_shapes(inputs), Channels()
    variables, outputs = network.shapes(inputs)
    shapes = {**known, **outputs}
    values = {place: _input(found, x, place) for place, x in known.items()}
    for layer in network.layers:
        own = {c: tree.get(layer.name, {}) for c, tree in variables.items()}
        read = [shapes[place] for place in layer.places]
        traced, (_, called) = _traced(layer.module, own, read, layer.name, found.features)
        given: list[Value] = [*_parameters(found, own, layer.name)]
        for place in layer.places:
            given += values[place]
        walk = Walk(found, layer.name)
        results = walk(traced.jaxpr, given)
        values[layer.name] = results[: len(jax.tree.leaves(outputs[layer.name]))]
        paths = jax.tree_util.tree_leaves_with_path(called)
        for (path, _), value in zip(paths, results[-len(paths) :], strict=True):
            names = [key.key for key in path if hasattr(key, "key")][1:-1]
            if value.axes and value.axes[-1]:
                found.outputs["/".join([layer.name, *names])] = value.axes[-1].channels
        found.operations[layer.name] = walk.operations
    read_places = {place for layer in network.layers for place in layer.places}
    for name in set(network.names) - read_places:
        for value in values[name]:
            for axis in value.axes:
                found.fix(axis, "are what the network gives: no layer above could take more")
    return found


def _traced(module, variables, read, layer, features) -> tuple[Any, tuple[Any, Any]]:
    """Return the jaxpr of a layer and the shapes of its results: the output, and the output of each
    module inside; `features` takes the field of that name of each module, by path.
    """

    def noted(call, args, kwargs, context):
        result = call(*args, **kwargs)
        size = getattr(context.module, "features", None)  # as `Sized` has set it by now
        if isinstance(size, int):
            features["/".join([layer, *context.module.path])] = size
        return result

    def run(variables, read):
        with nn.intercept_methods(noted):
            kept = {"capture_intermediates": True, "mutable": ["intermediates"]}
            return module.apply(variables, *read, **kept)

    with jax.enable_x64(False):  # the shapes are float32, whatever the program around does
        return jax.make_jaxpr(run, return_shape=True)(variables, read)


def _parameters(found: Channels, variables: Any, layer: str) -> list[Value]:
    """Return the values of a layer's variables, in the order of their leaves."""
    values = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = "/".join([layer, *(key.key for key in path[1:])])
        axes = tuple(map(found.new, leaf.shape))
        found.leaves[name] = axes
        values.append(Value(tuple(Axis(a, (name, d)) for d, a in enumerate(axes)), data=False))
    return values


def _input(found: Channels, inputs: Any, place: str) -> list[Value]:
    values = []
    for leaf in jax.tree.leaves(inputs):
        last = Axis(found.new(leaf.shape[-1]))
        found.fix(last, f"are those of the input {place!r}")
        values.append(Value((*(None,) * (leaf.ndim - 1), last)))
    return values
