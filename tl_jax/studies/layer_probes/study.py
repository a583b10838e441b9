"""Probes of every layer of a base, for several label budgets and seeds, a thread for each core."""

import collections
import concurrent.futures
import itertools
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import threadpoolctl

from tl_jax import interrupt, progress
from tl_jax.data import views
from tl_jax.data.task import Task
from tl_jax.engine import prefix
from tl_jax.errors import takes_several, unknown
from tl_jax.measure.features import of_layers, shapes_of
from tl_jax.measure.probes import protocol
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, outline_of, require_seeds, task_of
from tl_jax.stats.paired import corrected, overlap
from tl_jax.stats.verdict import verdicts
from tl_jax.studies.layer_probes import METRICS
from tl_jax.studies.layer_probes.grid import ProbeGrid

ROOM = 2**24  # feature values, over several seeds, that a thread holds at once

Subsets = dict[tuple[float, int], tuple[Task, protocol.Examples]]  # by budget and seed


def check(config: Any) -> None:
    """Raise UserError for unknown layers, pooling, views, probes, budgets or seeds, and for one of
    them that is named twice.
    """
    require_seeds(config.seeds)
    for key in ("probes", "budgets"):
        takes_several(config[key], f"{key}=")
    for probe in config.probes:
        if probe not in protocol.PROBES:
            raise unknown("probe", probe, protocol.PROBES)
    for budget in config.budgets:
        protocol.require_budget(budget)
    views.numbers(config.views)
    prefix.require_precision(config.cache_precision)
    shapes_of(outline_of(config), layers=config.layers or None, pool=config.pool)


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to, in the splits of one seed."""
    return {"": task_of(config, 0)}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Examine every layer with every probe, budget and seed; store each finished cell."""
    started = time.monotonic()
    base, subsets = base_of(config), labelled_subsets(config)
    task = subsets[config.budgets[0], config.seeds[0]][0]
    features = of_layers(
        base,
        task,
        layers=config.layers or None,
        pool=config.pool,
        views=config.views,
        cache=config.cache,
        precision=config.cache_precision,
    )
    ready = time.monotonic()
    journal = Journal(workdir / "cells.jsonl")
    fill(journal, config, {name: layer.rows for name, layer in features.items()}, subsets)
    # Threads finish in any order: the same grid gives the same result, line by line.
    grid = itertools.product(features, config.budgets, config.seeds)
    rows = [journal.get(layer=layer, budget=budget, seed=seed) for layer, budget, seed in grid]
    cells = [row for row in rows if row is not None]
    ratio = overlap([subsets[config.budgets[0], seed][0].splits for seed in config.seeds])
    shapes = {k: {"shape": list(f.shape), "pooled": list(f.pooled)} for k, f in features.items()}
    return {
        "layers": shapes,
        "cells": cells,
        "best": best_layers(ProbeGrid(config, shapes, cells), ratio=ratio),
        "commonest": commonest_class(subsets.values()),
        "published": list(task.published),
        "overlap": ratio,
        "seconds": {"features": ready - started, "probes": time.monotonic() - ready},
    }


def labelled_subsets(config: Any) -> Subsets:
    """Return the task and its examples for each budget and seed; see `protocol.within`."""
    tasks = {seed: task_of(config, seed) for seed in config.seeds}
    return {
        (budget, seed): (task, protocol.within(task, budget, seed=seed))
        for budget in config.budgets
        for seed, task in tasks.items()
    }


class Job(NamedTuple):
    """Cells of one layer and budget that a thread examines together."""

    layer: str
    budget: float
    seeds: list[int]


def fill(
    journal: Journal, config: Any, features: Mapping[str, np.ndarray], subsets: Subsets
) -> None:
    """Examine the cells that the journal lacks, the longest first.

    `features` by layer are (N, D) or, in V views, (V, N, D).
    """

    def size(job: Job) -> int:
        sizes = (len(subsets[job.budget, seed][1].train) for seed in job.seeds)
        return features[job.layer].shape[-1] * sum(sizes)

    def examine(job: Job) -> list[dict]:
        several = [subsets[job.budget, seed] for seed in job.seeds]
        return protocol.examine(features[job.layer], several, config.probes)

    jobs = sorted(_jobs(journal, config, features), key=size)[::-1]
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    try:
        with threadpoolctl.threadpool_limits(1):  # a thread for each core is enough
            running = {pool.submit(examine, job): job for job in jobs}
            done = concurrent.futures.as_completed(running)
            for future in progress.over(done, "probes", total=len(jobs), unit="jobs", delay=5):
                job = running[future]
                for seed, probes in zip(job.seeds, future.result(), strict=True):
                    examples = subsets[job.budget, seed][1]
                    row = {"train": len(examples.train), "val": len(examples.val), "probes": probes}
                    journal.add(row, layer=job.layer, budget=job.budget, seed=seed)
                interrupt.check()
    finally:
        pool.shutdown(cancel_futures=True)


def _jobs(journal: Journal, config: Any, features: Mapping[str, np.ndarray]) -> Iterator[Job]:
    """Yield jobs for the missing cells, each with as many seeds as fit into `ROOM`."""
    for layer, rows in features.items():
        at_once = max(1, ROOM // rows.size)
        for budget in config.budgets:
            seeds = [s for s in config.seeds if not journal.get(layer=layer, budget=budget, seed=s)]
            for first in range(0, len(seeds), at_once):
                yield Job(layer, budget, seeds[first : first + at_once])


def best_layers(grid: ProbeGrid, *, ratio: float) -> list[dict]:
    """Return, for each budget and probe, the layer with the best mean on validation.

    A row has its accuracies and how sure the choice is: `seeds`, the number of seeds where the
    layer is best on validation, ties shared; on test, the layers that it is `above` and `below` by
    the rule of `stats.verdict`, corrected for their number (`ratio`: n_test / n_train of the
    splits); and of all `cells` those that chose the `strongest` and the `weakest` penalty.
    """
    chosen = []
    for budget in grid.budgets:
        for probe in grid.probes:
            val = grid.values(budget, probe, "val")
            if np.isnan(val).any():
                continue
            layer = int(val.mean(1).argmax())
            row = {"budget": budget, "probe": probe, "layer": grid.layers[layer]}
            row["val"] = float(val[layer].mean())
            for metric in METRICS:
                values = grid.values(budget, probe, metric)[layer]
                row[metric] = float(values.mean())
                row[f"{metric}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
                row |= told_apart(grid, budget, probe, metric, layer, ratio=ratio)
            top = val == val.max(0)
            row["seeds"] = float((top[layer] / top.sum(0)).sum())
            chosen.append(row | edges(grid, budget, probe))
    return chosen


def told_apart(
    grid: ProbeGrid, budget: float, probe: str, metric: str, layer: int, *, ratio: float
) -> dict[str, list[str]]:
    """Name the layers below and above the layer, as `<metric>_above` and `<metric>_below`."""
    values = grid.values(budget, probe, metric)
    others = [name for index, name in enumerate(grid.layers) if index != layer]
    differences = values[layer] - np.delete(values, layer, axis=0)
    answers = verdicts([corrected(difference, ratio=ratio) for difference in differences], margin=0)
    words = {"above": "helps", "below": "hurts"}
    return {
        f"{metric}_{side}": [n for n, v in zip(others, answers, strict=True) if v == word]
        for side, word in words.items()
    }


def edges(grid: ProbeGrid, budget: float, probe: str) -> dict[str, int | None]:
    """Count the cells that chose a penalty at an end of the grid; None for other probes."""
    chosen = [setting for of_layer in grid.settings(budget, probe) for setting in of_layer]
    kind = protocol.PROBES[probe]
    if kind.loss is None:
        return {"cells": len(chosen), "strongest": None, "weakest": None}
    first, *_, last = kind.settings
    return {"cells": len(chosen), "strongest": chosen.count(first), "weakest": chosen.count(last)}


def commonest_class(subsets: Iterable[tuple[Task, protocol.Examples]]) -> dict[str, float]:
    """Return the metrics of always answering the class with most weight, a mean over subsets."""
    metrics = collections.defaultdict(list)
    for task, examples in subsets:
        weights = np.bincount(protocol.taught(task)[examples.train], task.weights[examples.train])
        answer, graded = weights.argmax(), task.graded_weights[examples.test]
        metrics["test"].append(np.mean(task.labels[examples.test] == answer))
        right = task.graded_labels[examples.test] == answer
        metrics["test_weighted"].append(np.average(right, weights=graded))
    return {name: float(np.mean(values)) for name, values in metrics.items()}
