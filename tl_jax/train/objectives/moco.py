"""MoCo: which of many embeddings is of the same image? The others come from a queue.

He et al. 2020, Momentum Contrast for Unsupervised Visual Representation Learning
(arXiv:1911.05722); with the projection of MoCo v2 (arXiv:2003.04297).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tl_jax.chain.network import Net
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes, takes_whole
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.common import unit
from tl_jax.train.objectives.self_supervised import JointEmbedding, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoCo(JointEmbedding):
    """Equation 1, InfoNCE: the positive is the averaged network's embedding of the other view, the
    negatives the last `queue` of these, which are the memory. The average moves by `rate` (1 - m).

    Batches are not shuffled over devices: batch statistics are those of the whole batch.
    """

    queue: int = 4096
    rate: float = 0.004
    temperature: float = 0.2

    def __post_init__(self):
        takes_whole(self.queue, "moco: queue", 1, 2**20)
        takes(0 < self.rate <= 1, "moco: rate", "a number above 0 and up to 1", self.rate)

    def fitted(self, task: Task) -> "MoCo":
        """The same; UserError for a queue longer than an epoch, in which every image would be its
        own negative. In a shorter one, of Q of N images, a share Q^2 / (2 N^2) of them is.
        """
        if self.queue > (count := len(task.splits["train"])):
            raise UserError(
                f"moco: a queue of {self.queue} is longer than an epoch of {count} images, so it "
                f"would hold the image itself: take moco(queue={max(1, count // 10)}) or so"
            )
        return self

    def average(self, now: Now) -> Any:
        """1 - m."""
        return self.rate

    def begin(self, net: Net, batch: Any) -> jax.Array:
        """The queue (queue, width): random directions, until embeddings replace them."""
        return unit(jax.random.normal(jax.random.key(0), (self.queue, self.width)))

    def loss(self, net: Net, batch: Any, memory: jax.Array, now: Now) -> Loss:
        """`loss`; logs the `spread` of the embeddings."""
        own = net(batch["a"], "projected").astype(jnp.float32)
        other = net.at("average")(batch["b"], "projected").astype(jnp.float32)
        other = jax.lax.stop_gradient(unit(other))
        term = info_nce(unit(own), other, memory, self.temperature)
        queue = jnp.concatenate([memory, other])[-self.queue :]
        return Loss({"loss": term}, queue, {"spread": spread(own)})


def info_nce(own: jax.Array, positive: jax.Array, negatives: jax.Array, temperature: float) -> Term:
    """The mean over unit vectors (B, D) of -log softmax of the cosine with the positive (B, D),
    among it and the negatives (Q, D).
    """
    logits = jnp.concatenate([(own * positive).sum(1, keepdims=True), own @ negatives.T], 1)
    first = jnp.zeros(len(own), int)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits / temperature, first)
    return Term(losses.sum(), len(own))
