"""The Pi-model: two noisy passes of an unlabelled example are to give the same answer.

Laine & Aila 2017, Temporal Ensembling for Semi-Supervised Learning (arXiv:1610.02242), section 2.1.
"""

import dataclasses
from typing import Any

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.semi_supervised import SemiSupervised, consistency, twice, view


@dataclasses.dataclass(frozen=True, kw_only=True)
class PiModel(SemiSupervised):
    """Cross entropy + weight times the squared gap of the probabilities of two passes.

    What differs between the passes is the phase's augmentation, drawn anew, and dropout: texts have
    dropout alone. Gradients flow through both, as in the paper. Weight and its linear rise are
    those of the code of FixMatch's authors; the paper's weight rises as exp(-5 (1 - t)^2) to 100
    times the labelled share of the examples. The paper takes the gap on labelled examples too; here
    they are among the unlabelled ones.
    """

    weight: float = 10.0

    def augmented(self, augment: Any) -> Any:
        """Views "a" and "b"."""
        return twice(augment)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss` and `unlabelled`."""
        labelled = batch["labelled"]
        knowns = labelled["inputs"], view(batch, "a"), view(batch, "b")
        logits, first, second = jointly(net, knowns, self.output)
        supervised = entropy(logits, labelled["targets"], labelled["weights"])
        gap = consistency(first, second, self.scale(now))
        return Loss({"loss": supervised, "unlabelled": gap}, memory)
