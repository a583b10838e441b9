"""Judging a base, as it is, on a split of a task: its own, or one whose inputs are shifted."""

from typing import Any

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.subset import relabelled
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.train.objectives.cross_entropy import Classification

BATCH = 256  # images that are open at once, or texts


def judged(base: Base, task: Task, split: str) -> dict[str, Any]:
    """Return every metric of the base's predictions on a split of the task."""
    return Classification().finish(predicted(base, task, split), task, task.splits[split])


def predicted(base: Base, task: Task, split: str) -> np.ndarray:
    """Return the probabilities (n, C) that the base gives a split's images or texts."""
    rows = task.splits[split]
    read = task.texts.__getitem__ if task.texts else task.image
    parts = [
        base.predict([read(int(row)) for row in rows[first : first + BATCH]])
        for first in range(0, len(rows), BATCH)
    ]
    return np.concatenate(parts)


def elsewhere(base: Base, task: Task) -> dict[str, Any]:
    """Return every metric on the test split of a task that the base was not trained on.

    The base answers one of all its classes; the task may have fewer. UserError for a class of the
    task that the base has not, and for a task without a test split.
    """
    if not len(task.splits["test"]):
        raise UserError(f"the task {task.name!r} has no examples to judge by in test")
    return judged(base, relabelled(task, base.classes), "test")
