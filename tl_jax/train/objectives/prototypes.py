"""Prototypical networks: features in which examples lie near the mean of a few of their class.

Snell et al. 2017, Prototypical Networks for Few-shot Learning (arXiv:1703.05175).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax import ops
from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.errors import UserError, takes_whole
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import read_by
from tl_jax.train.objectives.cross_entropy import Classification, entropy

FAR = 1e9  # squared distance to the prototype of a class that has none


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prototypes(Classification):
    """Algorithm 1: a batch is an episode of all classes. The first `shots` examples of each class
    are its support set, with mean c_k; of all others, the queries, the term `episode` is

        -log softmax(-|f - c_k|^2)[class]

    f is the feature that the head reads, averaged over space or tokens. With a phase's
    sampling="balanced" and a batch of C (shots + queries) every class has as many queries. The
    paper's episodes have a random part of the classes.

    The head learns beside it, from features through which no gradient goes: `loss`. It predicts the
    classes of training, and is not needed for others.
    """

    shots: int = 5
    coupled = True

    def __post_init__(self):
        takes_whole(self.shots, "prototypes: shots", 1, 1000)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The terms `episode` and `loss`; logs the share of queries that are right."""
        targets, known = batch["targets"], batch["inputs"]
        count, classes = targets.shape
        if count < classes * (self.shots + 1):
            raise UserError(
                f"prototypes: an episode of {classes} classes with {self.shots} shots and a query "
                f"each is a batch of {classes * (self.shots + 1)}; batch_size={count} is too small"
            )
        place = read_by(net.network, self.output)
        value = net(known, place)
        features = ops.mean_of_positions(value).astype(jnp.float32)
        logits, queries = episode(features, targets.argmax(1), classes, self.shots)
        weights = batch["weights"] * queries
        right = (logits.argmax(1) == targets.argmax(1)) * queries
        head = net(Known({place: jax.lax.stop_gradient(value)}), self.output)
        terms = {
            "episode": entropy(logits, targets, weights),
            "loss": entropy(head, targets, batch["weights"]),
        }
        return Loss(terms, memory, {"episode_accuracy": Term(right.sum(), queries.sum())})


def episode(
    features: jax.Array, labels: jax.Array, classes: int, shots: int
) -> tuple[jax.Array, jax.Array]:
    """Return -|f - c|^2 to each class's prototype (B, C), and 1 for the queries (B,), else 0.

    `features` (B, D), `labels` (B,). A class with fewer than `shots` examples has a prototype of
    what there is; one with none has no queries either.
    """
    one_hot = jax.nn.one_hot(labels, classes)
    rank = ((jnp.cumsum(one_hot, 0) - 1) * one_hot).sum(1)  # among those of its class
    support = one_hot * (rank < shots)[:, None]
    counts = support.sum(0)
    means = support.T @ features / jnp.maximum(counts, 1)[:, None]
    distances = ((features[:, None] - means) ** 2).sum(-1)
    return -jnp.where(counts > 0, distances, FAR), (rank >= shots).astype(jnp.float32)
