"""Bases that grow: wider or deeper, and at first the same function."""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from tl_jax.chain import deeper
from tl_jax.chain.growth import Growth, widening
from tl_jax.chain.programs import forward
from tl_jax.chain.variables import merged
from tl_jax.errors import UserError, takes, takes_type, takes_whole, unknown

if TYPE_CHECKING:
    from tl_jax.base.base import Base

DRAWN = 4  # examples that say whether an added layer is the identity, where none are given


class Widened(NamedTuple):
    """A wider base."""

    base: "Base"
    growth: Growth  # what became of each parameter; carries optimizer states too


def widened(
    base: "Base", place: str, factor: float = 1.5, *, noise: float = 0.01, seed: int = 0
) -> Widened:
    """Return the base with `factor` times as many channels at `place`: Net2WiderNet.

    `place` is a layer ("conv2") or a part of one ("stage1_block1/conv1"). All that shares its
    channels grows with it: a residual stream as a whole. A new channel is a copy of an old one,
    drawn by `seed`, and the weights that read it are divided. Normal noise on the copies' kernels,
    `noise` times the kernel's deviation, lets them become different; with 0 the function is the
    same to rounding. UserError where no layer above could take more channels.
    """
    require_noise(noise)
    takes_whole(seed, "seed=", 0, 2**32)
    growth = widening(base.chain, base.preprocessing.example, place, factor, seed)
    variables = growth.carried(base.variables)
    if noise:
        variables = growth.noisy(variables, noise, seed)
    sizes = dict(base.architecture.sizes) | dict(growth.sizes)
    architecture = dataclasses.replace(base.architecture, sizes=tuple(sorted(sizes.items())))
    weights = f"{base.weights}, wider at {place}"
    wide = {"architecture": architecture, "variables": variables, "weights": weights}
    return Widened(dataclasses.replace(base, **wide), growth)


def require_noise(noise: float) -> None:
    """UserError for what is no share of a kernel's deviation."""
    takes_type("noise=", float, noise)
    takes(0 <= noise <= 1, "noise=", "a share of a kernel's deviation from 0 to 1", noise)


def deepened(base: "Base", layer: str, examples: Any = None) -> "Base":
    """Return the base with one more layer like `layer` on top of it, the identity: Net2DeeperNet.

    It is called `layer_2` (or 3, ...). `examples` are preprocessed inputs (N, ...), by which its
    batch norms are set, so that it is the identity in training too on such batches; without them it
    is so in inference mode. UserError for a layer whose like cannot be the identity: after another
    activation than ReLU or ReLU6, for one.
    """
    if layer not in base.layers:
        raise unknown("layer", layer, base.layers, ordered=True)
    if layer == base.layers[-1]:
        raise UserError(f"{layer!r} is the last layer: deepen one below it")
    first = next(n for n in range(2, 1000) if f"{layer}_{n}" not in base.layers)
    name, old = f"{layer}_{first}", base.architecture
    mine = {path: size for path, size in old.sizes if path.split("/")[0] == layer}
    copied = {name + path.removeprefix(layer): size for path, size in mine.items()}
    sizes = tuple(sorted((dict(old.sizes) | copied).items()))
    architecture = dataclasses.replace(old, added=(*old.added, (name, layer)), sizes=sizes)
    chain = architecture.chain()
    inputs = _drawn(base) if examples is None else base._checked(examples)
    x = np.asarray(forward(base.chain, base.variables, jnp.asarray(inputs), stop=layer))
    try:
        fresh = chain.init(0, base.preprocessing.example, [name])
    except (TypeError, ValueError) as error:
        raise UserError(f"a layer like {layer!r} cannot read what {layer!r} gives") from error
    copy = chain.layers[chain.index(name)]
    own = {kind: trees[name] for kind, trees in fresh.items() if name in trees}
    if not own.get("params"):
        raise UserError(f"{layer!r} has no parameters: deepen another layer")
    same = deeper.identity(copy, own, x, statistics=examples is not None)
    new = {kind: {name: same[kind]} if kind in same else {} for kind in fresh}
    variables = merged(base.variables, new)
    ordered = {
        kind: {n: trees[n] for n in chain.names if n in trees} for kind, trees in variables.items()
    }
    deep = {"architecture": architecture, "variables": ordered}
    return dataclasses.replace(base, **deep, weights=f"{base.weights}, deeper at {layer}")


def _drawn(base: "Base") -> np.ndarray:
    example = base.preprocessing.example
    shape = (DRAWN, *example.shape[1:])
    return np.random.default_rng(0).standard_normal(shape).astype(example.dtype)
