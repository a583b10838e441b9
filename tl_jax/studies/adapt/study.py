"""Methods of adaptation on one pair of domains, each tuned as often, chosen without target labels.

Musgrave et al. 2021 (arXiv:2111.15672) and Ericsson et al. 2023 (arXiv:2309.03879): most published
figures are those of an oracle, which chooses by labels of the target.
"""

import functools
import logging
import pathlib
from typing import Any

from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes_several, takes_whole, unknown
from tl_jax.measure import validators
from tl_jax.runs import pool
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import require_seeds
from tl_jax.studies.adapt import cells, choices, methods

logger = logging.getLogger(__name__)


def check(config: Any) -> None:
    """UserError for a validator, method, plan or setting that is none."""
    plain = config.to_dict()
    require_seeds(config.seeds)
    takes_whole(config.draws, "draws=", 1, 1000)
    takes_several(config.validators, "validators=")
    for name in config.validators:
        validators.require(name)
    if config.rule not in config.validators:
        raise unknown("rule among the validators", config.rule, config.validators)
    methods.require(plain)


def data(config: Any) -> dict[str, Task]:
    """Return the source and the target; UserError unless they have the same classes, and enough
    examples in val for every validator.
    """
    found = cells.domains(config.to_dict(), config.seeds[0])
    if weighted := [name for name in config.validators if name in validators.WEIGHTED]:
        for name, task in found.items():
            if (count := len(task.splits["val"])) < validators.FOLDS:
                raise UserError(
                    f"{weighted[0]} needs {validators.FOLDS} examples in val of each domain, and "
                    f"the {name} has {count}: raise tasks.{name}.val=, or leave the rule out"
                )
    return found


def compute(config: Any, workdir: pathlib.Path, *, workers: int = 1, retry: bool = False) -> dict:
    """Compute the cells that are not there yet, so many at a time; return all, and what they say.

    A cell that fails has an `error` in its row, and the others go on; with `retry` those that
    failed before are tried again.
    """
    plain, journal = config.to_dict(), Journal(workdir / "cells.jsonl")
    work = functools.partial(cells.row, plain, workdir)
    spread = functools.partial(pool.in_processes, workers=workers) if workers > 1 else pool.in_turn
    waves = cells.waves(plain)
    for wave in waves:
        kept = {cell: journal.get(**cell._asdict()) for cell in wave}
        todo = [c for c, row in kept.items() if row is None or (retry and row.get("error"))]
        for count, (cell, found) in enumerate(spread(work, todo), 1):
            if isinstance(found, Exception):
                found = {"error": pool.error_of(found)}
                logger.warning("%s failed: %s", cell.described(), found["error"])
            journal.add(found, **cell._asdict())
            logger.info("%s: %d of %d", cell.described(), count, len(todo))
    every = (journal.get(**cell._asdict()) for wave in waves for cell in wave)
    rows = [row for row in every if row is not None]
    lines = choices.table(rows, plain)
    return {
        "rows": rows,
        "table": lines,
        "verdicts": choices.judged(lines, rows, plain["rule"]),
        "rules": list(choices.of_rules(lines, rows, plain)),
        "negative": choices.negative(rows, plain),
    }
