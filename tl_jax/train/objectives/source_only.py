"""The source alone: what every method of adaptation must beat."""

import dataclasses
from typing import Any

from tl_jax.chain.network import Net
from tl_jax.train.objective import Loss, Now
from tl_jax.train.objectives.domains import Adaptation, supervised


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOnly(Adaptation):
    """Cross entropy on the source, judged on the target, whose inputs are not read."""

    aligns = False

    def loss(self, net: Net, batch: Any, memory: Any, now: Now) -> Loss:
        """The term `loss`."""
        logits = net(batch["source"]["inputs"], self.output)
        return Loss({"loss": supervised(logits, batch)}, memory)
