"""The cells of the grid: what each is, and what one gives."""

import functools
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from tl_jax import locks
from tl_jax.base.base import Base
from tl_jax.data import splits
from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes, takes_several, takes_whole, unknown
from tl_jax.runs import folder, stages
from tl_jax.runs.subject import base_of, named_task, outline_of
from tl_jax.studies.scenarios import probed, trained
from tl_jax.studies.scenarios.verdicts import TESTED

KEPT = 2  # bases and tasks that a process holds at a time
MOST = 10**9  # of a config's whole numbers


class Cell(NamedTuple):
    """One scenario with one plan: each part is the name that the config gives it."""

    task: str
    base: str
    seed: int
    budget: int  # training examples a class; 0: all there are
    plan: str

    def described(self) -> str:
        """Return the cell in words, for a line of text."""
        return ", ".join(f"{part} {value}" for part, value in self._asdict().items())


def cells(config: Mapping[str, Any]) -> list[Cell]:
    """Return every cell; those that share splits, pixels and features are next to each other."""
    return [
        Cell(task, base, seed, budget, plan)
        for task in config["tasks"]
        for base in config["bases"]
        for seed in range(config["first_seed"], config["first_seed"] + config["seeds"])
        for budget in config["budgets"]
        for plan in config["plans"]
    ]


def require(config: Mapping[str, Any]) -> None:
    """UserError, before anything is computed, for a config that is no grid."""
    for part in ("tasks", "bases", "budgets", "plans"):
        if not config[part]:
            raise UserError(f"a study of scenarios needs {part}: the config names none")
    if config["reference"] not in config["plans"]:
        raise unknown("reference", config["reference"], config["plans"])
    for name, task in config["tasks"].items():
        if labels := task.get("per_class"):
            raise UserError(
                f"the task {name!r} has per_class={labels!r}, and here budgets= says how many "
                f"labels: leave it out, and set budgets to ({labels!r},)"
            )
    takes_several(config["budgets"], "budgets=")
    for budget in config["budgets"]:
        takes_whole(budget, "a budget", 0, MOST)
    for number, least in (("seeds", 1), ("first_seed", 0), ("draws", 1), ("least_steps", 0)):
        takes_whole(config[number], f"{number}=", least, MOST)
    if config["metric"] not in TESTED:
        raise unknown("metric", config["metric"], TESTED)
    takes(0 <= config["margin"] < 1, "margin=", "a share of accuracy below 1", config["margin"])
    outlines = [outline_of(base) for base in config["bases"].values()]
    if len({type(base.preprocessing) for base in outlines}) > 1:
        raise UserError("some bases read images, others texts: make a study of each kind")
    for name, plan in config["plans"].items():
        (probed if "probe" in plan else trained).require(config, name, plan, outlines)


def row(config: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Return what a cell gives: metrics on val and test, the settings that val chose, and cost."""
    started = time.monotonic()
    folder.keep_compiled(config["cache"])  # a worker process has not been told yet
    plan = config["plans"][cell.plan]
    task = _task(json.dumps(config["tasks"][cell.task]), cell.budget, cell.seed)
    base = _base(json.dumps(config["bases"][cell.base]), *_stages(config, cell))
    if "probe" in plan:
        figures = probed.figures(config, cell.plan, base, task)
    else:
        figures = trained.figures(config, cell.plan, base, task, cell.seed)
    sizes = {f"n_{split}": len(rows) for split, rows in task.splits.items()}
    sizes |= {"n_all": len(task.ids), "n_classes": len(task.classes)}
    test_split = splits.identity(task.splits["test"])
    return {**figures, **sizes, "test_split": test_split, "seconds": time.monotonic() - started}


@functools.lru_cache(maxsize=KEPT)
def _task(options: str, budget: int, seed: int) -> Task:
    return named_task({**json.loads(options), "per_class": budget}, seed)


@functools.lru_cache(maxsize=KEPT)
def _base(options: str, task: str, seed: int, cache: str) -> Base:
    """Load a base; language models that it asks for are trained on the task's texts, once for all
    cells with the same splits.
    """
    config = {**json.loads(options), "cache": cache}
    if not config.get("language"):
        return base_of(config)
    key = hashlib.sha256(f"{options} {task} {seed}".encode()).hexdigest()[:16]
    if not cache:
        raise UserError("cache= is empty, and language models are kept there: name a folder")
    folder = path_of(cache) / "language" / key
    with locks.held(folder.with_name(f"{key}.lock"), what=str(folder)):
        return stages.ready(config, folder, task=json.loads(task), seed=seed)


def _stages(config: Mapping[str, Any], cell: Cell) -> tuple[str, int, str]:
    """Return the task, seed and cache of a base's language models; none where there are none."""
    if not config["bases"][cell.base].get("language"):
        return "", 0, config["cache"]
    return json.dumps(config["tasks"][cell.task]), cell.seed, config["cache"]
