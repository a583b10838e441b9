"""Evaluation: every example exactly once, however many devices and views there are."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from tl_jax.data import loader, views
from tl_jax.data.task import Task
from tl_jax.engine.prefix import Inputs
from tl_jax.stats import metrics
from tl_jax.train.state import Network, Problem

BATCH = 64


def probabilities(
    problem: Problem, variables: Any, inputs: Inputs, examples: np.ndarray, over: str = "none"
) -> np.ndarray:
    """(n, C) class probabilities of the examples (n,), the mean over the views `over`."""
    network = problem.network
    above = [layer.name for layer in network.chain.between(inputs.start, None)]
    placed = {c: {n: t[n] for n in above if n in t} for c, t in variables.items()}
    placed = network.parallel.place(placed)
    one_view = _of_streamed if inputs.resident is None else _of_resident
    mean = 0.0
    bar = tqdm.trange(views.count(over), desc="evaluate", unit="view", leave=False, delay=5)
    for number in bar:
        mean = mean + one_view(network, placed, inputs, examples, number) / views.count(over)
    return mean


def score(task: Task, examples: np.ndarray, probs: np.ndarray) -> dict:
    """The metrics of `probs` (n, C) for the task's `examples` (n,)."""
    names = ("labels", "targets", "weights", "graded_labels", "graded_weights")
    truth = {name: getattr(task, name)[examples] for name in names}
    return metrics.evaluate(probs, **truth, classes=task.classes)


def brief_score(task: Task, examples: np.ndarray, probs: np.ndarray) -> dict[str, float]:
    """Of `score`, the three that every epoch is judged by; scikit-learn's others take longer."""
    predicted = probs.argmax(1)
    graded = predicted == task.graded_labels[examples]
    targets, weights = task.targets[examples], task.weights[examples]
    return {
        "loss": metrics.cross_entropy(probs, targets=targets, weights=weights),
        "accuracy": float(np.mean(predicted == task.labels[examples])),
        "weighted_accuracy": float(np.average(graded, weights=task.graded_weights[examples])),
    }


def _of_streamed(
    network: Network, placed: Any, inputs: Inputs, examples: np.ndarray, view: int
) -> np.ndarray:
    """(n, C) in one view; while a batch is computed, the next is read and put on the device."""
    parallel, predict = network.parallel, _predictor(network, inputs.start)(placed)
    found, running = [], None
    for batch in loader.once(inputs.read, examples, view=view, batch_size=_batch(network)):
        shared = parallel.share(batch.inputs)
        if running is not None:
            found.append(parallel.gathered(running))
        running = predict(shared)
    found.append(parallel.gathered(running))
    return np.concatenate(found)[: len(examples)]


def _of_resident(
    network: Network, placed: Any, inputs: Inputs, examples: np.ndarray, view: int
) -> np.ndarray:
    """(n, C) in one view, in one call; rows that fill the last batch are computed and dropped."""
    rows, size = inputs.row(examples, view), _batch(network)
    order = np.resize(rows, (-(-len(rows) // size), size)).astype(np.int32)
    found = _resident_predictor(network, inputs.start)(placed, inputs.resident, order)
    return np.asarray(found).reshape(-1, found.shape[-1])[: len(rows)]


def _batch(network: Network) -> int:
    return -(-BATCH // network.parallel.count) * network.parallel.count


@functools.lru_cache(maxsize=8)  # compiled once for all epochs, and for all runs of this shape
def _predictor(network: Network, start: str | None) -> Callable:
    return network.parallel.map(functools.partial(_predict, network, start))


@functools.lru_cache(maxsize=8)
def _resident_predictor(network: Network, start: str | None) -> Callable:
    def predict(variables, stored, order):
        def one(rows):
            return _predict(network, start, variables, stored[rows])

        return jax.lax.map(one, order)

    return network.parallel.resident_map(predict)


def _predict(network: Network, start: str | None, variables: Any, stored: jax.Array) -> jax.Array:
    output = network.apply(variables, stored, start).output
    return jax.nn.softmax(output.astype(jnp.float32))
