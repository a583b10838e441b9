"""Detectors of classes with boxes and without: before LSDA, after it, and with all boxes."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tl_jax import interrupt
from tl_jax.data.task import Task
from tl_jax.engine.prefix import Inputs
from tl_jax.errors import UserError, takes, takes_whole
from tl_jax.plans.plan import Phase
from tl_jax.runs import pose, settings
from tl_jax.runs.config import nested
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, named_task, outline_of, require_seeds
from tl_jax.runs.transfer import Trained, trained
from tl_jax.stats.paired import overlap
from tl_jax.studies.lsda import WAYS
from tl_jax.studies.lsda.shift import shifted
from tl_jax.train import evaluate
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives import FastRCNN
from tl_jax.train.objectives import make as objective_of
from tl_jax.train.problem import Problem


class Learned(NamedTuple):
    """A training of a seed."""

    problem: Problem
    inputs_for: Callable[[Phase, Any], Inputs]
    done: Trained


def check(config: Any) -> None:
    """Raise UserError for seeds, settings and an objective that cannot be."""
    require_seeds(config.seeds)
    takes_whole(config.nearest, "nearest=", 1, 10**6)
    takes(len(config.held_out) > 0, "held_out=", "the names of classes", config.held_out)
    if not isinstance(objective_of(config.objective), FastRCNN):
        raise UserError(f"LSDA is of a detector of proposals: objective={config.objective} is none")
    base = outline_of(config)
    for stage in ("classify", "detect"):
        given = _settings(config, stage, 0) | {"objective": config.objective}
        pose.check(base, *settings.divided(given))


def data(config: Any) -> dict[str, Task]:
    """Return the task, in the splits of the first seed."""
    return {"": named_task(config.task, config.seeds[0])}


def compute(config: Any, workdir: pathlib.Path) -> dict[str, Any]:
    """Train and judge, seed by seed; finished seeds are in the journal."""
    journal, base = Journal(workdir / "cells.jsonl"), base_of(config)
    tasks = {seed: named_task(config.task, seed) for seed in config.seeds}
    for seed, task in tasks.items():
        if journal.get(seed=seed) is None:
            interrupt.check()
            journal.add(_of_seed(config, base, task, seed), seed=seed)
    return {
        "cells": journal.rows(),
        "classes": list(tasks[config.seeds[0]].classes),
        "sizes": {split: len(own) for split, own in tasks[config.seeds[0]].splits.items()},
        "overlap": overlap([task.splits for task in tasks.values()]),
    }


def _settings(config: Any, stage: str, seed: int) -> dict[str, Any]:
    parts = [config.settings.to_dict(), config[stage].to_dict()]
    return nested(parts) | {"seed": seed, "cache": config.cache}


def _of_seed(config: Any, base: Any, task: Task, seed: int) -> dict[str, Any]:
    """Return the average precision of each class, by way; UserError, before anything is trained,
    for classes held out that the task has not.
    """
    kind = objective_of(config.objective)
    assert isinstance(kind, FastRCNN)
    held = tuple(config.held_out)
    dataclasses.replace(kind, held_out=held).fitted(task)

    def learn(stage: str, variables: Any = None, **options: Any) -> Learned:
        objective = dataclasses.replace(kind, **options)
        given = _settings(config, stage, seed) | {"objective": objective}
        own, plan = settings.divided(given)
        problem, _, first = pose.posed(base, task, own, plan)
        inputs_for = for_plan(problem, test_views="none", cache=own.cache, dtype=own.cache_dtype)
        done = trained(problem, first if variables is None else variables, inputs_for, workdir=None)
        return Learned(problem, inputs_for, done)

    classified = learn("classify", whole=True)
    before = classified.done.variables
    adapted = learn("detect", before, held_out=held)
    numbers = [task.classes.index(name) for name in held]
    moved = shifted(before, adapted.done.variables, numbers, k=config.nearest)
    oracle = learn("detect", before)
    found = {
        name: _judged(one.problem, one.done.predictions["test"])
        for name, one in (("classified", classified), ("adapted", adapted), ("oracle", oracle))
    }
    found["shifted"] = _judged(adapted.problem, _predictions(adapted, moved))
    return {way: found[way] for way in WAYS}


def _predictions(learned: Learned, variables: Any) -> Any:
    """Return what other variables of the network say of test."""
    problem = learned.problem
    inputs = learned.inputs_for(problem.plan.phases[-1], variables)
    return evaluate.predictions(problem, variables, inputs, problem.task.splits["test"])


def _judged(problem: Problem, predictions: Any) -> dict[str, float]:
    """Return the average precision at an IoU of 0.5 of each class on test, by VOC's rule."""
    objective = problem.objective
    assert isinstance(objective, FastRCNN)
    said = objective.precision(predictions, problem.task, problem.task.splits["test"], "voc")
    return {row["name"]: row["ap"] for row in said["per_class"]}
