"""L2-SP: decay towards the pretrained weights in place of decay towards 0.

Li, Grandvalet & Davoine 2018, Explicit Inductive Bias for Transfer Learning with Convolutional
Networks (arXiv:1802.01483), equation 3.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.heads import is_head
from tl_jax.chain.network import Net
from tl_jax.train.objective import Term


@dataclasses.dataclass(frozen=True)
class L2SP:
    """A term for `CrossEntropy.also`: alpha/2 |w - w0|^2 of the base, beta/2 |w|^2 of the head.

    Over all parameters of trained layers, biases and norms included, as in the paper. It takes the
    place of weight decay: set that to 0.
    """

    alpha: float = 0.01
    beta: float = 0.01
    output: str = "head"

    def __call__(self, net: Net, batch: Any) -> dict[str, Term]:
        """`l2_sp`."""
        start, total = net.at("anchor").params, jnp.zeros(())
        for name in filter(net.params.__contains__, net.train):  # pools have none
            if is_head(name, self.output):
                total += self.beta * squares(net.params[name])
            else:
                gaps = jax.tree.map(jnp.subtract, net.params[name], start[name])
                total += self.alpha * squares(gaps)
        return {"l2_sp": Term(total / 2)}


def squares(tree: Any) -> jax.Array:
    """The sum of the squares of all numbers of a tree, in float32."""
    leaves = [jnp.square(leaf.astype(jnp.float32)).sum() for leaf in jax.tree.leaves(tree)]
    return sum(leaves, jnp.zeros(()))
