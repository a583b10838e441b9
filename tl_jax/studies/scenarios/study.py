"""The grid of tasks, bases, label budgets, plans and seeds; every cell journalled as it finishes.

Of one task, seed and budget all plans have the same splits, so that comparisons are paired.
"""

import functools
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tl_jax.data import splits
from tl_jax.data.task import Task
from tl_jax.runs import pool
from tl_jax.runs.cluster import in_ray
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import named_task
from tl_jax.studies.scenarios import table
from tl_jax.studies.scenarios.cells import Cell, cells, require, row
from tl_jax.studies.scenarios.verdicts import against_reference

logger = logging.getLogger(__name__)


def check(config: Any) -> None:
    """UserError for a config that is no grid, and for a base, cut or plan that is none."""
    require(config.to_dict())


def data(config: Any) -> dict[str, Task]:
    """Return the tasks that a results folder belongs to, whole, in the splits of the first seed.

    UserError for a budget that is larger than a class there.
    """
    seed, most = config.first_seed, max(config.budgets)
    tasks = {name: named_task(options, seed) for name, options in config.tasks.items()}
    for task in tasks.values() if most else ():
        names = np.array(task.classes)[task.labels]
        splits.budget(task.splits["train"], names, per_class=most, seed=seed)
    return tasks


def compute(
    config: Any,
    workdir: pathlib.Path,
    *,
    workers: int = 1,
    retry: bool = False,
    cluster: str = "",
    reuse: pathlib.Path | None = None,
) -> dict:
    """Compute the cells that are not there yet; return a row for each, and verdicts.

    So many `workers` at a time: processes, or tasks on each machine of a Ray `cluster`. A cell that
    fails has an `error` in its row, and the others go on; with `retry` those that failed before are
    tried again. `reuse`: a table whose cells are taken, of a study with fewer seeds or plans.
    """
    plain = config.to_dict()
    every, journal = cells(plain), Journal(workdir / "cells.jsonl")
    if reuse is not None:
        _take(journal, table.read_of(reuse, plain))
    todo = [cell for cell in every if _is_wanted(journal.get(**cell._asdict()), retry)]
    work, started = functools.partial(row, plain), time.monotonic()
    failed = 0
    for count, (cell, computed) in enumerate(_spread(workers, cluster)(work, todo), 1):
        if isinstance(computed, Exception):
            failed += 1
            logger.warning("%s failed: %s", cell.described(), pool.error_of(computed))
            computed = {"error": pool.error_of(computed)}
        journal.add(computed, **cell._asdict())
        _say(count, len(todo), len(every) - len(todo), failed, time.monotonic() - started)
    rows = [line for cell in every if (line := journal.get(**cell._asdict())) is not None]
    return {"rows": rows, "verdicts": against_reference(rows, plain)}


def _take(journal: Journal, rows: Sequence[dict]) -> None:
    """Enter the rows of a table, where the journal has none."""
    for line in rows:
        key = {name: line[name] for name in Cell._fields}
        if journal.get(**key) is None:
            about = {k: v for k, v in line.items() if k not in {*key, *table.OWN} and v is not None}
            journal.add(about, **key)


def of_table(config: Any, path: pathlib.Path) -> dict:
    """Return the findings that a table of this config holds, and compute no cell."""
    plain = config.to_dict()
    rows = table.read_of(path, plain)
    return {"rows": rows, "verdicts": against_reference(rows, plain)}


def _is_wanted(kept: dict | None, retry: bool) -> bool:
    return kept is None or (retry and kept.get("error") is not None)


def _spread(workers: int, cluster: str) -> Callable[..., Iterator[pool.Done]]:
    if cluster:
        return functools.partial(in_ray, kind=cluster, workers=workers)
    return functools.partial(pool.in_processes, workers=workers) if workers > 1 else pool.in_turn


def _say(count: int, of: int, before: int, failed: int, seconds: float) -> None:
    left = seconds / count * (of - count) / 60
    told = f", about {left:.0f} min left" if left >= 0.5 else ""
    logger.info("%d of %d cells, %d failed%s", before + count, before + of, failed, told)
