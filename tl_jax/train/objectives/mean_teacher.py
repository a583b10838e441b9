"""Mean Teacher: a noisy pass is to give what the average of the network's weights answers.

Tarvainen & Valpola 2017, Mean teachers are better role models (arXiv:1703.01780).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.semi_supervised import SemiSupervised, consistency, twice, view


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanTeacher(SemiSupervised):
    """Cross entropy + weight times the squared gap of the probabilities to the teacher's.

    The teacher is the average of the weights over the steps, and is what the run hands on. It is
    the plain mean of the phase's first steps, and follows at `rate` later: 1 - alpha in the paper,
    which has 0.001 for thousands of times as many steps. It sees a view of its own, and has no
    dropout, which the paper's has. Weight and its linear rise are those of the code of FixMatch's
    authors.
    """

    weight: float = 50.0
    rate: float = 0.05
    evaluates = "average"

    def __post_init__(self):
        super().__post_init__()
        takes(0 <= self.rate <= 1, "rate=", "a share from 0 to 1", self.rate)

    def augmented(self, augment: Any) -> Any:
        """Views "a", of the network, and "b", of the teacher."""
        return twice(augment)

    def average(self, now: Now) -> Any:
        """The rate at which the teacher follows."""
        return jnp.maximum(self.rate, 1 / (jnp.round(now.progress * now.steps) + 1))

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss` and `unlabelled`."""
        labelled = batch["labelled"]
        logits, own = jointly(net, (labelled["inputs"], view(batch, "a")), self.output)
        # Where the network normalises by the batch, so does its teacher: its running statistics are
        # still those of other images.
        taught = net.at("average")(view(batch, "b"), self.output)
        supervised = entropy(logits, labelled["targets"], labelled["weights"])
        gap = consistency(own, jax.lax.stop_gradient(taught), self.scale(now))
        return Loss({"loss": supervised, "unlabelled": gap}, memory)
