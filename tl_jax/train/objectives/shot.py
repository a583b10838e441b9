"""SHOT: without the source, features move to where the source's classifier is sure and balanced.

Liang et al. 2020, Do We Really Need to Access the Source Data? Source Hypothesis Transfer for
Unsupervised Domain Adaptation (arXiv:2002.08546).
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.errors import UserError, takes, takes_types
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import read_by, unit
from tl_jax.train.objectives.domains import entropies, pooled, wide
from tl_jax.train.objectives.source_free import SourceFree, require_frozen

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class SHOT(SourceFree):
    """Mean entropy of predictions, minus the entropy of their mean, plus beta times the cross
    entropy to pseudo-labels.

    The pseudo-label of an example is the class whose centre is nearest to its features by cosine.
    Centres (C, D) are made before each epoch: means of features weighted by predictions, then means
    of the examples nearest to those. The paper labels all examples then; here each batch is
    labelled by its features of that step, in inference mode. The paper's source model has smoothed
    labels, a bottleneck with a batch norm, and a classifier with weight norm. Its code appends a 1
    to the features before the cosine, and drops classes that too few examples are predicted as.
    """

    beta: float = 0.3
    coupled = True

    def __post_init__(self):
        takes_types(self)
        takes(self.beta >= 0, "beta=", "a number from 0 on", self.beta)

    def check(self, problem: "Problem") -> None:
        """UserError for a plan that trains the classifier, and for batches of one."""
        require_frozen(problem, self.output)
        if problem.batch_size < 2:
            raise UserError(
                "SHOT asks that the predictions of a batch differ, and batch_size=1 has one: take "
                "64, or what fits"
            )

    def begin(self, net: Net, batch: Any) -> jax.Array:
        """The shape of the centres, (C, D)."""
        features, logits = self.seen(net, batch, train=False)
        return jnp.zeros((logits.shape[-1], features.shape[-1]))

    def refresh(self, fold: Any, memory: jax.Array, epoch: int) -> jax.Array:
        """The centres, of length 1; 0 for a class that no example is nearest to."""
        empty = jnp.zeros_like(memory)
        first = fold(self.soft_sums, empty)
        _, sums = fold(self.nearest_sums, (unit(first), empty))
        return unit(sums)

    def soft_sums(self, net: Net, batch: Any, total: jax.Array) -> jax.Array:
        """The sums of features (C, D), weighted by predictions."""
        features, logits = self.seen(net, batch, train=False)
        return total + jax.nn.softmax(logits).T @ features

    def nearest_sums(self, net: Net, batch: Any, total: Any) -> Any:
        """The centres, and the sums of the features (C, D) that are nearest to each."""
        (centres, sums), (features, _) = total, self.seen(net, batch, train=False)
        return centres, sums + nearest(features, centres).T @ features

    def loss(self, net: Net, batch: Any, memory: jax.Array, now: Now) -> Loss:
        """The terms `entropy`, `diversity` and `pseudo`."""
        logits = wide(net(batch["inputs"], self.output))
        labels = nearest(jax.lax.stop_gradient(self.seen(net, batch, train=False)[0]), memory)
        mean, count = jax.nn.softmax(logits).mean(0), len(logits)
        losses = optax.softmax_cross_entropy(logits, labels)
        terms = {
            "entropy": Term(entropies(logits).sum(), count),
            "diversity": Term(-(mean * jnp.log(mean + 1e-5)).sum(), 1.0, -1.0),
            "pseudo": Term(losses.sum(), count, self.beta),
        }
        return Loss(terms, memory)

    def seen(self, net: Net, batch: Any, **how: Any) -> tuple[jax.Array, jax.Array]:
        """Features (B, D) of length 1, and logits (B, C)."""
        place = read_by(net.network, self.output)
        features, logits = net(batch["inputs"], (place, self.output), **how)
        return unit(pooled(features)), wide(logits)


def nearest(features: jax.Array, centres: jax.Array) -> jax.Array:
    """One-hot (B, C): the centre (C, D) with the largest cosine, of those that are not 0."""
    there = (centres**2).sum(-1) > 0
    likeness = jnp.where(there, features @ centres.T, -jnp.inf)
    return jax.nn.one_hot(likeness.argmax(-1), len(centres))
