"""The cells of the grid: what each is, and what one gives."""

import functools
import hashlib
import json
import pathlib
import shutil
import tempfile
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure import features, handmade
from tl_jax.measure.probes import protocol
from tl_jax.runs import settings, transfer
from tl_jax.runs.results import trained_parameters
from tl_jax.runs.subject import base_of, named_task, outline_of
from tl_jax.studies.scenarios.space import drawn
from tl_jax.train.inputs import for_plan

KEPT = 2  # bases and tasks that a process holds at a time


class Cell(NamedTuple):
    """One scenario with one plan: each part is the name that the config gives it."""

    task: str
    base: str
    seed: int
    budget: int  # training examples a class; 0: all there are
    plan: str


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
    if config["draws"] < 1 or config["seeds"] < 1:
        raise UserError("draws and seeds are at least 1")
    for name, plan in config["plans"].items():
        space = plan.get("space", {})
        drawn(space, seed=(0,))
        if "probe" in plan:
            if plan["probe"] not in protocol.PROBES:
                raise unknown(f"probe of the plan {name!r}", plan["probe"], protocol.PROBES)
            if (kind := plan.get("features", "base")) not in {"base", *handmade.KINDS}:
                raise unknown(f"features of the plan {name!r}", kind, ["base", *handmade.KINDS])
            continue
        if not space and config["draws"] > 1:
            raise UserError(
                f"the plan {name!r} has an empty space of settings, so {config['draws']} draws are "
                "one: give it a space, or set draws=1"
            )
        given = settings.divided(_settings(config, plan, drawn(space, seed=(0,))))
        for base in config["bases"].values():
            transfer.check(outline_of(base), *given)


def row(config: Mapping[str, Any], cell: Cell) -> dict[str, Any]:
    """Return what a cell gives: metrics on val and test, the settings that val chose, and cost."""
    started = time.time()
    plan = config["plans"][cell.plan]
    task = _task(json.dumps(config["tasks"][cell.task]), cell.budget, cell.seed)
    own = _probed if "probe" in plan else _transferred
    found = own(config, cell, plan, task)
    sizes = {f"n_{split}": len(rows) for split, rows in task.splits.items()}
    test = hashlib.sha256(np.sort(task.splits["test"]).tobytes()).hexdigest()[:16]
    about = {**sizes, "n_all": len(task.ids), "test_split": test}
    return {**found, **about, "seconds": time.time() - started}


@functools.lru_cache(maxsize=KEPT)
def _task(options: str, budget: int, seed: int) -> Task:
    return named_task({**json.loads(options), "per_class": budget}, seed)


@functools.lru_cache(maxsize=KEPT)
def _base(options: str) -> Base:
    return base_of(json.loads(options))


def _probed(config, cell: Cell, plan: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """A shallow classifier on features off the shelf, or on pixels; it tunes its own penalty."""
    cache = pathlib.Path(config["cache"])
    kind = plan.get("features", "base")
    if kind == "base":
        base = _base(json.dumps(config["bases"][cell.base]))
        layer = plan.get("layer") or base.bottleneck
        rows = features.of_layers(base, task, layers=[layer], cache=cache)[layer].rows
    else:
        rows = handmade.features(task, kind)
    examples = protocol.Examples(*(task.splits[split] for split in ("train", "val", "test")))
    (answers,) = protocol.examine(rows, [(task, examples)], [plan["probe"]])
    if plan["probe"] not in answers:
        raise UserError(f"{plan['probe']} takes too long on {len(examples.train)} examples")
    answer = answers[plan["probe"]]
    return {
        "val": answer["val"],
        "test": answer["test"],
        "test_weighted": answer["test_weighted"],
        "chosen": {"penalty": answer["setting"]},
        "trained_parameters": rows.shape[1] * len(task.classes),
    }


def _transferred(config, cell: Cell, plan: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The best on validation of as many trainings as every plan has draws."""
    base = _base(json.dumps(config["bases"][cell.base]))
    tried, best = [], None
    for draw in range(config["draws"]):
        seed = (cell.seed, draw, zlib.crc32(cell.plan.encode()))
        values = drawn(plan.get("space", {}), seed=seed)
        given = {**_settings(config, plan, values), "seed": cell.seed}
        scores, parameters = _trained(base, task, given, config["cache"])
        tried.append({"settings": values, "val": scores["val"][config["metric"]]})
        if best is None or tried[-1]["val"] > best["val"]:
            best = {
                "val": tried[-1]["val"],
                "test": scores["test"]["accuracy"],
                "test_weighted": scores["test"]["weighted_accuracy"],
                "chosen": values,
                "trained_parameters": parameters,
            }
    assert best is not None  # there is at least one draw
    return {**best, "tried": tried}


def _settings(
    config: Mapping[str, Any], plan: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Of all transfers, over these the plan's own, over these the values drawn for it."""
    own = {name: value for name, value in plan.items() if name != "space"}
    return nested([config["settings"], own, values])


def _trained(
    base: Base, task: Task, given: Mapping[str, Any], cache: str
) -> tuple[dict[str, Any], int]:
    own, options = settings.divided({**given, "cache": cache})
    problem, _, start = transfer.posed(base, task, own, options)
    inputs_for = for_plan(
        problem, test_views=own.test_views, cache=pathlib.Path(cache), dtype=own.cache_dtype
    )
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tl_jax_"))
    try:
        done = transfer.trained(
            problem, start, inputs_for, workdir=folder, test_views=own.test_views
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    counts = [trained_parameters(problem, p, done.variables) for p in problem.plan.phases]
    return done.scores, max(counts)


def nested(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge settings, the later over the earlier: {"tune": {"epochs": 3}} and {"tune.decay": 0}
    give {"tune": {"epochs": 3, "decay": 0}}.
    """
    found: dict[str, Any] = {}
    for path, value in (pair for layer in layers for pair in layer.items()):
        *above, name = path.split(".")
        place = found
        for part in above:
            place = place.setdefault(part, {})
        if isinstance(value, Mapping):
            place[name] = {**place.get(name, {}), **value}
        else:
            place[name] = value
    return found


def error_of(error: BaseException) -> str:
    """What a row says of a cell that failed: one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]


