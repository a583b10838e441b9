"""AdaBN: the batch norms' statistics become the target's, and no weight learns.

Li et al. 2017, Revisiting Batch Normalization For Practical Domain Adaptation (arXiv:1603.04779).
"""

import dataclasses
from typing import TYPE_CHECKING

from tl_jax.errors import UserError
from tl_jax.plans import norms
from tl_jax.train.objectives.source_free import SourceFree

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaBN(SourceFree):
    """No update. batch_norm=recalibrate estimates the statistics before the phase, in all layers
    that it would train, as the mean over the batches of an epoch.
    """

    turns = ()

    def check(self, problem: "Problem") -> None:
        """UserError for a phase that does not estimate statistics."""
        for phase in problem.plan.phases:
            if not norms.make(phase.settings.batch_norm).anew:
                raise UserError(
                    f"AdaBN changes statistics alone, but the phase {phase.name!r} has batch_norm="
                    f"{phase.settings.batch_norm}: take batch_norm=recalibrate"
                )
