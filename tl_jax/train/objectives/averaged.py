"""Cross entropy, judged and handed on as the running average of the weights.

Polyak & Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; with a constant rate,
the teacher of Tarvainen & Valpola 2017, Mean Teacher (arXiv:1703.01780).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from tl_jax.train.objective import Now
from tl_jax.train.objectives.cross_entropy import CrossEntropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Averaged(CrossEntropy):
    """average += max(rate, 1 / (step + 1)) * (weights - average), after each step.

    So it is the plain mean of all steps at first, and forgets at `rate` later. Asks of the batch
    what cross entropy does.
    """

    rate: float = 0.01
    evaluates = "average"

    def average(self, now: Now, step: Any) -> Any:
        """The rate at which the average follows."""
        return jnp.maximum(self.rate, 1 / (step + 1))
