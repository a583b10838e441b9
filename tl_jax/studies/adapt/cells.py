"""The cells of the study: what a method gives with one draw of its settings and one seed."""

import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tl_jax.base import file
from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.data import splits
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.measure import features, validators
from tl_jax.measure.validators import Outputs
from tl_jax.runs import folder, pose, transfer
from tl_jax.runs.subject import base_of, named_task
from tl_jax.studies.adapt import SOURCE_ONLY, methods
from tl_jax.train import loop
from tl_jax.train.inputs import for_plan
from tl_jax.train.objectives.domains import require_domains


class Cell(NamedTuple):
    """One training."""

    method: str
    seed: int  # of splits, weights, order, and of the draws
    draw: int  # which one of the method's settings, from 0

    def described(self) -> str:
        """Return the cell in words, for a line of text."""
        return f"{self.method}, seed {self.seed}, draw {self.draw}"


def waves(config: Mapping[str, Any]) -> list[list[Cell]]:
    """Return every cell, in two parts: those that others start from come first."""
    every = [
        Cell(method, seed, draw)
        for seed in config["seeds"]
        for draw in range(config["draws"])
        for method in config["methods"]
    ]
    first = [cell for cell in every if cell.method == SOURCE_ONLY]
    return [first, [cell for cell in every if cell.method != SOURCE_ONLY]]


def domains(config: Mapping[str, Any], seed: int) -> dict[str, Task]:
    """Return the source and the target in the splits of a seed; UserError unless both have the same
    classes.
    """
    return dict(_domains(json.dumps(config["tasks"], sort_keys=True), seed))


@functools.lru_cache(maxsize=2)
def _domains(tasks: str, seed: int) -> tuple[tuple[str, Task], ...]:
    options = json.loads(tasks)
    for name in ("source", "target"):
        if name not in options:
            raise UserError(f"tasks={', '.join(options)} lack the {name}")
    found = {name: named_task(options[name], seed) for name in ("source", "target")}
    require_domains("a study of adaptation", found)
    return tuple(found.items())


def unlabelled(task: Task) -> Task:
    """Return the task without the truth of what may be trained on: an objective that asks for it
    gets NaN, and fails. In val all classes are as likely. Further truths are left out.
    """
    targets, labels = task.truth["targets"].copy(), task.truth["labels"].copy()
    for split, value in (("train", np.nan), ("val", 1 / len(task.classes))):
        rows = task.splits[split]
        targets[rows], labels[rows] = value, 0
    erased = task.with_truth(targets=targets, labels=labels, graded_labels=labels)
    return dataclasses.replace(erased, further={})


def row(config: Mapping[str, Any], workdir: pathlib.Path, cell: Cell) -> dict[str, Any]:
    """Return what a cell gives: accuracies, what each validator says, settings, cost.

    Its predictions and features of held-out examples are kept in `workdir`.
    """
    started = time.monotonic()
    folder.keep_compiled(config["cache"])  # a worker process has not been told yet
    tasks = domains(config, cell.seed)
    values = methods.drawn(config, cell.method, cell.seed)[cell.draw]
    adapted = _adapted(config, workdir, cell, values, tasks)
    if cell.method == SOURCE_ONLY:
        path = source_model(workdir, cell)
        path.mkdir(parents=True, exist_ok=True)
        adapted.save(path / file.NAME)
    arrays = held_out(adapted, tasks, cache=config["cache"])
    path = workdir / "outputs" / f"{cell.method}_{cell.seed}_{cell.draw}.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **arrays)
    outputs = Outputs(**{name: arrays[name] for name in Outputs._fields})
    target = tasks["target"]
    right = {
        part: float(np.mean(arrays[f"{part}_probabilities"].argmax(1) == arrays[f"{part}_labels"]))
        for part in ("source", "target", "test")
    }
    return {
        "source_val": right["source"],
        "target_val": right["target"],
        "target_test": right["test"],
        "validators": {name: validators.score(name, outputs) for name in config["validators"]},
        "settings": values,
        "n_test": len(target.splits["test"]),
        "n_all": len(target.ids),
        "test_split": splits.identity(target.splits["test"]),
        "seconds": time.monotonic() - started,
    }


def source_model(workdir: pathlib.Path, cell: Cell) -> pathlib.Path:
    """Return the folder of the model that source_only gives with this seed and draw."""
    return workdir / SOURCE_ONLY / f"{cell.seed}_{cell.draw}"


def _adapted(
    config: Mapping[str, Any],
    workdir: pathlib.Path,
    cell: Cell,
    values: Mapping[str, Any],
    tasks: Mapping[str, Task],
) -> Base:
    """Train the cell's method; return the network, with its head and without tails."""
    own, options = methods.divided(config, cell.method, values, seed=cell.seed)
    if methods.start(config, cell.method) == SOURCE_ONLY:
        base = load_base(source_model(workdir, cell))
    else:
        base = base_of(config)
    domain = methods.learns_from(cell.method, own.objective)
    given = {**tasks, "target": unlabelled(tasks["target"])}
    task = tasks[domain] if cell.method in methods.REFERENCES else given["target"]
    posed = pose.posed(base, task, own, options, given if domain == "both" else {})
    inputs_for = for_plan(
        posed.problem, test_views=own.test_views, cache=own.cache, dtype=own.cache_dtype
    )
    variables, _, _ = loop.run(posed.problem, posed.variables, inputs_for, workdir=None)
    return transfer.finished_base(posed.problem, posed.base, variables, views=own.test_views)


def held_out(base: Base, tasks: Mapping[str, Task], *, cache: Any) -> dict[str, np.ndarray]:
    """Return what the network makes of source val, target val and target test: features that its
    last layer reads, class probabilities, and labels.
    """
    found = {}
    parts = {"source": ("source", "val"), "target": ("target", "val"), "test": ("target", "test")}
    for part, (domain, split) in parts.items():
        task = tasks[domain]
        examples = task.splits[split]
        layers = (base.bottleneck, base.layers[-1])
        rows = features.of_examples(base, task, examples, layers=layers, cache=cache)
        logits = rows[layers[1]].astype(np.float64)
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        found |= {
            f"{part}_features": rows[layers[0]],
            f"{part}_probabilities": exponents / exponents.sum(1, keepdims=True),
            f"{part}_labels": task.labels[examples],
        }
    return found
