"""BNM: predictions of a target batch are sure, and of many classes.

Cui et al. 2020, Towards Discriminability and Diversity: Batch Nuclear-norm Maximization under Label
Insufficient Situations (arXiv:2003.12237).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.domains import Weighted, supervised, wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class NuclearNorm(Weighted):
    """Cross entropy on the source, minus weight / B times the nuclear norm of the target's
    probabilities (B, C), the sum of its singular values.
    """

    coupled = True
    aligns = False

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `nuclear_norm`."""
        logits, others = self.run(net, batch, self.output)
        p = jax.nn.softmax(wide(others))
        size = jnp.linalg.svd(p, compute_uv=False).sum() / len(p)
        terms = {"loss": supervised(logits, batch), "nuclear_norm": Term(size, 1.0, -self.weight)}
        return Loss(terms, memory)
