"""What a run belongs to: its data, its plan, and the weights that it begins with."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tl_jax.chain.variables import fingerprint
from tl_jax.data.task import Task
from tl_jax.plans.plan import Settings
from tl_jax.train.problem import Problem

Told = Mapping[str, Any]  # JSON-able data


def of_task(task: Task) -> dict[str, Any]:
    """Counts of examples by split and by class, and hashes of inputs, truth and splits."""
    labels = task.truth.get("labels")
    counts = {}
    if labels is not None:
        counts = {name: int(np.sum(labels == c)) for c, name in enumerate(task.classes)}
    return {
        "examples": {split: len(rows) for split, rows in task.splits.items()},
        "classes": counts,
        "inputs": task.fingerprint,
        "truth": fingerprint(dict(task.truth)),
        "splits": fingerprint({split: np.asarray(own) for split, own in task.splits.items()}),
    }


def of_tasks(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Of every task by name; the one that is judged is called ""."""
    return {name: of_task(task) for name, task in tasks.items()}


def of_problem(problem: Problem, variables: Any) -> dict[str, Any]:
    """All that must agree for a run to go on from a checkpoint; `variables`: its first ones."""
    phases = [
        [phase.name, dict(phase.multipliers), plain(phase.settings)]
        for phase in problem.plan.phases
    ]
    told = {
        "data": of_tasks({"": problem.task, **problem.sources}),
        "plan": phases,
        "objective": plain(problem.objective),
        "seed": problem.seed,
        "batch_size": problem.batch_size,
        "weights": fingerprint(variables),
    }
    return json.loads(json.dumps(told))


def changes(theirs: Told, ours: Told) -> list[str]:
    """One phrase for each respect in which two runs, told by `of_problem`, differ."""
    found = changed_data(theirs["data"], ours["data"])
    for name in ("seed", "batch_size"):
        if theirs[name] != ours[name]:
            found.append(f"{name} {theirs[name]} then, {ours[name]} now")
    said = {"plan": "another plan", "objective": "another objective", "weights": "other weights"}
    return found + [phrase for name, phrase in said.items() if theirs[name] != ours[name]]


def changed_data(theirs: Told, ours: Told) -> list[str]:
    """One phrase for each respect in which the tasks, told by `of_tasks`, differ."""
    if theirs.keys() != ours.keys():
        return [f"tasks {sorted(theirs)} then, {sorted(ours)} now"]
    found = []
    for name, now in ours.items():
        own = _changed_task(theirs[name], now)
        found += [f"source {name!r}: {phrase}" for phrase in own] if name else own
    return found


def _changed_task(then: Told, now: Told) -> list[str]:
    """Counts where they say it; else what it is that differs."""
    found = []
    for kind, what in (("examples", "{} examples"), ("classes", "class {!r}")):
        for name in {**then[kind], **now[kind]}:
            counts = then[kind].get(name, 0), now[kind].get(name, 0)
            if counts[0] != counts[1]:
                found.append(f"{what.format(name)}: {counts[0]} then, {counts[1]} now")
    if found:
        return found
    said = {"inputs": "inputs or their names", "truth": "labels", "splits": "splits"}
    return [f"other {what}" for key, what in said.items() if then[key] != now[key]]


def plain(value: Any) -> Any:
    """A setting as JSON has it; of what was handed in from Python (functions, optimizers,
    objectives) only what it is called.
    """
    if isinstance(value, Settings):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not its repr: that of a function among the fields has an address, new in each process.
        own = [f"{f.name}={plain(getattr(value, f.name))!r}" for f in dataclasses.fields(value)]
        return f"{type(value).__qualname__}({', '.join(own)})"
    if type(value) in (list, tuple):  # an optax transformation is a named one
        return [plain(item) for item in value]
    return getattr(value, "__qualname__", type(value).__name__)
