"""TENT: at test time, norms learn to make predictions sure.

Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization (arXiv:2006.10726).
"""

import dataclasses
from typing import TYPE_CHECKING, Any

from tl_jax.chain.network import Net
from tl_jax.errors import takes, takes_types
from tl_jax.train.objective import Loss, Now, Term
from tl_jax.train.objectives.domains import entropies, wide
from tl_jax.train.objectives.source_free import SourceFree, require_frozen

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tent(SourceFree):
    """weight times the mean entropy of a batch's predictions.

    Settings of the phase: batch_norm=batch, a pattern `leaves` of the norms' scales and biases, one
    epoch. The paper's measure is the logged `online_accuracy`, of the predictions made before each
    update; it alone reads labels. Its baseline, statistics alone, is weight=0 in the same settings.
    Evaluations use the running statistics, which the paper never does.
    """

    weight: float = 1.0

    def __post_init__(self):
        takes_types(self)
        takes(self.weight >= 0, "weight=", "a number from 0 on", self.weight)

    def check(self, problem: "Problem") -> None:
        """UserError for a plan that trains the classifier."""
        require_frozen(problem, self.output)

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The term `entropy`; logs `online_accuracy`."""
        logits = wide(net(batch["inputs"], self.output))
        right = (logits.argmax(-1) == batch["labels"]).sum()
        terms = {"entropy": Term(entropies(logits).sum(), len(logits), self.weight)}
        return Loss(terms, memory, {"online_accuracy": Term(right, len(logits))})
