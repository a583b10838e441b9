"""Net2Net: a teacher is trained and grown, and its students learn beside others from scratch."""

import dataclasses
import pathlib
from typing import Any

from tl_jax import interrupt
from tl_jax.base import growth
from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.chain.growth import widening
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes, takes_type
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.runs.journal import Journal
from tl_jax.runs.settings import phase
from tl_jax.runs.subject import base_of, outline_of, require_seeds, task_of
from tl_jax.runs.transfer import judged, trained
from tl_jax.stats.paired import overlap
from tl_jax.studies.grow import CONTINUED, SIZES, STARTS, TEACHER
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem

EXAMPLES = 64  # training images that set the norms of added layers


def check(config: Any) -> None:
    """Raise UserError for seeds, settings and growth that cannot be."""
    require_seeds(config.seeds)
    for name in ("teacher", "student"):
        phase("tune", dict(config[name]))
    takes_type("share=", float, config.share)
    takes(0 < config.share <= 1, "share=", "a share of the teacher's rate", config.share)
    if not config.wider and not config.deeper:
        raise UserError("nothing grows: name layers in wider= or deeper=")
    base = outline_of(config)
    for place, factor in config.wider.items():
        widening(base.chain, base.preprocessing.example, place, factor)
    growth.require_noise(config.noise)
    if config.deeper:
        fresh = base.started("fresh", 0)
        for layer in config.deeper:
            fresh = fresh.deepened(layer)


def data(config: Any) -> dict[str, Task]:
    """Return the task, in the splits of the first seed."""
    return {"": task_of(config, config.seeds[0])}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Train teachers and students, by seed; finished ones are in the journal."""
    journal, splits = Journal(workdir / "cells.jsonl"), []
    for seed in config.seeds:
        task = task_of(config, seed)
        splits.append(task.splits)
        untrained = base_of(config).with_head(len(task.classes), seed=seed).started("fresh", seed)
        teacher = _teacher(config, untrained, task, seed, workdir, journal)
        _student(config, teacher, task, journal, seed=seed, size=TEACHER, start=CONTINUED)
        for size in (size for size in SIZES if config[size]):
            wanted = [dict(seed=seed, size=size, start=start) for start in STARTS]
            if all(journal.get(**key) for key in wanted):
                continue
            grown = _grown(config, teacher, task, size, seed)
            for key in wanted:
                old, _ = STARTS[key["start"]]
                _student(
                    config, grown if old else grown.started("fresh", seed), task, journal, **key
                )
    return {
        "cells": journal.rows(),
        "base": config.base,
        "sizes": {split: len(rows) for split, rows in splits[0].items()},
        "overlap": overlap(splits),
    }


def _teacher(
    config: Any, untrained: Base, task: Task, seed: int, workdir: pathlib.Path, journal: Journal
) -> Base:
    """Return the trained teacher of a seed, from its file if there is one."""
    path, key = workdir / f"teacher_{seed}.safetensors", dict(seed=seed, size=TEACHER, start="")
    if not (path.exists() and journal.get(**key)):
        settings = _settings(config.teacher)
        row, teacher = _learnt(untrained, task, settings, seed=seed, config=config)
        teacher.save(path)
        journal.add(row, **key)
    return load_base(path)


def _student(
    config: Any, base: Base, task: Task, journal: Journal, *, seed: int, size: str, start: str
) -> None:
    """Train a student, unless that was done; add its row to the journal."""
    key = dict(seed=seed, size=size, start=start)
    if journal.get(**key):
        return
    interrupt.check()
    low = start == CONTINUED or STARTS[start][1]
    rate = config.teacher.learning_rate * (config.share if low else 1.0)
    settings = dataclasses.replace(_settings(config.student), learning_rate=rate)
    row, _ = _learnt(base, task, settings, seed=seed, config=config)
    journal.add(row, **key)


def _settings(given: Any) -> Settings:
    return phase("tune", dict(given))


def _grown(config: Any, teacher: Base, task: Task, size: str, seed: int) -> Base:
    """Return the teacher, wider or deeper at the config's layers."""
    if size == "wider":
        for place, factor in config.wider.items():
            options = {"noise": config.noise, "seed": seed}
            teacher = growth.widened(teacher, place, factor, **options).base
        return teacher
    rows = task.splits["train"][:EXAMPLES]
    examples = teacher.of_images([task.image(row) for row in rows])
    for layer in config.deeper:
        teacher = teacher.deepened(layer, examples)
    return teacher


def _learnt(
    base: Base, task: Task, settings: Settings, *, seed: int, config: Any
) -> tuple[dict[str, Any], Base]:
    """Train all layers; return what came of it and the trained base."""
    plan = Plan("all", (Phase("all", dict.fromkeys(base.layers, 1.0), settings),))
    expected, read = base.preprocessing.of_task(task)
    problem = Problem(base.chain, expected, read, plan, seed=seed, batch_size=config.batch_size)
    kept = {"cache": config.cache or None, "dtype": "float32"}
    inputs_for = for_plan(problem, test_views="none", **kept)
    first = judged(problem, base.variables, inputs_for(plan.phases[0], base.variables), "val")
    done = trained(problem, base.variables, inputs_for, workdir=None)
    row = {
        "val": [first.scores["accuracy"], *(r["val_accuracy"] for r in done.progress.history)],
        "test": done.scores["test"]["accuracy"],
        "rate": settings.learning_rate,
        "parameters": sum(leaf.size for leaf in _leaves(base)),
    }
    found = {"variables": done.variables, "classes": task.classes, "preprocessing": expected}
    return row, dataclasses.replace(base, **found)


def _leaves(base: Base) -> list[Any]:
    import jax  # not for `check`

    return jax.tree.leaves(base.variables["params"])
