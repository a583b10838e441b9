"""Co-Tuning: the old classifier learns too, towards the source classes of each target class.

You et al. 2020, Co-Tuning for Transfer Learning (NeurIPS).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.chain.source_head import SOURCE_HEAD
from tl_jax.errors import takes, takes_type
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.cross_entropy import CrossEntropy, entropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class CoTuning(CrossEntropy):
    """Cross entropy + weight times the old classifier's cross entropy to p(source | target class).

    p(source class | target class), (C, S), is the mean of the pretrained network's probabilities
    over the training examples of the target class: the paper's direct approach, of probabilities as
    they are, without its calibration on source data. A target class without examples adds nothing.
    """

    weight: float = 2.3

    def __post_init__(self):
        super().__post_init__()
        takes_type("co_tuning: weight", float, self.weight)
        takes(self.weight >= 0, "co_tuning: weight", "a number from 0 on", self.weight)

    @property
    def source_head(self) -> bool:
        """It asks for the old classifier."""
        return True

    def begin(self, net: Net, batch: Any) -> jax.Array:
        """The shape of p(source class | target class), (C, S)."""
        logits = net(batch["inputs"], SOURCE_HEAD, train=False)
        return jnp.zeros((batch["targets"].shape[-1], logits.shape[-1]))

    def refresh(self, fold: Any, memory: jax.Array, epoch: int) -> jax.Array:
        """p(source class | target class), (C, S), which does not change from epoch to epoch."""
        if epoch:
            return memory

        def add(net: Net, batch: Any, total: Any) -> Any:
            logits = net.at("anchor")(batch["inputs"], SOURCE_HEAD, train=False)
            shares = batch["targets"] * batch["weights"][:, None]
            found = jax.nn.softmax(logits.astype(jnp.float32))
            return total[0] + shares.T @ found, total[1] + shares.sum(0)

        sums, counts = fold(add, (jnp.zeros(memory.shape), jnp.zeros(len(memory))))
        return sums / jnp.where(counts == 0, 1.0, counts)[:, None]

    def loss(self, net: Net, batch: Any, memory: jax.Array, now: Now) -> Loss:
        """`loss`, `co_tuning`, and the terms of `also`."""
        terms = dict(super().loss(net, batch, memory, now).terms)
        logits, targets = net(batch["inputs"], SOURCE_HEAD), batch["targets"] @ memory
        terms["co_tuning"] = entropy(logits, targets, batch["weights"], self.weight)
        return Loss(terms, memory)
