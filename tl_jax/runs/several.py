"""Finished runs that belong together: of the same data, splits and classes."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from tl_jax.base import file
from tl_jax.base.base import Base
from tl_jax.base.load import load_base
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.runs.results import read_json
from tl_jax.runs.subject import named_task
from tl_jax.train.identity import changed_data, of_tasks


class Finished(NamedTuple):
    """A finished run."""

    run: pathlib.Path
    base: Base
    result: dict


def of_same_data(runs: Sequence[pathlib.Path], *, what: str) -> list[Finished]:
    """Load finished runs, of which `what` is made.

    UserError for fewer than two, and, with what differs, for runs of other data, splits or classes:
    some would have trained on what the others are judged by.
    """
    if len(runs) < 2:
        raise UserError(f"{what} is made of two runs or more; got {len(runs)}")
    read = [(run, *_read(run)) for run in runs]
    for run, _, data in read[1:]:
        if changed := changed_data(read[0][2], data):
            raise UserError(f"{run} and {runs[0]} do not fit together: {'; '.join(changed[:3])}")
    found = [Finished(run, load_base(run), result) for run, result, _ in read]
    require_same(found, "classes")
    return found


def require_same(runs: Sequence[Finished], *parts: str) -> None:
    """UserError for runs whose bases differ in one of these attributes."""
    for other in runs[1:]:
        for part in parts:
            if getattr(other.base, part) != getattr(runs[0].base, part):
                line = f"{other.run} and {runs[0].run} do not fit together: another {part}"
                raise UserError(line)


def task_of(run: pathlib.Path) -> Task:
    """Load the task of a run that has a config; UserError for a run made from Python, and for a
    task that has changed.
    """
    config = _record(run, "config.json")
    task, seed = config.get("task"), config.get("seed")
    if not isinstance(task, dict) or "name" not in task or seed is None:
        raise UserError(f"{run} was made from Python, and its task is not known here: go on there")
    task = named_task(task, seed)
    require_same_data(run, task)
    return task


def require_same_data(run: pathlib.Path, task: Task) -> None:
    """UserError, with what changed, if the task is no longer the one that the run belongs to: it
    would be judged by examples that it has trained on.
    """
    if changed := changed_data(_read(run)[1], of_tasks({"": task})):
        raise UserError(f"{run} belongs to other data: {'; '.join(changed[:3])}")


def _read(run: pathlib.Path) -> tuple[dict, dict]:
    """The result of a finished run, and the data that it belongs to."""
    return _record(run, "result.json"), _record(run, "data.json")


def _record(run: pathlib.Path, name: str) -> dict:
    try:
        return read_json(run / name)
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is no finished run with a {file.NAME}: {error}") from error
