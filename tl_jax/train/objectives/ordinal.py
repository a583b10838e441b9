"""CORN: classes in order, by a chain of questions whether an example is above each.

Shi, Cao & Raschka 2021, Deep Neural Networks for Rank-Consistent Ordinal Regression Based on
Conditional Probabilities (arXiv:2111.08851).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain import answers
from tl_jax.chain.network import Net
from tl_jax.stats import metrics
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.cross_entropy import Classification


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordinal(Classification):
    """Equation 5: output k of the K - 1 at `output` learns, from the examples that are not below
    class k, whether they are above it; the mean over examples and outputs.

    The order is that of the task's classes.
    """

    answers = "ranks"

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """One term, `loss`."""
        logits = net(batch["inputs"], self.output).astype(jnp.float32)
        labels, numbers = batch["labels"][:, None], jnp.arange(logits.shape[-1])
        weights = (labels >= numbers) * batch["weights"][:, None]
        losses = optax.sigmoid_binary_cross_entropy(logits, labels > numbers)
        return Loss({"loss": Term((losses * weights).sum(), weights.sum())}, memory)

    def predict(self, net: Net, batch: Any, carry: Any) -> tuple[jax.Array, Any]:
        """Class probabilities (B, K)."""
        logits = net(batch["inputs"], self.output, train=False).astype(jnp.float32)
        return answers.Ranks()(logits), carry

    def finish(self, predictions: Any, task: Any, examples: Any) -> dict[str, Any]:
        """Every metric of a classification, and those of ranks."""
        said = super().finish(predictions, task, examples)
        return said | metrics.of_ranks(predictions, task.labels[examples])
