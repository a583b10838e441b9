"""Pseudo-labels: where the network is sure of an unlabelled example, its answer is the label.

Lee 2013, Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks (ICML workshop).
"""

import dataclasses
from typing import Any

from tl_jax.chain.network import Net
from tl_jax.errors import takes
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.semi_supervised import SemiSupervised, pseudo_labelled


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabel(SemiSupervised):
    """Cross entropy + weight times that of unlabelled examples to the network's own answers.

    Answers of a probability below `threshold` count as 0 in the mean over all unlabelled examples.
    Defaults are those of the code of FixMatch's authors; the paper has no threshold (0), and a
    weight that rises to 3.
    """

    threshold: float = 0.95

    def __post_init__(self):
        super().__post_init__()
        takes(0 <= self.threshold <= 1, "threshold=", "a share from 0 to 1", self.threshold)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss` and `unlabelled`; logs `sure`, the share of unlabelled examples with a label."""
        labelled, free = batch["labelled"], batch["unlabelled"]
        logits, own = jointly(net, (labelled["inputs"], free["inputs"]), self.output)
        unlabelled, sure = pseudo_labelled(own, own, self.threshold, self.scale(now))
        supervised = entropy(logits, labelled["targets"], labelled["weights"])
        return Loss({"loss": supervised, "unlabelled": unlabelled}, memory, {"sure": sure})
