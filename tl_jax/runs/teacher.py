"""A teacher's answers to the examples of a task."""

import os

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.errors import UserError
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.train import evaluate
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem

LEAST = 1e-12  # of a probability, in its logarithm


def require_classes(teacher: Base, classes: tuple[str, ...]) -> None:
    """Raise UserError unless the teacher classifies, and by these classes."""
    if not teacher.classifies:
        raise UserError(f"the teacher {teacher.weights} has no classifier")
    count = teacher.architecture.classes
    if count != len(classes) or (teacher.classes and teacher.classes != classes):
        raise UserError(
            f"the teacher {teacher.weights} has other classes than the task: "
            f"{', '.join(teacher.classes[:4]) or count} ..., not {', '.join(classes[:4])} ..."
        )


def answers(teacher: Base, task: Task, *, cache: str | os.PathLike | None) -> np.ndarray:
    """Return the teacher's logits (N, C) for a task's examples, up to a constant for each.

    It sees each example once, in view 0, through its own preprocessing. UserError for a teacher of
    other classes.
    """
    require_classes(teacher, task.classes)
    expected, read = teacher.preprocessing.of_task(task)
    phase = Phase("teacher", dict.fromkeys(teacher.layers, 1.0), Settings())
    problem = Problem(teacher.chain, expected, read, Plan("teacher", (phase,)))
    inputs = for_plan(problem, test_views="none", cache=cache, dtype="float32")(
        phase, teacher.variables
    )
    rows = np.arange(len(task.truth["labels"]))
    shares = evaluate.predictions(problem, teacher.variables, inputs, rows)
    return np.log(np.maximum(shares, LEAST)).astype(np.float32)
