"""MCC: a target example that is like one class is not like another.

Jin et al. 2020, Minimum Class Confusion for Versatile Domain Adaptation (arXiv:1912.03699).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.domains import Weighted, entropies, supervised, wide


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassConfusion(Weighted):
    """Cross entropy on the source, and weight times the target's class confusion.

    Of probabilities P (B, C) at a temperature: K = P^T W P, its rows made to sum to 1, and the mean
    over classes of what is off the diagonal. W is diagonal: 1 + exp(-H) of each example, through
    which no gradient flows.
    """

    temperature: float = 2.5
    coupled = True
    aligns = False

    def __post_init__(self):
        super().__post_init__()
        takes(self.temperature > 0, "temperature=", "a number above 0", self.temperature)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `loss` and `confusion`."""
        logits, others = self.run(net, batch, self.output)
        confused = confusion(wide(others) / self.temperature)
        terms = {"loss": supervised(logits, batch), "confusion": Term(confused, 1.0, self.weight)}
        return Loss(terms, memory)


def confusion(logits: jax.Array) -> jax.Array:
    """The class confusion of logits (B, C)."""
    p, unsure = jax.nn.softmax(logits), jax.lax.stop_gradient(entropies(logits))
    pairs = (p * (1 + jnp.exp(-unsure))[:, None]).T @ p  # the scale of the weights cancels
    pairs = pairs / pairs.sum(1, keepdims=True)
    return (pairs.sum() - jnp.trace(pairs)) / len(pairs)
