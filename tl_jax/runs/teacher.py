"""A teacher's answers to the examples of a task."""

import os

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.plans.plan import Phase, Plan, Settings
from tl_jax.train import evaluate
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem

LEAST = 1e-12  # of a probability, in its logarithm


def logits_of(teacher: Base, task: Task, *, cache: str | os.PathLike | None) -> np.ndarray:
    """Return the teacher's logits (N, C) for a task's examples, up to a constant for each.

    It sees each example once, in view 0, through its own preprocessing. UserError for a teacher of
    other classes.
    """
    teacher.require_classes(task.classes, "the teacher")
    expected, read = teacher.preprocessing.of_task(task)
    phase = Phase("teacher", dict.fromkeys(teacher.layers, 1.0), Settings())
    problem = Problem(teacher.chain, expected, read, Plan("teacher", (phase,)))
    inputs = for_plan(problem, test_views="none", cache=cache, dtype="float32")(
        phase, teacher.variables
    )
    rows = np.arange(len(task.truth["labels"]))
    shares = evaluate.predictions(problem, teacher.variables, inputs, rows)
    return np.log(np.maximum(shares, LEAST)).astype(np.float32)
