"""Which learning rate? A short training in which the rate rises at every step, and its losses.

Smith 2017, Cyclical Learning Rates for Training Neural Networks (arXiv:1506.01186), section 3.3.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interrupt
from tl_jax.engine.prefix import Inputs, on_device
from tl_jax.plans.plan import Plan
from tl_jax.train import fold
from tl_jax.train.loop import trained_terms
from tl_jax.train.problem import Problem
from tl_jax.train.state import begin, without_sums
from tl_jax.train.work import PhaseRun

SMOOTHING = 0.9  # of the running mean of the losses
DIVERGED = 4.0  # times the least loss: the sweep ends
MARGIN = 10.0  # by which the rate of the least loss is divided


class Sweep(NamedTuple):
    """Of each step the rate and the loss on its batch, (S,) both."""

    rates: np.ndarray
    losses: np.ndarray


@dataclasses.dataclass(frozen=True)
class Rising:
    """A schedule (peak, steps) from `lowest` to the peak, by the same factor in each of `count`
    steps.
    """

    lowest: float
    count: int

    def __call__(self, peak: float, steps: int):
        factor = (peak / self.lowest) ** (1 / max(self.count - 1, 1))
        return lambda step: self.lowest * factor**step


def sweep(
    problem: Problem,
    number: int,
    variables: Any,
    inputs: Inputs,
    *,
    lowest: float,
    highest: float,
    steps: int,
) -> Sweep:
    """Train phase `number` of the plan from `variables` on its `inputs`, at rates from `lowest` to
    `highest`; stop early once the loss diverges. The phase's schedule and epochs do not matter.
    """
    phase = problem.plan.phases[number]
    an_epoch = PhaseRun(problem, phase, number, inputs, variables).steps
    settings = dataclasses.replace(
        phase.settings,
        schedule=Rising(lowest, steps),
        learning_rate=highest,
        epochs=math.ceil(steps / an_epoch),
    )
    phase = dataclasses.replace(phase, settings=settings)
    problem = dataclasses.replace(problem, plan=Plan("sweep", (phase,)))
    work = PhaseRun(problem, phase, 0, on_device(inputs, problem.parallel), variables)
    variables = fold.recalibrated(work, variables)
    memory = fold.first_memory(work, variables, variables)
    state = begin(work.recipe, work.survey, variables, memory, None)
    fixed = problem.parallel.place(work.frozen(variables, variables, 0))
    prefix_fn, losses = work.prefix(fixed), []
    for epoch in range(settings.epochs):
        state = fold.refreshed(work, variables, variables, state, epoch)
        for batch in work.batches(epoch):
            interrupt.check()
            batch = prefix_fn(problem.parallel.share(batch))
            state = work.call(work.step, problem.parallel.place(without_sums(state)), fixed, batch)
            losses.append(trained_terms(work, state)["train_loss"])
            smooth = smoothed(np.array(losses))
            if len(losses) == steps or diverged(smooth):
                rates = [Rising(lowest, steps)(highest, steps)(i) for i in range(len(losses))]
                return Sweep(np.array(rates), np.array(losses))
    raise AssertionError("the epochs have fewer steps than the sweep")


def diverged(smooth: np.ndarray) -> bool:
    """Return whether the last of smoothed losses (S,) is `DIVERGED` times the least one, or not
    finite.

    Where the least is not above 0, it is not a multiple that counts but the rise above the least:
    `DIVERGED` times the size of the first or the least, whichever is larger.
    """
    least, last = smooth.min(), smooth[-1]
    if least > 0:
        return not last < DIVERGED * least
    return not last - least < DIVERGED * max(abs(smooth[0]), abs(least))


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Return the running mean of losses (S,), in which the first do not count less than later ones
    (the correction of Adam; Kingma & Ba 2015, arXiv:1412.6980, section 3).
    """
    mean, means = 0.0, []
    for loss in losses:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING ** (len(means) + 1)))
    return np.array(means)


def suggested(found: Sweep) -> float | None:
    """Return a tenth of the largest rate with about the least smoothed loss; None where the loss
    never fell.

    About: within a tenth of the whole fall, since on a plateau noise picks the least. fastai
    divides the rate of the very least by 10.
    """
    smooth = smoothed(found.losses)
    smooth = np.where(np.isfinite(smooth), smooth, np.inf)
    if not smooth.min() < smooth[0] < np.inf:
        return None
    fall = smooth[0] - smooth.min()
    (near,) = np.nonzero(smooth <= smooth.min() + fall / 10)
    return float(found.rates[near[-1]]) / MARGIN
