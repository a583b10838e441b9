"""Barlow Twins: across views each dimension is correlated with itself, and with no other.

Zbontar et al. 2021, Barlow Twins: Self-Supervised Learning via Redundancy Reduction
(arXiv:2103.03230).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class BarlowTwins(JointEmbedding):
    """Equation 1 times `scale`: sum (1 - C_ii)^2 + `others` * sum of C_ij^2 of two dimensions.

    Defaults are solo-learn's for CIFAR. The paper's projection has one more layer, of 8192.
    """

    width: int = 2048
    others: float = 0.005
    scale: float = 0.1

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`own` and `others`; logs the `spread` of the embeddings."""
        a, b = jointly(net, (batch["a"], batch["b"]), "projected")
        own, others = redundancy(correlation(a, b))
        terms = {"own": Term(own, 1.0, self.scale)}
        terms["others"] = Term(others, 1.0, self.scale * self.others)
        return Loss(terms, memory, {"spread": spread(a)})


def correlation(a: jax.Array, b: jax.Array) -> jax.Array:
    """C (D, D): the correlation over the batch of each dimension of a (B, D) with each of b."""
    a, b = (z.astype(jnp.float32) for z in (a, b))
    a, b = ((z - z.mean(0)) * jax.lax.rsqrt(z.var(0) + 1e-5) for z in (a, b))
    return a.T @ b / len(a)


def redundancy(c: jax.Array) -> tuple[jax.Array, jax.Array]:
    """sum (1 - C_ii)^2, and the sum of C_ij^2 where i is not j."""
    own = jnp.diag(c)
    return ((1 - own) ** 2).sum(), (c**2).sum() - (own**2).sum()
