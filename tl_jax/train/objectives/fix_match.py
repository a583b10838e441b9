"""FixMatch: the answer to a weak view is the label of a strong view, where it is sure.

Sohn et al. 2020, FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence
(arXiv:2001.07685), algorithm 1.
"""

import dataclasses
from typing import Any

from tl_jax.chain.network import Net
from tl_jax.data import augment as augmentations
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.common import jointly
from tl_jax.train.objectives.cross_entropy import entropy
from tl_jax.train.objectives.pseudo_label import PseudoLabel
from tl_jax.train.objectives.semi_supervised import Views, pseudo_labelled


@dataclasses.dataclass(frozen=True, kw_only=True)
class FixMatch(PseudoLabel):
    """Cross entropy of weak labelled views + weight times that of strong unlabelled ones.

    The strong view is the phase's augmentation, or `strong` where it has none. `weak` is none by
    default, as a mirrored digit is no digit: of photographs take weak="flip+shift". The paper's
    batch has 7 unlabelled examples for each labelled one, and it judges an average of the weights;
    here both batches have the phase's size, as in TLlib, and the weights are judged.
    """

    ramp: float = 0.0
    weak: str = ""
    strong: str = "randaugment"

    def __post_init__(self):
        super().__post_init__()
        for spec in (self.weak, self.strong):
            augmentations.make(spec)

    def augmented(self, augment: Any) -> Views:
        """Views "weak" and "strong"."""
        weak, strong = augmentations.make(self.weak), augment or augmentations.make(self.strong)
        return Views(weak, (("weak", weak), ("strong", strong)))

    def thresholds(self, memory: Any) -> Any:
        """The probability from which an answer is sure: a number, or one by class (C,)."""
        return self.threshold

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """`loss` and `unlabelled`; logs `sure`, the share of unlabelled examples with a label."""
        labelled, free = batch["labelled"], batch["unlabelled"]
        knowns = labelled["inputs"], free["weak"], free["strong"]
        logits, weak, strong = jointly(net, knowns, self.output)
        found = pseudo_labelled(strong, weak, self.thresholds(memory), self.scale(now))
        supervised = entropy(logits, labelled["targets"], labelled["weights"])
        return Loss({"loss": supervised, "unlabelled": found[0]}, memory, {"sure": found[1]})
