"""CKA and SVCCA between all layers of a base and of other bases, on the examples of a task."""

import pathlib
import time
from typing import Any

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.measure.features import of_layers, shapes_of
from tl_jax.measure.similarity import linear_cka, shuffled, svcca
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, outline_of, task_of
from tl_jax.studies.similarity import ITSELF, TUNED


def check(config: Any) -> None:
    """Raise UserError for an unknown base or pooling rule."""
    bases = [{}, *config.others.values()]
    bases += [{"weights": config.tuned}] if config.tuned else []
    for options in bases:
        shapes_of(outline_of(config, **options), pool=config.pool)


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to, in the splits of one seed."""
    return {"": task_of(config, 0)}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Compare the config's base with itself and the others; store each finished comparison."""
    started = time.monotonic()
    base, task = base_of(config), task_of(config, seed=0)
    journal = Journal(workdir / "cells.jsonl")
    for name, other in others(config, base).items():
        interrupt.check()
        if not journal.get(other=name):
            journal.add(compare(config, base, other, task), other=name)
    return {
        "examples": len(task.ids),
        "comparisons": journal.rows(),
        "seconds": time.monotonic() - started,
    }


def others(config: Any, base: Base) -> dict[str, Base]:
    """Return the bases to compare with, by name; the first is the base itself."""
    bases = {ITSELF: base}
    for name, options in config.others.items():
        bases[name] = base_of(config, **options)
    if config.tuned:
        bases[TUNED] = base_of(config, weights=config.tuned)
    return bases


def compare(config: Any, base: Base, other: Base, task: Task) -> dict:
    """Return the layers of both bases, and CKA and SVCCA of all pairs.

    `cka` and `svcca` are lists (L, M) for the base's L layers and the other's M layers;
    `cka_chance` and `svcca_chance` are the same with the other's rows shuffled.
    """
    options = {"pool": config.pool, "cache": config.cache}
    ours = of_layers(base, task, **options)
    theirs = ours if other is base else of_layers(other, task, **options)
    first = [layer.rows for layer in ours.values()]
    second = first if other is base else [layer.rows for layer in theirs.values()]
    by_chance = shuffled(second)
    return {
        "layers": list(ours),
        "others": list(theirs),
        "cka": linear_cka(first, second, batch=config.batch).tolist(),
        "svcca": svcca(first, second).tolist(),
        "cka_chance": linear_cka(first, by_chance, batch=config.batch).tolist(),
        "svcca_chance": svcca(first, by_chance).tolist(),
    }
