"""A sweep of the learning rate for each phase of a transfer's plan."""

import dataclasses
import functools
import pathlib
from typing import Any

from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.plans.plan import Plan
from tl_jax.runs import pose, settings
from tl_jax.runs.subject import base_of, outline_of, task_of
from tl_jax.train import loop, rates
from tl_jax.train.inputs import for_plan

LOWEST, HIGHEST, STEPS = 1e-6, 10.0, 100


def check(config: Any) -> None:
    """UserError for a base, a cut or a plan that is none."""
    pose.check(outline_of(config), *_given(config))


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to."""
    return {"": task_of(config, config.seed)}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Sweep each phase from the weights that the phases before it give; the test split is not used.

    By phase, `rates` and `losses` of each step, `smoothed` losses, and the `suggested` rate.
    """
    own, options = _given(config)
    task = task_of(config, config.seed)
    problem, _, start = pose.posed(base_of(config), task, own, options)
    inputs_for = for_plan(problem, test_views="none", cache=own.cache, dtype=own.cache_dtype)
    phases, found = problem.plan.phases, []
    for number, phase in enumerate(phases):
        variables = start
        if number:
            before = dataclasses.replace(problem, plan=Plan("before", phases[:number]))
            folder = workdir / f"before_{phase.name}"
            variables, *_ = loop.run(before, variables, inputs_for, workdir=folder)
        inputs = inputs_for(phase, variables)
        sweep = functools.partial(rates.sweep, problem, number, variables, inputs)
        swept = sweep(lowest=LOWEST, highest=HIGHEST, steps=STEPS)
        if len(swept.rates) < 2:
            raise UserError(f"phase {phase.name!r}: the loss is not finite from the first step on")
        found.append(
            {
                "name": phase.name,
                "learning_rate": phase.settings.learning_rate,
                "suggested": rates.suggested(swept),
                "rates": swept.rates.tolist(),
                "losses": swept.losses.tolist(),
                "smoothed": rates.smoothed(swept.losses).tolist(),
            }
        )
    return {"phases": found}


def _given(config: Any) -> tuple[settings.TransferSettings, dict[str, Any]]:
    own = {k: v for k, v in config.to_dict().items() if k in settings.defaults()}
    return settings.divided(own)
