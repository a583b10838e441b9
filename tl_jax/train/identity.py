"""The identity of a run: its data, its plan, and the weights that it begins with."""

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
    """Return counts of examples by split and class, and hashes of inputs, truth and splits."""
    labels = task.truth.get("labels")
    counts = {}
    if labels is not None:
        counts = {name: int(np.sum(labels == c)) for c, name in enumerate(task.classes)}
    return {
        "examples": {split: len(rows) for split, rows in task.splits.items()},
        "classes": counts,
        "inputs": task.fingerprint,
        "truth": fingerprint(dict(task.truth)),
        "splits": fingerprint({split: np.asarray(rows) for split, rows in task.splits.items()}),
    }


def of_tasks(tasks: Mapping[str, Task]) -> dict[str, Any]:
    """Return `of_task` for every task by name; the judged task is called ""."""
    return {name: of_task(task) for name, task in tasks.items()}


def of_problem(problem: Problem, variables: Any) -> dict[str, Any]:
    """Return what must agree to resume a run from a checkpoint; `variables` are its first ones."""
    phases = [
        [phase.name, dict(phase.multipliers), plain(phase.settings)]
        for phase in problem.plan.phases
    ]
    identity = {
        "data": of_tasks({"": problem.task, **problem.sources}),
        "plan": phases,
        "objective": plain(problem.objective),
        "seed": problem.seed,
        "batch_size": problem.batch_size,
        "weights": fingerprint(variables),
    }
    return json.loads(json.dumps(identity))


def changes(theirs: Told, ours: Told) -> list[str]:
    """Return a phrase for each difference between two runs, described by `of_problem`."""
    phrases = changed_data(theirs["data"], ours["data"])
    for name in ("seed", "batch_size"):
        if theirs[name] != ours[name]:
            phrases.append(f"{name} {theirs[name]} then, {ours[name]} now")
    names = {"plan": "another plan", "objective": "another objective", "weights": "other weights"}
    return phrases + [phrase for name, phrase in names.items() if theirs[name] != ours[name]]


def changed_data(theirs: Told, ours: Told) -> list[str]:
    """Return a phrase for each difference between tasks, described by `of_tasks`."""
    if theirs.keys() != ours.keys():
        return [f"tasks {sorted(theirs)} then, {sorted(ours)} now"]
    phrases = []
    for name, now in ours.items():
        try:
            of_source = _changed_task(theirs[name], now)
        except (AttributeError, LookupError, TypeError):  # it was read from a file
            of_source = ["what was noted of them then is damaged"]
        phrases += [f"source {name!r}: {phrase}" for phrase in of_source] if name else of_source
    return phrases


def _changed_task(then: Told, now: Told) -> list[str]:
    """Return phrases with counts if these differ; else phrases that name what differs."""
    phrases = []
    for kind, what in (("examples", "{} examples"), ("classes", "class {!r}")):
        for name in {**then[kind], **now[kind]}:
            counts = then[kind].get(name, 0), now[kind].get(name, 0)
            if counts[0] != counts[1]:
                phrases.append(f"{what.format(name)}: {counts[0]} then, {counts[1]} now")
    if phrases:
        return phrases
    names = {"inputs": "inputs or their names", "truth": "labels", "splits": "splits"}
    return [f"other {what}" for key, what in names.items() if then[key] != now[key]]


def plain(value: Any) -> Any:
    """Return a setting as JSON-able data; functions, optimizers and objectives as their names."""
    if isinstance(value, Settings):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not its repr: that shows a function's address, which differs between processes.
        fields = [f"{f.name}={plain(getattr(value, f.name))!r}" for f in dataclasses.fields(value)]
        return f"{type(value).__qualname__}({', '.join(fields)})"
    if type(value) in (list, tuple):  # an optax transformation is a named one
        return [plain(item) for item in value]
    return getattr(value, "__qualname__", type(value).__name__)
