"""SimCLR: of all other views in the batch, which one is of the same image?

Chen et al. 2020, A Simple Framework for Contrastive Learning of Visual Representations
(arXiv:2002.05709).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import jointly, unit
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimCLR(JointEmbedding):
    """Equation 1, NT-Xent: cross entropy over cosines / `temperature`.

    The default is solo-learn's for CIFAR. Batch statistics are common to both views.
    """

    temperature: float = 0.2

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss`; logs the `spread` of the embeddings."""
        a, b = jointly(net, (batch["a"], batch["b"]), "projected")
        return Loss({"loss": nt_xent(a, b, self.temperature)}, memory, {"spread": spread(a)})


def nt_xent(a: jax.Array, b: jax.Array, temperature: float) -> Term:
    """The mean over both views (B, D) of -log softmax of the cosine with the other view, among
    those with all views but itself.
    """
    count = len(a)
    z = unit(jnp.concatenate([a, b]).astype(jnp.float32))
    logits = jnp.where(jnp.eye(2 * count, dtype=bool), -jnp.inf, z @ z.T / temperature)
    partners = jnp.roll(jnp.arange(2 * count), count)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, partners)
    return Term(losses.sum(), 2 * count)
