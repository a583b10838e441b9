"""Deep CORAL: source and target have the same covariance of features.

Sun & Saenko 2016, Deep CORAL: Correlation Alignment for Deep Domain Adaptation (arXiv:1607.01719).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.domains import Weighted, supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coral(Weighted):
    """Cross entropy on the source, and weight |C_s - C_t|^2 / (4 D^2) (equation 1).

    C are the covariances (D, D) of the batches' features, over B - 1. The paper aligns the last
    layer's output, and chooses the weight such that both terms end alike. TLlib takes the mean of
    the squared differences of the covariances, four times as much, and adds that of the means.
    """

    coupled = True

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `coral`."""
        (ours, logits), (theirs, _) = self.seen(net, batch)
        gap = jnp.square(covariance(ours) - covariance(theirs)).mean() / 4
        terms = {"loss": supervised(logits, batch), "coral": Term(gap, 1.0, self.weight)}
        return Loss(terms, memory)


def covariance(x: jax.Array) -> jax.Array:
    """The covariance (D, D) of the rows of (B, D), over B - 1."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)
