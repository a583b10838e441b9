"""What adaptation without the source shares: a base that was trained on it, and inputs alone."""

import dataclasses
from typing import TYPE_CHECKING

from tl_jax.errors import UserError
from tl_jax.train.objectives.cross_entropy import Classification

if TYPE_CHECKING:
    from tl_jax.train.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceFree(Classification):
    """Asks for the target task alone, and reads its inputs alone.

    The base is one that was trained on the source, and its classifier stays (head=kept). The last
    epoch is handed on, because any other choice would look at the target's labels.
    """

    chosen_by = "last"
    keeps_head = True


def require_frozen(problem: "Problem", output: str) -> None:
    """UserError if a phase trains the layer `output`, the classifier."""
    for phase in problem.plan.phases:
        if output in phase.trained:
            raise UserError(
                f"{type(problem.objective).__name__} keeps the source's classifier, but the phase "
                f"{phase.name!r} trains {output!r}: take plan=features_only"
            )
