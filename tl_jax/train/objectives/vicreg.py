"""VICReg: views agree, every dimension varies, and no two dimensions vary together.

Bardes, Ponce & LeCun 2022, VICReg: Variance-Invariance-Covariance Regularization for
Self-Supervised Learning (arXiv:2105.04906).
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
class VICReg(JointEmbedding):
    """Equation 6, with the weights of the authors' code, which halves the variance term.

    The projection has one hidden layer; the paper's expander has two, of 8192.
    """

    width: int = 2048
    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`invariance`, `variance` and `covariance`; logs the `spread` of the embeddings."""
        a, b = jointly(net, (batch["a"], batch["b"]), "projected")
        return Loss(self.compared(a, b), memory, {"spread": spread(a)})

    def compared(self, a: jax.Array, b: jax.Array) -> dict[str, Term]:
        """The three terms of embeddings (B, D) of two views."""
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
        (va, ca), (vb, cb) = repulsion(a), repulsion(b)
        return {
            "invariance": Term(((a - b) ** 2).sum(), a.size, self.invariance),
            "variance": Term((va + vb) / 2, 1.0, self.variance),
            "covariance": Term(ca + cb, 1.0, self.covariance),
        }


def repulsion(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The mean of max(0, 1 - deviation) over dimensions, equation 1; and the sum of the squared
    covariances of two different dimensions, divided by D, equation 4.
    """
    count, width = z.shape
    z = z - z.mean(0)
    covariance = z.T @ z / (count - 1)
    deviation = jnp.sqrt(jnp.diag(covariance) + 1e-4)
    others = jnp.where(jnp.eye(width, dtype=bool), 0.0, covariance)
    return jax.nn.relu(1 - deviation).mean(), (others**2).sum() / width
