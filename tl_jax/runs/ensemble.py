"""An ensemble: the mean of several finished runs' probabilities, as ULMFiT takes a forward and a
backward model's (Howard & Ruder 2018, arXiv:1801.06146, section 3.3).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.task import Task
from tl_jax.runs.judge import predicted
from tl_jax.train.objectives.cross_entropy import Classification


def judged(bases: Sequence[Base], task: Task, split: str) -> tuple[list[dict[str, Any]], dict]:
    """Return every metric on a split of each base alone, and of their mean.

    Bases may differ in all but their classes: in architecture, weights and preprocessing.
    """
    rows = task.splits[split]
    every = [predicted(base, task, split) for base in bases]
    finish = Classification().finish
    return [finish(one, task, rows) for one in every], finish(np.mean(every, 0), task, rows)
