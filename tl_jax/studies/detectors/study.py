"""Detectors trained by several plans at several budgets of labelled images."""

import dataclasses
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from tl_jax import interrupt
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes_whole, unknown
from tl_jax.plans.plan import lengthened
from tl_jax.runs import pose, settings
from tl_jax.runs.config import nested
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, named_task, outline_of, require_seeds
from tl_jax.runs.transfer import judged, trained
from tl_jax.stats.paired import overlap
from tl_jax.studies.detectors import METRICS
from tl_jax.train.inputs import for_plan


def check(config: Any) -> None:
    """Raise UserError for seeds, budgets, plans and detectors that cannot be."""
    require_seeds(config.seeds)
    for what in ("budgets", "plans", "detectors"):
        if not config[what]:
            raise UserError(f"nothing is compared: {what}= is empty")
    for budget in config.budgets:
        takes_whole(budget, "budgets=", 0, 10**9)
    if config.reference not in config.plans:
        raise unknown("plan for reference=", config.reference, config.plans)
    takes_whole(config.least_steps, "least_steps=", 0, 10**9)
    base = outline_of(config)
    for detector in config.detectors:
        for plan in config.plans:
            own, options = settings.divided(_settings(config, detector, plan, 0))
            pose.check(base, own, options)


def data(config: Any) -> dict[str, Task]:
    """Return the task and the shifted ones, in the splits of the first seed; UserError for a
    shifted one with other classes.
    """
    seed = config.seeds[0]
    found = {"": named_task(config.task, seed)}
    for name, options in config.shifts.items():
        found[name] = named_task(options, seed)
        if found[name].classes != found[""].classes:
            raise UserError(
                f"shifts: {name!r} has the classes {', '.join(found[name].classes)}, and the task "
                f"{', '.join(found[''].classes)}: a detector can be judged only on its own"
            )
    return found


def compute(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Train all of them; finished ones are in the journal."""
    journal, sizes = Journal(workdir / "cells.jsonl"), {}
    base = base_of(config)
    for seed in config.seeds:
        shifts = {name: named_task(shift, seed) for name, shift in config.shifts.items()}
        for budget in config.budgets:
            task = named_task(config.task, seed, labelled=budget)
            sizes.setdefault(budget, {split: len(rows) for split, rows in task.splits.items()})
            for key in _keys(config, seed, budget):
                if journal.get(**key) is None:
                    interrupt.check()
                    journal.add(_cell(config, base, task, shifts, **key), **key)
    return {
        "cells": journal.rows(),
        "sizes": [{"budget": budget, **of} for budget, of in sizes.items()],
        "overlap": overlap([named_task(config.task, seed).splits for seed in config.seeds]),
    }


def _keys(config: Any, seed: int, budget: int) -> Iterator[dict[str, Any]]:
    for detector in config.detectors:
        for plan in config.plans:
            yield {"seed": seed, "budget": budget, "detector": detector, "plan": plan}


def _settings(config: Any, detector: str, plan: str, seed: int) -> dict[str, Any]:
    """The settings of all, over these the detector's, over these the plan's."""
    parts = [config.settings, config.detectors[detector], config.plans[plan]]
    return nested([part.to_dict() for part in parts]) | {"seed": seed, "cache": config.cache}


def _cell(
    config: Any, base: Any, task: Task, shifts: Mapping[str, Task],
    *, seed: int, budget: int, detector: str, plan: str,
) -> dict[str, Any]:  # fmt: skip
    """What one training gives on test, and on the test splits of shifted tasks."""
    started = time.monotonic()
    own, options = settings.divided(_settings(config, detector, plan, seed))
    problem, _, variables = pose.posed(base, task, own, options)
    longer = lengthened(problem.plan, config.least_steps, steps=problem.epoch_steps)
    problem = dataclasses.replace(problem, plan=longer)
    inputs_for = for_plan(problem, test_views="none", cache=own.cache, dtype=own.cache_dtype)
    done = trained(problem, variables, inputs_for, workdir=None)
    test = done.scores["test"]
    return {name: test[name] for name in METRICS} | {
        "recall_of_proposals": test.get("proposal_recall"),
        "per_class": {row["name"]: row["ap"] for row in test["per_class"]},
        "shifts": {
            name: _elsewhere(base, shift, done.variables, own, options)
            for name, shift in shifts.items()
        },
        "seconds": time.monotonic() - started,
    }


def _elsewhere(
    base: Any, task: Task, variables: Any, own: settings.TransferSettings, options: dict[str, Any]
) -> dict[str, float]:
    """What trained variables give on test of a task that they have not learnt from, which is posed
    as their own.
    """
    there = pose.posed(base, task, own, options).problem
    inputs_for = for_plan(there, test_views="none", cache=own.cache, dtype=own.cache_dtype)
    inputs = inputs_for(there.plan.phases[-1], variables)
    scores = judged(there, variables, inputs, "test").scores
    return {name: scores[name] for name in METRICS}
