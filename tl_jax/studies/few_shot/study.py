"""Accuracy in episodes of novel classes, from any base and layer, by several methods."""

import itertools
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.data.subset import ClassSubset, group
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes_several, takes_whole
from tl_jax.measure import features
from tl_jax.measure.few_shot import episodes as drawing
from tl_jax.measure.few_shot import methods
from tl_jax.runs import pose, settings, transfer
from tl_jax.runs.config import nested
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, outline_of, require_seeds, task_of


def check(config: Any) -> None:
    """Raise UserError for unknown methods and layers, and for trainings that cannot be."""
    require_seeds(config.seeds)
    takes_several(config.methods, "methods=")
    takes_several(config.shots, "shots=")
    for shots in config.shots:
        takes_whole(shots, "shots=", 1, 1_000_000)
    outline = outline_of(config)
    features.shapes_of(outline, layers=config.layers or None, pool=config.pool)
    for spec in config.methods:
        method = methods.require(spec, outline, config.layers or (outline.bottleneck,))
        if method is methods.cl2n and not config.base_classes:
            raise UserError(methods.NO_CENTRE)
    if not config.trainings:
        raise UserError("a study needs a base: trainings= with empty settings is the base as it is")
    for name, training in config.trainings.items():
        if training and not config.base_classes:
            raise UserError(f"{name!r} trains the base on base classes: name them (base_classes=)")
        if training:
            pose.check(outline, *settings.divided(_settings(config, name, 0)))


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to; UserError if it lacks classes or examples
    for the episodes.
    """
    task = task_of(config, 0)
    drawing.require(task.labels, task.classes, novel_classes(config, task), **_episodes(config))
    return {"": task}


def novel_classes(config: Any, task: Task) -> tuple[str, ...]:
    """Return the classes of the episodes: those named, or all that are no base classes."""
    base = group(task.classes, config.base_classes) if config.base_classes else ()
    named = config.novel_classes or [name for name in task.classes if name not in base]
    novel = group(task.classes, named)
    if both := set(base) & set(novel):
        raise UserError(f"{sorted(both)[0]!r} is a base class and a novel one: leave one out")
    return novel


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Train each base, answer the episodes by each method, and store each finished cell."""
    started, journal = time.monotonic(), Journal(workdir / "cells.jsonl")
    for seed, name in itertools.product(config.seeds, config.trainings):
        if seed != config.seeds[0] and not config.trainings[name]:
            continue  # nothing is trained that could differ
        cells = [key for key in _keys(config, seed, name) if not journal.get(**key)]
        if cells:
            _finish(config, workdir, seed, name, cells, journal)
    task = task_of(config, config.seeds[0])
    return {
        "cells": journal.rows(),
        "base_classes": list(config.base_classes),
        "novel_classes": list(novel_classes(config, task)),
        "trainings": {name: bool(given) for name, given in config.trainings.items()},
        "seconds": time.monotonic() - started,
    }


def _keys(config: Any, seed: int, name: str) -> Iterator[dict[str, Any]]:
    layers = config.layers or (outline_of(config).bottleneck,)
    for layer, shots, method in itertools.product(layers, config.shots, config.methods):
        yield dict(seed=seed, training=name, layer=layer, shots=shots, method=method)


def _finish(
    config: Any, workdir: pathlib.Path, seed: int, name: str, cells: list, journal: Journal
) -> None:
    """Compute these cells of one training and seed."""
    task = task_of(config, seed)
    base = trained(config, name, task, workdir / "bases" / f"{name}_{seed}", seed)
    layers = list(dict.fromkeys(cell["layer"] for cell in cells))
    found = features.of_layers(base, task, layers=layers, pool=config.pool, cache=config.cache)
    among = novel_classes(config, task)
    given = task.labels, task.classes, among
    several = drawing.drawn(*given, **_episodes(config), seed=seed)
    known = ClassSubset(task, tuple(config.base_classes)).rows("train")
    for cell in cells:
        interrupt.check()
        rows = found[cell["layer"]].rows
        centre = rows[known].mean(0) if len(known) else None
        subject = methods.Subject(base, task, cell["layer"], rows, centre, config.cache)
        function, options = methods.chosen(cell["method"])
        episodes = several.with_shots(cell["shots"])
        predicted = function(subject, episodes, seed=seed, **options)
        right = methods.right(predicted, episodes) / (config.ways * config.queries)
        journal.add({"accuracies": np.round(right, 6).tolist()}, **cell)


def trained(config: Any, name: str, task: Task, folder: pathlib.Path, seed: int) -> Base:
    """Return the base after the training of this name on the base classes; its run is in `folder`.

    A training without settings is the base as it is.
    """
    base = base_of(config)
    if not config.trainings[name]:
        return base
    known = ClassSubset(task, group(task.classes, config.base_classes)).alone()
    return transfer.transfer(base, known, workdir=folder, **_settings(config, name, seed)).base


def _settings(config: Any, name: str, seed: int) -> dict[str, Any]:
    """Return the settings of a training: its own over those of all."""
    of_study = {"seed": seed, "cache": config.cache}
    return nested([config.settings.to_dict(), config.trainings[name].to_dict(), of_study])


def _episodes(config: Any) -> dict[str, int]:
    return {
        "ways": config.ways,
        "shots": max(config.shots),
        "queries": config.queries,
        "count": config.episodes,
    }
