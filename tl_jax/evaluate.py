"""Evaluation: every example exactly once, however many devices and views there are."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from tl_jax import metrics
from tl_jax.data import loader, views
from tl_jax.data.task import Task
from tl_jax.prefix import Inputs
from tl_jax.state import Problem

BATCH = 64


def probabilities(
    problem: Problem, variables: Any, inputs: Inputs, examples: np.ndarray, over: str = "none"
) -> np.ndarray:
    """(n, C) class probabilities of the examples (n,), the mean over the views `over`."""
    parallel, start = problem.parallel, inputs.start
    size = -(-BATCH // parallel.count) * parallel.count
    above = [layer.name for layer in problem.chain.between(start, None)]
    placed = parallel.place({c: {n: t[n] for n in above if n in t} for c, t in variables.items()})
    predict, mean = _predictor(problem, start), 0.0
    bar = tqdm.trange(views.count(over), desc="evaluate", unit="view", leave=False, delay=5)
    for number in bar:
        batches = loader.once(inputs.read, examples, view=number, batch_size=size)
        one = np.concatenate([predict(placed, b.inputs)[b.real] for b in batches])
        mean = mean + one / views.count(over)
    return mean


def score(task: Task, examples: np.ndarray, probs: np.ndarray) -> dict:
    """The metrics of `probs` (n, C) for the task's `examples` (n,)."""
    names = ("labels", "targets", "weights", "graded_labels", "graded_weights")
    truth = {name: getattr(task, name)[examples] for name in names}
    return metrics.evaluate(probs, **truth, classes=task.classes)


@functools.lru_cache(maxsize=4)  # compiled once for all epochs of a phase
def _predictor(problem: Problem, start: str | None) -> Callable:
    def predict(variables, stored):
        x = problem.network_input(stored, start)
        output = problem.chain.apply(problem.cast(variables), x, start=start).output
        return jax.nn.softmax(output.astype(jnp.float32))

    return problem.parallel.map(predict)
