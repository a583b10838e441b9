"""The trainings of the study: a linear head on a cut base, then fine-tuning of layers below it.

The study calls `transfer` and nothing else of this module.
"""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.expects import Expected
from tl_jax.data.task import Task
from tl_jax.engine.prefix import Inputs
from tl_jax.plans.plan import Settings
from tl_jax.plans.strategies import fine_tune_top, head_only
from tl_jax.runs.transfer import trained
from tl_jax.train.inputs import for_plan
from tl_jax.train.problem import Problem
from tl_jax.train.state import choices


def transfer(
    config: Any,
    base: Base,
    task: Task,
    pooled: np.ndarray,
    *,
    cut: str,
    seed: int,
    folder: pathlib.Path,
) -> dict[str, dict[str, Any]]:
    """Return test accuracies after training the head and after fine-tuning below it.

    `epochs` says which epochs they belong to (`state.choices`). `pooled` (N, D) are the features at
    the cut. `folder` holds the checkpoints and is removed at the end.
    """
    ready = base.with_head(len(task.classes), cut=cut, seed=seed)
    expected, task = base.preprocessing.of_task(task)
    names, variables = ready.layers, ready.variables
    tune = Settings(**config.tune)
    plans = {
        "head": head_only(names, new=names[-1:], train_head=Settings(**config.head)),
        "fine_tuned": fine_tune_top(names, tune=tune, from_layer=config.from_layer),
    }
    result: dict[str, dict[str, Any]] = {"accuracy": {}, "epochs": {}}
    for step, plan in plans.items():
        problem = Problem(
            ready.chain, expected, task, plan, seed=seed, batch_size=config.batch_size
        )
        stores = {"cache": config.cache, "dtype": "float16", "workdir": folder / step}
        inputs_for = for_plan(problem, test_views="none", **stores)
        if step == "head":  # it pools first, so it needs nothing but pooled features
            inputs_for = _from_pooled(pooled, cut, expected)
        done = trained(problem, variables, inputs_for, workdir=folder / step)
        variables, result["accuracy"][step] = done.variables, done.scores["test"]["accuracy"]
        (result["epochs"][step],) = choices(plan, done.progress, problem.objective)
    shutil.rmtree(folder)
    return result


def _from_pooled(rows: np.ndarray, cut: str, preprocessing: Expected) -> Callable[..., Inputs]:
    """Return a function that gives every phase the pooled features (N, D) as its inputs."""

    def read(examples, views):
        return rows[examples]

    def row(examples, views):
        return examples

    inputs = Inputs(read, cut, "", preprocessing, rows.nbytes, np.ascontiguousarray(rows), row)
    return lambda phase, variables: inputs
