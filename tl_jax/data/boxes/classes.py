"""A task of boxes with some of its classes alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tl_jax.data.boxes.truth import NONE, kept
from tl_jax.data.task import Task
from tl_jax.errors import takes_several, unknown


def of_classes(task: Task, names: Sequence[str]) -> Task:
    """Return the task with the boxes of these classes alone, numbered in this order.

    All images stay, those without such a box as background. UserError, with the near miss, for a
    class that the task does not have.
    """
    takes_several(names, "only=")
    for name in names:
        if name not in task.classes:
            raise unknown("class", name, task.classes)
    numbers = np.full(len(task.classes) + 1, NONE, np.int32)  # the last one is that of no box
    numbers[[task.classes.index(name) for name in names]] = np.arange(len(names))
    classes = numbers[task.truth["classes"]]
    truth = kept({**task.truth, "classes": classes}, classes != NONE)
    return dataclasses.replace(task.with_truth(**truth), classes=tuple(names))
