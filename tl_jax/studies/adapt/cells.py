"""The cells of the study: what a method gives with one draw of its settings and one seed."""

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
from tl_jax.errors import UserError, unknown
from tl_jax.measure import features, validators
from tl_jax.measure.validators import Outputs
from tl_jax.runs import folder, pose, settings, transfer
from tl_jax.runs.config import nested
from tl_jax.runs.space import candidates
from tl_jax.runs.subject import base_of, named_task, outline_of
from tl_jax.studies.adapt import SOURCE_ONLY, TARGET_ONLY
from tl_jax.train import loop, objectives
from tl_jax.train.inputs import for_plan

STARTS = ("base", SOURCE_ONLY)
OF_THE_METHOD = ("space", "start")  # what is no setting of a transfer
OF_THE_STUDY = ("seed", "cache")
# Of a phase: epochs chosen by the target's labels would be chosen by an oracle.
LAST = {"best_by": "last", "patience": 0}


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


def require(config: Mapping[str, Any]) -> None:
    """UserError for a method that is lacking, misspelt, or cannot be compared with the others."""
    for name in (SOURCE_ONLY, TARGET_ONLY):
        if name not in config["methods"]:
            raise UserError(f"methods={', '.join(config['methods'])} lack {name!r}, a reference")
    outline = outline_of(config)
    for name, method in config["methods"].items():
        start = method.get("start", "base")
        if start not in STARTS:
            raise unknown(f"start of the method {name!r}", start, STARTS)
        if name in (SOURCE_ONLY, TARGET_ONLY) and start != "base":
            raise UserError(f"the method {name!r} is a reference, and starts from the base")
        for seed in config["seeds"]:
            for values in _candidates(config, name, seed):
                own, options = divided(config, Cell(name, seed, 0), values)
                learns_from(name, own.objective)
        pose.check(outline, own, options)


def _candidates(config: Mapping[str, Any], name: str, seed: int) -> list[dict[str, Any]]:
    """Return the settings of each draw; UserError unless they are as many as those of others."""
    space = config["methods"][name].get("space", {})
    found = candidates(space, draws=config["draws"], seed=seed, plan=name)
    if len(found) != config["draws"] or (not space and len(found) > 1):
        number = 1 if not space else len(found)
        raise UserError(
            f"the method {name!r} has {number} settings to try, and the others {config['draws']}: "
            "every method is tuned as often, or the one with more draws has more luck"
        )
    return found


def divided(
    config: Mapping[str, Any], cell: Cell, values: Mapping[str, Any]
) -> tuple[settings.TransferSettings, dict[str, Any]]:
    """Return the settings of the cell's transfer and its plan's options.

    UserError for those that the study itself sets.
    """
    method = config["methods"][cell.method]
    own = {name: value for name, value in method.items() if name not in OF_THE_METHOD}
    every = nested([config["settings"], own, values])
    if clash := [name for name in OF_THE_STUDY if name in every]:
        raise UserError(f"the method {cell.method!r}: the study itself sets {', '.join(clash)}")
    for phase in settings.PHASES:
        if clash := [name for name in LAST if name in every.get(phase, {})]:
            raise UserError(
                f"the method {cell.method!r}: {phase}.{clash[0]}: leave it out, every method ends "
                "with its last epoch; one chosen by labels of the target would need them"
            )
    of_study = {"seed": cell.seed, "cache": config["cache"]}
    of_phases = dict.fromkeys(settings.PHASES, LAST)
    return settings.divided(nested([every, of_phases, of_study]))


def learns_from(name: str, objective: Any) -> str:
    """Return what a method trains on: "source", "target" or "both"; the reference by its name."""
    if name in (SOURCE_ONLY, TARGET_ONLY):
        if objectives.make(objective).judges:
            raise UserError(
                f"the method {name!r} is a reference, and trains on one task: objective="
                f"{objective!r} takes several"
            )
        return name.removesuffix("_only")
    return "both" if objectives.make(objective).judges else "target"


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
    _require_same_classes(**found)
    return tuple(found.items())


def _require_same_classes(source: Task, target: Task) -> None:
    ours, theirs = set(source.classes), set(target.classes)
    lacking = ", ".join(sorted(ours - theirs)[:5])
    more = ", ".join(sorted(theirs - ours)[:5])
    if ours & theirs and (lacking or more):
        kind = "partial" if not more else "open-set" if not lacking else "open-set and partial"
        said = " and ".join(
            words
            for words, there in ((f"lacks {lacking}", lacking), (f"also has {more}", more))
            if there
        )
        raise UserError(
            f"the target {said}: that is {kind} adaptation, which no method here does; give both "
            "tasks only= the classes that they have in common"
        )
    if source.classes != target.classes:
        raise UserError(
            f"source and target have other classes, or in another order: {source.classes[:5]} and "
            f"{target.classes[:5]}"
        )


def unlabelled(task: Task) -> Task:
    """Return the task without the truth of what may be trained on: an objective that asks for it
    gets NaN, and fails.
    """
    rows = np.concatenate([task.splits["train"], task.splits["val"]])
    targets, labels = task.truth["targets"].copy(), task.truth["labels"].copy()
    targets[rows], labels[rows] = np.nan, 0
    return task.with_truth(targets=targets, labels=labels, graded_labels=labels)


def row(config: Mapping[str, Any], workdir: pathlib.Path, cell: Cell) -> dict[str, Any]:
    """Return what a cell gives: accuracies, what each validator says, settings, cost.

    Its predictions and features of held-out examples are kept in `workdir`.
    """
    started = time.time()
    folder.keep_compiled(config["cache"])  # a worker process has not been told yet
    tasks = domains(config, cell.seed)
    values = _candidates(config, cell.method, cell.seed)[cell.draw]
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
        "seconds": time.time() - started,
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
    own, options = divided(config, cell, values)
    if config["methods"][cell.method].get("start", "base") == SOURCE_ONLY:
        base = load_base(source_model(workdir, cell))
    else:
        base = base_of(config)
    domain = learns_from(cell.method, own.objective)
    given = {**tasks, "target": unlabelled(tasks["target"])}
    task = tasks[domain] if cell.method in (SOURCE_ONLY, TARGET_ONLY) else given["target"]
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
