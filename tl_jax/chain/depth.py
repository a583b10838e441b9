"""Stochastic depth: in training, residual branches of an example are left out at random.

Huang et al. 2016, Deep Networks with Stochastic Depth (arXiv:1603.09382).
"""

from collections.abc import Collection, Sequence
from typing import Any

import jax

from tl_jax.chain.network import Network
from tl_jax.chain.sizes import changed, inside
from tl_jax.errors import UserError, takes, takes_type


def kept(block: Any, x: jax.Array) -> jax.Array | None:
    """Return a factor (N, 1, 1, 1) for the branch of a module with the field `drop_branch`, by
    example of `x` (N, H, W, C).

    It is 0 with probability `block.drop_branch`, else 1 / (1 - drop_branch), so that the mean over
    draws is the whole branch. None outside training, and if the probability is 0.
    """
    drop = block.drop_branch
    if not drop or not block.has_rng("dropout"):
        return None
    survives = jax.random.bernoulli(block.make_rng("dropout"), 1 - drop, (len(x), 1, 1, 1))
    return survives.astype(x.dtype) / (1 - drop)


def with_stochastic_depth(network: Network, last: float) -> Network:
    """Return the network with each block's probability of leaving its branch out: it grows linearly
    up to `last` for the last of B blocks, b / B * last for block b (section 3, equation 4).

    Blocks are the layers whose module has the field `drop_branch`. UserError if there are none.
    """
    takes_type("stochastic_depth=", float, last)
    takes(0 <= last < 1, "stochastic_depth=", "a probability from 0 to below 1", last)
    if not last:
        return network
    blocks = _blocks(network)
    if not blocks:
        raise UserError(
            f"stochastic_depth={last} leaves out residual branches, and this base has none: take 0"
        )
    layers = {one.name: one for one in network.layers}
    for number, name in enumerate(blocks, 1):
        module = changed(layers[name].module, drop_branch=last * number / len(blocks))
        layers[name] = layers[name]._replace(module=module)
    return Network(tuple(layers.values()), network.ties)


def require_shortcut(
    network: Network, last: float, trained: Collection[str], inputs: jax.ShapeDtypeStruct
) -> None:
    """UserError if a probability `last` leaves nothing out of the `trained` layers.

    Some blocks add their input only where its shape (N, H, W, C) allows it: a pass in training over
    such inputs (`Network.shapes`) is the same program then, with the probability and without it.
    """
    deep = with_stochastic_depth(network, last)
    blocks = [name for name in _blocks(network) if name in trained]
    if deep is not network and not (blocks and _differ(network, deep, blocks, inputs)):
        raise UserError(
            f"stochastic_depth={last} leaves out branches of trained residual blocks, and none of "
            "the trained layers is a block with a shortcut: train lower layers, or take 0"
        )


def _blocks(network: Network) -> list[str]:
    return [one.name for one in network.layers if hasattr(inside(one.module), "drop_branch")]


def _differ(
    network: Network, deep: Network, trained: Sequence[str], inputs: jax.ShapeDtypeStruct
) -> bool:
    """Return whether a pass up to the last of the `trained` has more operations in `deep`."""

    def operations(whole: Network) -> int:
        chain = whole.cut(trained[-1])

        def run(variables: Any, x: jax.Array, key: jax.Array) -> Any:
            return chain.apply(variables, x, train=trained, batch_norm=False, rng=key).output

        return len(jax.make_jaxpr(run)(chain.shapes(inputs)[0], inputs, jax.random.key(0)).eqns)

    return operations(deep) > operations(network)
