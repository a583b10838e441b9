"""Several tasks at once: every method in every variant of the study, paired by seed.

Each method trains the same trunk for as many steps as a network for one task has. A method with
several candidates, such as static weights, is judged by the one that is best on validation.
"""

import functools
import itertools
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tl_jax import interrupt
from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.data.truths import thinned
from tl_jax.errors import UserError, takes, takes_several, unknown
from tl_jax.runs import pose
from tl_jax.runs.journal import Journal
from tl_jax.runs.subject import base_of, named_task, outline_of, require_seeds
from tl_jax.stats.paired import overlap
from tl_jax.studies.multitask import OWN, PLAIN, SINGLE, STITCHED, metric
from tl_jax.studies.multitask.training import METHODS, given, last_shared, trained, trunk
from tl_jax.studies.multitask.verdicts import beside_single

OF_ALL = ("methods", "compared", "seeds")  # settings that no variant changes


def check(config: Any) -> None:
    """UserError for methods, truths, a plan and places that are none, in any variant."""
    require_seeds(config.seeds)
    for name in ("methods", "compared"):
        takes_several(config[name], f"{name}=")
        for method in config[name]:
            if method not in METHODS:
                raise unknown("method", method, METHODS)
        if SINGLE not in config[name]:
            raise UserError(f"{name}= needs {SINGLE!r}, which the others are compared with")
    _require_numbers(config)
    if PLAIN in config.variants:
        raise UserError(f"variants={PLAIN} is the config as it is: give the variant another name")
    for name, changed in variants(config).items():
        if not changed["task"]["truths"]:
            raise UserError(
                f"the variant {name!r} has one task only: truths= names the others, as "
                "('parity', 'turned')"
            )
        base = outline_of(changed)
        plan = pose.check(base, *given(changed, 0))
        layers = trunk(plan, (OWN,))
        last = last_shared(changed, base, plan)
        if last not in layers:
            raise unknown("layer that learns and that all tasks share, for GradNorm", last, layers,
                          ordered=True)  # fmt: skip
        if STITCHED not in methods(config, name):
            continue
        if not changed["stitched_at"]:
            raise UserError(f"{STITCHED} mixes the outputs of layers: name them, stitched_at=")
        takes_several(changed["stitch_rates"], "stitch_rates=")
        for place in changed["stitched_at"]:
            if place not in layers:
                raise unknown("place to stitch at", place, layers, ordered=True)


def _require_numbers(config: Any) -> None:
    """UserError for rates, factors and shares that cannot be."""
    for name in ("alpha", "affinity_step"):
        takes(0 <= config[name] < math.inf, f"{name}=", "a number from 0 on", config[name])
    rate = config.gradnorm_rate
    takes(0 < rate < math.inf, "gradnorm_rate=", "a number above 0", rate)
    takes(0 < config.stitch_share <= 1, "stitch_share=", "a share", config.stitch_share)
    for name in ("factors", "stitch_rates"):
        values = config[name]
        fits = all(isinstance(value, int | float) and 0 < value < math.inf for value in values)
        takes(fits, f"{name}=", "numbers above 0", values)


def variants(config: Any) -> dict[str, dict[str, Any]]:
    """Return the settings of each variant: the config's, and those with its changes."""
    whole = config.to_dict()
    changes = {PLAIN: {}, **whole.pop("variants")}
    able = [name for name in whole if name not in OF_ALL]
    for name, change in changes.items():
        for setting in change:
            if setting not in able:
                raise unknown(f"setting of the variant {name!r}", setting, able)
    return {name: _changed(whole, change) for name, change in changes.items()}


def _changed(settings: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(settings)
    for name, value in change.items():
        nested = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _changed(found[name], value) if nested else value
    return found


def methods(config: Any, variant: str) -> tuple[str, ...]:
    """Return the methods that a variant is examined with."""
    return config.methods if variant == PLAIN else config.compared


def data(config: Any) -> dict[str, Task]:
    """Return the task of each variant, in the splits of the first seed."""
    seed = config.seeds[0]
    return {name: task_of(changed, seed) for name, changed in variants(config).items()}


def task_of(config: Mapping[str, Any], seed: int) -> Task:
    """Return the task with its truths; of those in `labels` only a share keeps its labels."""
    task = named_task(config["task"], seed)
    names = (OWN, *(spec.split("(")[0] for spec in config["task"]["truths"]))
    for name, share in config["labels"].items():
        if name not in names:
            raise unknown("task in labels", name, names)
        task = thinned(task, "" if name == OWN else name, share, seed=seed)
    return task


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Train every cell that is not there yet; return a row for each, and verdicts."""
    journal, every = Journal(workdir / "cells.jsonl"), variants(config)
    loaded = functools.lru_cache(maxsize=1)(lambda name, seed: task_of(every[name], seed))
    bases = functools.lru_cache(maxsize=1)(lambda name: base_of(every[name]))
    for key in cells(config):
        if journal.get(**key) is None:
            interrupt.check()
            task, base = loaded(key["variant"], key["seed"]), bases(key["variant"])
            found = row(every[key["variant"]], base, task, key["seed"], key["method"])
            journal.add(found, **key)
    rows, overlaps, classes = journal.rows(), {}, {}
    for name, changed in every.items():
        tasks = [task_of(changed, seed) for seed in config.seeds]
        overlaps[name] = overlap([task.splits for task in tasks])
        classes[name] = {n: list(truth.classes) for n, truth in _truths(tasks[0]).items()}
    verdicts = beside_single(rows, overlaps)
    return {"rows": rows, "verdicts": verdicts, "overlaps": overlaps, "classes": classes}


def cells(config: Any) -> Iterator[dict[str, Any]]:
    """Yield the key of each cell."""
    for variant in variants(config):
        for seed, method in itertools.product(config.seeds, methods(config, variant)):
            yield {"variant": variant, "seed": seed, "method": method}


def _truths(task: Task) -> dict[str, Any]:
    return {name: truth for name, truth in task.further.items() if name in task.truth}


def row(
    config: Mapping[str, Any], base: Base, task: Task, seed: int, method: str
) -> dict[str, Any]:
    """Return what a method gives: by task the accuracy on val and test, at the epoch that was kept
    and at the best one of its own; the setting that validation chose, and what was tried.
    """
    others = tuple((name, len(truth.classes)) for name, truth in _truths(task).items())
    plan = pose.check(base, *given(config, seed))
    config = {**config, "shared": last_shared(config, base, plan)}
    runs = []
    for one in METHODS[method](config, others):
        runs.append((one, trained(config, base, task, seed, one)))
    tried = [{"setting": one.said, "val": run.mean(one.tasks)} for one, run in runs]
    if method != SINGLE:
        runs = [max(runs, key=lambda pair: pair[1].mean(pair[0].tasks))]
    tasks = {}
    for one, run in runs:
        test = run.test()
        for name in one.tasks:
            column = f"val_{metric(name)}"
            best = max(run.rows, key=lambda each: (each[column], each["epoch"]))
            tasks[name] = {
                "val": run.val[metric(name)],
                "test": test[metric(name)],
                "epoch": run.epoch,
                "best_val": best[column],
                "best_epoch": best["epoch"],
            }
    one, run = runs[0]
    last = run.rows[run.epoch - 1]
    return {
        "tasks": tasks,
        "chosen": "" if method == SINGLE else one.said,
        "tried": tried,
        "weights": {name: last.get(f"train_weight_{name}") for name in tasks},
        "affinity": {
            name.removeprefix("train_affinity_"): sum(each[name] for each in run.rows)
            / len(run.rows)
            for name in last
            if name.startswith("train_affinity_")
        },
        "parameters": sum(run.parameters() for _, run in runs),
    }
