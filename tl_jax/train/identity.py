"""The identity of a run: its data, its plan, and the weights that it begins with."""

import dataclasses
import functools
import hashlib
import inspect
import json
import types
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from tl_jax.chain.variables import fingerprint
from tl_jax.data.task import Task
from tl_jax.plans.plan import Settings
from tl_jax.train.problem import Problem

Told = Mapping[str, Any]  # JSON-able data
EMPTY = types.CellType()  # of a function's variable that has no value yet


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
        "preprocessing": problem.preprocessing.fingerprint() if problem.preprocessing else "",
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
    names = {
        **{"plan": "another plan", "objective": "another objective", "weights": "other weights"},
        "preprocessing": "inputs of another size, or prepared otherwise",
    }
    noted = {"preprocessing": ours["preprocessing"], **theirs}  # older checkpoints have none
    return phrases + [phrase for name, phrase in names.items() if noted[name] != ours[name]]


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


def plain(value: Any, within: frozenset[int] = frozenset()) -> Any:
    """Return a setting as JSON-able data: functions and objects as their names, a function inside
    another with a hash of what it computes, since others may have its name (optax's all have).

    `within`: the ids of what it is inside of, for a function may refer to itself.
    """
    if id(value) in within:
        return ""
    tell = functools.partial(plain, within=within | {id(value)})
    if isinstance(value, Settings):
        return {f.name: tell(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not its repr: that shows a function's address, which differs between processes.
        fields = [f"{f.name}={tell(getattr(value, f.name))!r}" for f in dataclasses.fields(value)]
        return f"{type(value).__qualname__}({', '.join(fields)})"
    if isinstance(value, Mapping):
        return {str(key): tell(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # as optax's transformations are
        return f"{type(value).__name__} {_hash(tell(list(value)))}"
    if isinstance(value, list | tuple):
        return [tell(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray | jax.Array):
        return fingerprint({"": np.asarray(value)})
    if isinstance(value, functools.partial):
        return [tell(part) for part in (value.func, value.args, value.keywords)]
    if isinstance(value, types.CodeType):
        return [value.co_code.hex(), list(value.co_names), tell(value.co_consts)]
    name, function = getattr(value, "__qualname__", type(value).__name__), inspect.unwrap(value)
    if "<" not in name or not isinstance(function, types.FunctionType):
        return name
    inside = tell([function.__code__, function.__defaults__, function.__kwdefaults__])
    held = [tell(cell.cell_contents) for cell in function.__closure__ or () if cell != EMPTY]
    return f"{name} {_hash([inside, held])}"


def _hash(told: Any) -> str:
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
