"""Training on simulated images, then on a few real ones, beside training on the real ones alone."""

import functools
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.chain.network import Network
from tl_jax.data.files import path_of
from tl_jax.data.splits import budget, require_seed
from tl_jax.data.task import Task
from tl_jax.engine import prefix
from tl_jax.errors import UserError, takes_several, takes_whole, unknown
from tl_jax.plans.plan import STARTS, Settings
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, named_task, outline_of, require_seeds
from tl_jax.studies.simulation import NONE
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.together import stacked, together

BLOCK = 128  # images of the test split that run at once


class Images(NamedTuple):
    """A task's images, normalised for the base, and their classes."""

    inputs: np.ndarray  # (N, S, S, C) float32
    targets: np.ndarray  # (N, K)


def check(config: Any) -> None:
    """Raise UserError for budgets, seeds, a base or settings of training that are none."""
    require_seeds(config.seeds)
    takes_several(config.budgets, "budgets=")
    for count in config.budgets:
        takes_whole(count, "a budget", 1, 1_000_000)
    if list(config.budgets) != sorted(config.budgets):
        raise UserError(f"budgets= ascend; got {tuple(config.budgets)}")
    if not config.simulations or NONE in config.simulations:
        raise UserError(f"simulations= takes one task or more, none of them called {NONE!r}")
    if config.start not in STARTS:
        raise unknown("start", config.start, STARTS)
    outline_of(config).of_images.fingerprint()  # UserError for a base of texts
    for name in ("pretrain", "train"):
        takes_whole(config[name].steps, f"{name}.steps=", 1, 1_000_000)
        takes_whole(config[name].batch_size, f"{name}.batch_size=", 1, 1_000_000)
        numbers = {key: config[name][key] for key in ("learning_rate", "weight_decay")}
        Settings(**_settings(config[name]), **numbers)


def data(config: Any) -> dict[str, Task]:
    """Return the real task, "", and the simulations by name; UserError if their classes differ, or
    the real one has too few examples for the budgets.
    """
    real = named_task(config.task, 0)
    tasks = {name: named_task(options, 0) for name, options in config.simulations.items()}
    for name, task in tasks.items():
        if task.classes != real.classes:
            raise UserError(
                f"the simulation {name!r} has the classes {', '.join(task.classes):.60}, and the "
                f"real task {', '.join(real.classes):.60}: they must be the same, in order"
            )
    budget(real.splits["train"], real.labels, per_class=max(config.budgets), seed=0)
    return {"": real, **tasks}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Train on every simulation and budget, all seeds together; store each finished cell."""
    started, journal = time.monotonic(), Journal(workdir / "cells.jsonl")
    tasks, base = data(config), base_of(config)
    real = tasks.pop("")
    ready = base.with_head(len(real.classes))
    images = functools.cache(lambda name: _images(config, ready, tasks.get(name, real)))
    fresh = [_first(base, len(real.classes), config.start, seed) for seed in config.seeds]
    for name in (NONE, *tasks):
        cells = [dict(simulation=name, budget=n) for n in (*[0] * (name != NONE), *config.budgets)]
        missing = [cell for cell in cells if not journal.get(**cell)]
        if not missing:
            continue
        start = fresh
        test = _rows(images(""), real.splits["test"])
        if name != NONE:
            every = np.concatenate(list(tasks[name].splits.values()))
            rows = [every] * len(config.seeds)
            start, right = _trained(config, "pretrain", ready, start, images(name), rows, test)
            if cells[0] in missing:
                journal.add({"test": right}, **missing.pop(0))
        for cell in missing:
            interrupt.check()
            drawn = [_drawn(real, cell["budget"], seed) for seed in config.seeds]
            _, right = _trained(config, "train", ready, start, images(""), drawn, test)
            journal.add({"test": right}, **cell)
    return {
        "cells": journal.rows(),
        "classes": list(real.classes),
        "sizes": {name: len(task.ids) for name, task in {**tasks, "test": real}.items()}
        | {"test": len(real.splits["test"])},
        "seconds": time.monotonic() - started,
    }


def _first(base: Base, classes: int, start: str, seed: int) -> Any:
    """Return the variables that a seed's trainings begin from."""
    ready = base.with_head(classes, seed=seed)
    return (ready if start == "pretrained" else ready.started(start, seed)).variables


def _images(config: Any, base: Base, task: Task) -> Images:
    preprocessing = base.of_images
    if config.cache:
        inputs = prefix.pixels(task, preprocessing, cache=path_of(config.cache))
    else:
        inputs = prefix.decoded(task, preprocessing)
    pixels = inputs.images(np.arange(len(task.ids)))
    return Images(np.asarray(preprocessing.normalise(pixels), np.float32), task.targets)


def _rows(images: Images, rows: np.ndarray) -> Images:
    return Images(*(part[rows] for part in images))


def _drawn(task: Task, per_class: int, seed: int) -> np.ndarray:
    """Return the training examples, `per_class` of each class; the smaller part of the larger."""
    require_seed(seed)
    return budget(task.splits["train"], task.labels, per_class=per_class, seed=seed)


def _trained(
    config: Any,
    phase: str,
    base: Base,
    start: list[Any],
    images: Images,
    rows: list[np.ndarray],
    test: Images,
) -> tuple[list[Any], list[float]]:
    """Train from the variables `start` on the `rows`, a run a seed; return each run's variables and
    its accuracy on the images `test`.
    """
    own, count = config[phase], len(rows[0])
    size = min(own.batch_size, count)
    epochs = math.ceil(own.steps / (count // size))
    numbers = np.float32(own.learning_rate), np.float32(own.weight_decay)
    runs = [
        Run(variables, np.int32(seed), *numbers, np.int32(chosen), np.ones(count, np.float32))
        for variables, seed, chosen in zip(start, config.seeds, rows, strict=True)
    ]
    shared = Data(*images), test
    static: dict[str, Any] = {"epochs": epochs, "batch_size": size, **_settings(own)}
    found, right = together(_run, stacked(runs), shared, chain=base.chain, **static)
    if not np.isfinite(np.asarray(found.loss)).all():
        raise UserError(f"the loss is not finite: try a smaller {phase}.learning_rate=")
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], found.variables) for i in range(len(rows))]
    return each, np.asarray(right, float).tolist()


def _run(run: Run, shared: Any, *, chain: Network, **settings: Any) -> Any:
    data, test = shared
    fitted = fit(run, data, chain=chain, start=None, **settings)

    def right(example: Any) -> jax.Array:
        image, target = example
        return chain.apply(fitted.variables, image[None]).output[0].argmax() == target.argmax()

    return fitted, jnp.mean(jax.lax.map(right, tuple(test), batch_size=BLOCK))


def _settings(own: Mapping[str, Any]) -> dict[str, Any]:
    return {name: own[name] for name in ("optimizer", "schedule", "clip", "batch_norm")}
