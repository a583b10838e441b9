"""Evaluation: every example exactly once, however many devices and views there are."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tl_jax import progress
from tl_jax.chain.places import Known
from tl_jax.chain.variables import select
from tl_jax.data import loader, views
from tl_jax.engine.prefix import Inputs
from tl_jax.train.objective import Term
from tl_jax.train.problem import Problem, Setup
from tl_jax.train.work import taken

BATCH = 64


def predictions(
    problem: Problem, variables: Any, inputs: Inputs, examples: np.ndarray, over: str = "none"
) -> Any:
    """What the objective predicts of the examples (n,): (n, ...) on the host, the mean over the
    views `over`.
    """
    count = views.count(over)
    placed = _placed(problem, variables, inputs)
    total = None
    for number in progress.over(range(count), "evaluate", total=count, unit="view", delay=5):
        found = _in_view(problem, placed, inputs, examples, number)
        total = found if total is None else jax.tree.map(np.add, total, found)
    return jax.tree.map(lambda a: a / count, total) if count > 1 else total


def scores(
    problem: Problem, variables: Any, inputs: Inputs, examples: np.ndarray
) -> dict[str, float]:
    """The objective's scores of the examples (n,), in view 0."""
    placed, score = _placed(problem, variables, inputs), _score(problem.setup)
    sums: dict[str, np.ndarray] = {}
    for found, truth in _batches(problem, placed, inputs, examples, 0):
        for name, term in jax.device_get(score(found, truth)).items():
            sums[name] = sums.get(name, 0.0) + np.asarray([term.sum, term.weight], np.float64)
    return {name: float(total / max(weight, 1e-9)) for name, (total, weight) in sums.items()}


def finished(problem: Problem, examples: np.ndarray, found: Any) -> dict[str, Any]:
    """Every metric of such predictions for the task's `examples`, as a result has them."""
    return problem.objective.finish(found, problem.task, examples)


def _placed(problem: Problem, variables: Any, inputs: Inputs) -> Any:
    """Of the variables, on the devices, those of the layers that are still to be run."""
    network = problem.chain
    below = network.below[inputs.start] if inputs.start else frozenset()
    names = network.weights(name for name in network.names if name not in below)
    return problem.parallel.place(select(variables, names))


def _in_view(problem: Problem, placed: Any, inputs: Inputs, examples: Any, view: int) -> Any:
    """Predictions (n, ...) on the host, in one view."""
    parts = [
        (truth["number"], jax.tree.map(np.asarray, found))
        for found, truth in _batches(problem, placed, inputs, examples, view)
    ]
    numbers = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(numbers, kind="stable")[np.count_nonzero(numbers < 0) :]
    return jax.tree.map(lambda *a: np.concatenate(a)[order], *(found for _, found in parts))


def _batches(
    problem: Problem, placed: Any, inputs: Inputs, examples: np.ndarray, view: int
) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
    """Predictions (B, ...) and truth, batch by batch: with "number" (B,), the row's place among the
    examples or -1, and "real" (B,), 0 where a row only pads.
    """
    task, setup = problem.task, problem.setup
    wanted = problem.batch_size if task.ordered else BATCH  # of a stream, lanes as in training
    size = -(-wanted // setup.parallel.count) * setup.parallel.count
    order = loader.once_order(len(examples), batch_size=size, ordered=task.ordered)

    def truth(numbers: np.ndarray) -> dict[str, np.ndarray]:
        rows = examples[np.maximum(numbers, 0)]
        known = {name: array[rows] for name, array in task.truth.items()}
        return known | {"number": numbers, "real": (numbers >= 0).astype(np.float32)}

    def read(numbers: np.ndarray) -> tuple[Known, dict[str, np.ndarray]]:
        rows = examples[np.maximum(numbers, 0)]
        return inputs.known(rows, np.full(len(rows), view)), truth(numbers)

    if inputs.resident is not None and not task.ordered:
        found = _of_resident(setup, placed, inputs, examples[np.maximum(order, 0)], view)
        yield found, truth(order.reshape(-1))
    elif task.ordered:
        yield from _stream(setup, placed, loader.read_ahead(order, read))
    else:
        yield from _one_by_one(setup, placed, loader.read_ahead(order, read))


def _one_by_one(setup: Setup, placed: Any, batches: Iterator) -> Iterator:
    """While a batch is computed, the next is read and put on the device."""
    parallel, predict = setup.parallel, _predictor(setup)(placed)
    running = None
    for known, truth in batches:
        shared = parallel.share(known)
        if running is not None:
            yield jax.tree.map(parallel.gathered, running[0]), running[1]
        running = predict(shared), truth
    if running is not None:
        yield jax.tree.map(parallel.gathered, running[0]), running[1]


def _stream(setup: Setup, placed: Any, batches: Iterator) -> Iterator:
    """Each batch goes on with what the one before handed on."""
    carry: Any = ()
    for known, truth in batches:
        found, carry = _stream_predictor(setup)(placed, known, carry)
        yield found, truth


def _of_resident(setup: Setup, placed: Any, inputs: Inputs, examples: np.ndarray, view: int) -> Any:
    """Predictions of examples (S, B) in one call, flat: (S B, ...)."""
    rows = inputs.rows_of(examples, np.full(examples.shape, view))
    order = {"rows": np.int32(rows), "examples": np.int32(examples)}
    data = {"rows": {inputs.place: inputs.resident}, "arrays": dict(inputs.arrays), "truth": {}}
    found = _resident_predictor(setup)(placed, data, order)
    return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:]), found)


def _predict(setup: Setup, fixed: Any, known: Known, carry: Any = ()) -> tuple[Any, Any]:
    return setup.objective.predict(setup.bound(fixed), {"inputs": known}, carry)


@functools.lru_cache(maxsize=8)  # compiled once for all epochs, and for all runs of this shape
def _predictor(setup: Setup) -> Callable:
    return setup.parallel.map(lambda fixed, known: _predict(setup, fixed, known)[0])


@functools.lru_cache(maxsize=8)
def _stream_predictor(setup: Setup) -> Callable:
    return jax.jit(functools.partial(_predict, setup))


@functools.lru_cache(maxsize=8)
def _resident_predictor(setup: Setup) -> Callable:
    def predict(fixed, data, order):
        def one(order):
            return _predict(setup, fixed, taken(data, order)["inputs"])[0]

        return jax.lax.map(one, order)

    return setup.parallel.resident_map(predict)


@functools.lru_cache(maxsize=8)
def _score(setup: Setup) -> Callable[[Any, Any], dict[str, Term]]:
    return jax.jit(setup.objective.score)
