"""Cross entropy, judged and handed on as the running average of the weights.

Polyak & Juditsky 1992, Acceleration of Stochastic Approximation by Averaging; with a constant rate,
the teacher of Tarvainen & Valpola 2017, Mean Teacher (arXiv:1703.01780).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from tl_jax.errors import UserError
from tl_jax.train.objective import Now
from tl_jax.train.objectives.cross_entropy import CrossEntropy


@dataclasses.dataclass(frozen=True, kw_only=True)
class Averaged(CrossEntropy):
    """average += max(rate, 1 / n) * (weights - average) after each step, the n-th that is averaged.

    Of each phase it is the plain mean of all steps at first, and forgets at `rate` later. With
    `since`, a share of the phase, the mean begins anew there: "averaged(rate=0, since=0.75)" is the
    mean over the phase's last quarter (SWA; Izmailov et al. 2018, arXiv:1803.05407), which a
    constant rate suits. Asks of the batch what cross entropy does.
    """

    rate: float = 0.01
    since: float = 0.0
    evaluates = "average"

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.rate <= 1:
            raise UserError(f"averaged: rate is from 0 to 1; got {self.rate}")
        if not 0 <= self.since < 1:
            raise UserError(f"averaged: since is a share from 0 to below 1; got {self.since}")

    def average(self, now: Now) -> Any:
        """The rate at which the average follows."""
        averaged = jnp.floor((now.progress - self.since) * now.steps + 0.5)
        return jnp.maximum(self.rate, 1 / jnp.maximum(averaged + 1, 1))
