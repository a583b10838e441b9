"""Deeper networks that compute what the shallow one did: Net2DeeperNet.

Chen, Goodfellow & Shlens 2015, Net2Net (arXiv:1511.05641), section 2.4. An added layer is like the
one below it, and its weights make it the identity: kernels pass each channel on, a batch norm gives
back the mean and the deviation that it takes away, or the branch of a residual block adds nothing.
"""

from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Layer
from tl_jax.chain.sizes import changed, inside
from tl_jax.chain.variables import flat, nested
from tl_jax.errors import UserError

LARGE = 6.0  # up to which ReLU6 leaves values as they are
CLOSE = 1e-4  # of the largest value; what the identity may be off by, in float32


def with_copies(network: Network, added: Iterable[tuple[str, str]]) -> Network:
    """Return the network with further layers: (name, the layer below, of which it is a copy).

    Whatever read the layer below reads the copy, which keeps the size of a map. Copies of layers
    that the network does not have are left out.
    """
    for name, below in added:
        if below not in network.names or name in network.names:
            continue
        number = network.index(below)
        module = network.layers[number].module
        usual = {"stride": 1, "padding": "SAME"}
        own = {field: value for field, value in usual.items() if hasattr(inside(module), field)}
        copy = Layer(name, changed(module, **own), (below,))
        above = (
            layer._replace(reads=tuple(name if p == below else p for p in layer.places))
            for layer in network.layers[number + 1 :]
        )
        network = Network((*network.layers[: number + 1], copy, *above), network.ties)
    return network


def identity(layer: Layer, fresh: Any, x: np.ndarray, *, statistics: bool) -> Any:
    """Return variables with which `layer` returns `x` (N, ...), as the layer below it gives them.

    `fresh` are variables of the layer, {"params": tree, "batch_stats": tree}. With `statistics` its
    batch norms have those of `x`: then it is the identity in training too, on these examples. Else
    they have mean 0 and variance 1. UserError if no such weights are known, for values as large as
    those of `x` and for larger ones: near 0 any smooth activation seems to change nothing.
    """
    most = float(np.abs(x).max())
    large = x * np.float32(max(1.0, LARGE / most)) if most else x
    called = _called(layer.module, fresh, x)
    for candidate in (
        _transparent(called, fresh, x if statistics else None),
        _without_branch(called, fresh),
    ):
        if all(_returned(layer.module, candidate, values) for values in (x, large)):
            return candidate
    raise UserError(
        f"a layer like {layer.places[0]!r} on top of it cannot return what it reads: its "
        "activation would change the values again (only ReLU and ReLU6 leave them), or it joins, "
        "pools or projects them; deepen another layer"
    )


def _returned(module: nn.Module, variables: Any, x: np.ndarray) -> bool:
    y = np.asarray(module.apply(variables, x))
    return y.shape == x.shape and np.abs(y - x).max() <= CLOSE * np.abs(x).max()


def _called(module: nn.Module, variables: Any, x: Any) -> dict[str, float]:
    """Return the epsilon (0 where there is none) of the modules inside, in the order of calls."""
    called = {}

    def noted(call, args, kwargs, context):
        path = "/".join(context.module.path)
        called[path] = getattr(context.module, "epsilon", 0.0)
        return call(*args, **kwargs)

    with nn.intercept_methods(noted):
        jax.eval_shape(module.apply, variables, x)
    return called


def _transparent(called: dict[str, float], fresh: Any, x: np.ndarray | None) -> Any:
    """Return variables whose kernels pass channels on and whose norms undo themselves."""
    axes = () if x is None else tuple(range(x.ndim - 1))
    mean, var = (np.float32(0), np.float32(1)) if x is None else (x.mean(axes), x.var(axes))
    leaves = flat(fresh)
    for path, leaf in leaves.items():
        inside, name = path.split("/")[1:-1], path.split("/")[-1]
        norm = "/".join(["batch_stats", *inside, "mean"]) in leaves
        if name == "kernel":
            leaves[path] = _passing(leaf.shape)
        elif norm and np.shape(mean) in ((), leaf.shape):
            scale = np.sqrt(var + called["/".join(inside)])
            value = {"mean": mean, "var": var, "scale": scale, "bias": mean}[name]
            leaves[path] = np.broadcast_to(value, leaf.shape).astype(leaf.dtype)
    return nested(leaves)


def _passing(shape: tuple[int, ...]) -> np.ndarray:
    """Return a kernel (..., C, D) that passes channel i on as channel i; depthwise, if C is 1."""
    kernel = np.zeros(shape, np.float32)
    middle = tuple((side - 1) // 2 for side in shape[:-2])
    kernel[middle] = 1.0 if len(shape) > 2 and shape[-2] == 1 else np.eye(shape[-2], shape[-1])
    return kernel


def _without_branch(called: dict[str, float], fresh: Any) -> Any:
    """Return variables in which the parameters of the module called last are 0."""
    leaves = flat(fresh)
    starts = [f"params/{path}/" if path else "params/" for path in called]
    last = [start for start in starts if any(path.startswith(start) for path in leaves)][-1:]
    return nested(
        {p: np.zeros_like(v) if p.startswith(tuple(last)) else v for p, v in leaves.items()}
    )
