"""CBST: the target's surest predictions become labels, of each class the same share.

Zou et al. 2018, Domain Adaptation for Semantic Segmentation via Class-Balanced Self-Training
(arXiv:1810.07911).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.errors import takes, takes_whole
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.domains import Weighted, log_rest, supervised, wide

BINS, SUREST = 1024, 16.0  # of -log(1 - p): float32 knows no p nearer to 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfTraining(Weighted):
    """Cross entropy on the source, and on the target's examples with a pseudo-label.

    Before each epoch, class k gets the threshold t_k that a `share` of the examples predicted as k
    pass; the share grows by `growth` an epoch, up to `most`. The label is the class of the largest
    p_k / t_k, where that is 1 or more. Predictions are those of inference mode. In the first `wait`
    epochs of a phase there are no labels: a fresh head has nothing to say. Thresholds are read from
    a histogram of -log(1 - p), over an epoch's batches: of a target larger than the source, a part.
    The paper labels all examples at once, before each round of some epochs.
    """

    share: float = 0.2
    growth: float = 0.05
    most: float = 0.5
    wait: int = 1
    aligns = False

    def __post_init__(self):
        super().__post_init__()
        for name in ("share", "growth", "most"):
            value = getattr(self, name)
            takes(0 <= value <= 1, f"{name}=", "a share, from 0 to 1", value)
        takes_whole(self.wait, "wait=", 0, 10**6)

    def begin(self, net: Net, batch: Any) -> jax.Array:
        """Thresholds (C,) that no prediction passes."""
        return jnp.full(batch["source"]["targets"].shape[-1], 2.0)

    def refresh(self, fold: Any, memory: jax.Array, epoch: int) -> jax.Array:
        """The thresholds (C,) of this epoch."""
        if epoch < self.wait:
            return jnp.full_like(memory, 2.0)
        share = min(self.share + self.growth * (epoch - self.wait), self.most)
        return thresholds(fold(self.counted, jnp.zeros((len(memory), BINS))), share)

    def counted(self, net: Net, batch: Any, total: jax.Array) -> jax.Array:
        """The histogram (C, BINS) of -log(1 - p), by predicted class."""
        logits = wide(net(batch["target"]["inputs"], self.output, train=False))
        classes = logits.argmax(-1)
        bins = (-log_rest(logits, classes) * (BINS / SUREST)).astype(jnp.int32)
        return total.at[classes, jnp.clip(bins, 0, BINS - 1)].add(1)

    def loss(self, net: Net, batch: Any, memory: jax.Array, now: Now) -> Loss:
        """The terms `loss` and `pseudo`, a mean over the batch; logs the share that has labels."""
        logits, others = self.run(net, batch, self.output)
        said = wide(net(batch["target"]["inputs"], self.output, train=False))
        ratios = jax.lax.stop_gradient(jax.nn.softmax(said)) / memory
        sure = (ratios.max(-1) >= 1).astype(jnp.float32)
        labels = jax.nn.one_hot(ratios.argmax(-1), len(memory))
        pseudo = entropy(others, labels, sure, self.weight)._replace(weight=len(sure))
        terms = {"loss": supervised(logits, batch), "pseudo": pseudo}
        return Loss(terms, memory, {"labelled": Term(sure.sum(), len(sure))})


def thresholds(counts: jax.Array, share: float) -> jax.Array:
    """The probability (C,) that a share of each class's examples reach; 2 for a class without."""
    total = counts.sum(-1, keepdims=True)
    reach = jnp.cumsum(counts[:, ::-1], -1)[:, ::-1]  # a bin or a higher one
    ends = (reach >= total).sum(-1) - 1, (reach > 0).sum(-1) - 1  # bins of the least and most sure
    first = jnp.clip((reach > jnp.ceil(share * total)).sum(-1), *ends)
    reached = jnp.maximum(-jnp.expm1(-first * (SUREST / BINS)), 1 / len(counts))  # it is a maximum
    return jnp.where(total[:, 0] > 0, reached, 2.0)
