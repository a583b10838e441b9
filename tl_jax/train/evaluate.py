"""Evaluation: every example counts exactly once, whatever the numbers of devices and views."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from tl_jax import progress
from tl_jax.chain import programs
from tl_jax.chain.places import Known
from tl_jax.chain.variables import select
from tl_jax.data import loader, views
from tl_jax.engine.prefix import Inputs
from tl_jax.errors import UserError
from tl_jax.train.objective import Term
from tl_jax.train.problem import Problem, Setup
from tl_jax.train.work import taken

BATCH = 64
MOST = 2**32  # bytes of predictions that are held at once


def predictions(
    problem: Problem, variables: Any, inputs: Inputs, examples: np.ndarray, over: str = "none"
) -> Any:
    """Return the objective's predictions (n, ...) for the examples (n,), on the host.

    They are the mean over the views `over`. UserError for more than `MOST` bytes of them.
    """
    numbers = views.numbers(over)
    placed = _placed(problem, variables, inputs)
    total = None
    for number in progress.over(numbers, "evaluate", total=len(numbers), unit="views", delay=5):
        in_view = _in_view(problem, placed, inputs, examples, number)
        total = in_view if total is None else jax.tree.map(np.add, total, in_view)
    return jax.tree.map(lambda a: a / len(numbers), total) if len(numbers) > 1 else total


def scores(
    problem: Problem, variables: Any, inputs: Inputs, examples: np.ndarray
) -> dict[str, float]:
    """Return the objective's scores on the examples (n,), in view 0."""
    setup = dataclasses.replace(problem.setup, objective=problem.objective.brief())
    placed, score = _placed(problem, variables, inputs), _score(setup)
    sums: dict[str, np.ndarray] = {}
    for predicted, truth in _batches(problem, setup, placed, inputs, examples, 0):
        for name, term in jax.device_get(score(predicted, truth)).items():
            sums[name] = sums.get(name, 0.0) + np.asarray([term.sum, term.weight], np.float64)
    return {name: float(total / max(weight, 1e-9)) for name, (total, weight) in sums.items()}


def finished(problem: Problem, examples: np.ndarray, found: Any) -> dict[str, Any]:
    """Return all metrics of predictions for the task's `examples`, as a run's result has them."""
    return problem.objective.finish(found, problem.task, examples)


def _placed(problem: Problem, variables: Any, inputs: Inputs) -> Any:
    """Return, on the devices, the variables of the layers above the stored outputs."""
    network = problem.chain
    below = network.below[inputs.start] if inputs.start else frozenset()
    names = network.weights(name for name in network.names if name not in below)
    return problem.parallel.place(select(variables, names))


def _in_view(problem: Problem, placed: Any, inputs: Inputs, examples: Any, view: int) -> Any:
    """Return predictions (n, ...) in one view, on the host."""
    parts = []
    for predicted, truth in _batches(problem, problem.setup, placed, inputs, examples, view):
        _require_few(predicted, len(examples))
        parts.append((truth["number"], jax.tree.map(np.asarray, predicted)))
    numbers = np.concatenate([rows for rows, _ in parts])
    order = np.argsort(numbers, kind="stable")[np.count_nonzero(numbers < 0) :]
    return jax.tree.map(lambda *a: np.concatenate(a)[order], *(predicted for _, predicted in parts))


def _require_few(predicted: Any, count: int) -> None:
    """UserError if predictions such as these (B, ...) are too large for so many examples."""
    nbytes = count * sum(leaf.nbytes // len(leaf) for leaf in jax.tree.leaves(predicted))
    if nbytes > MOST:
        shape = jax.tree.leaves(predicted)[0].shape[1:]
        raise UserError(
            f"predictions {shape} of {count:,} examples take {nbytes / 1e9:.1f} GB of memory: take "
            "fewer examples, or a loss alone, as experiments.language does"
        )


def _batches(
    problem: Problem, setup: Setup, placed: Any, inputs: Inputs, examples: np.ndarray, view: int
) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
    """Yield predictions (B, ...) and truth batch by batch.

    Truth also has "number" (B,), the row's index into `examples` or -1, and "real" (B,), 0 where a
    row only pads.
    """
    task = problem.task
    wanted = problem.batch_size if task.ordered else BATCH  # a stream keeps the lanes of training
    size = -(-wanted // setup.parallel.count) * setup.parallel.count
    order = loader.once_order(len(examples), batch_size=size, ordered=task.ordered)

    def truth(numbers: np.ndarray) -> dict[str, np.ndarray]:
        rows = examples[np.maximum(numbers, 0)]
        arrays = {name: array[rows] for name, array in task.truth.items()}
        return arrays | {"number": numbers, "real": (numbers >= 0).astype(np.float32)}

    def read(numbers: np.ndarray, part: slice = slice(None)) -> tuple[Known, dict[str, np.ndarray]]:
        rows = examples[np.maximum(numbers[part], 0)]
        return inputs.known(rows, np.full(len(rows), view)), truth(numbers)

    if inputs.resident is not None and not task.ordered:
        predicted = _of_resident(setup, placed, inputs, examples[np.maximum(order, 0)], view)
        yield predicted, truth(order.reshape(-1))
    elif task.ordered:
        yield from _stream(setup, placed, loader.read_ahead(order, read))
    else:
        mine = functools.partial(read, part=setup.parallel.rows(size))
        yield from _one_by_one(setup, placed, loader.read_ahead(order, mine))


def _one_by_one(setup: Setup, placed: Any, batches: Iterator) -> Iterator:
    """Yield predictions and truth; the next batch is read and sent while a batch is computed.

    Of several processes each reads its rows of what is known, and gets all predictions.
    """
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
    """Yield predictions and truth; each batch starts from the carry of the one before."""
    carry: Any = ()
    for known, truth in batches:
        predicted, carry = _stream_predictor(setup)(placed, known, carry)
        yield predicted, truth


def _of_resident(setup: Setup, placed: Any, inputs: Inputs, examples: np.ndarray, view: int) -> Any:
    """Return the predictions for examples (S, B), computed in one call, as (S * B, ...)."""
    rows = inputs.rows_of(examples, np.full(examples.shape, view))
    order = {"rows": np.int32(rows), "examples": np.int32(examples)}
    data = {"rows": {inputs.place: inputs.resident}, "arrays": dict(inputs.arrays), "truth": {}}
    predicted = _resident_predictor(setup)(placed, data, setup.parallel.share_columns(order))
    whole = jax.tree.map(setup.parallel.gathered, predicted)
    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), whole)


def _predict(setup: Setup, fixed: Any, known: Known, carry: Any = ()) -> tuple[Any, Any]:
    return setup.objective.predict(setup.bound(fixed), {"inputs": known}, carry)


@functools.lru_cache(maxsize=programs.KEPT)  # compiled once for all runs of these shapes
def _predictor(setup: Setup) -> Callable:
    return setup.parallel.map(lambda fixed, known: _predict(setup, fixed, known)[0])


@functools.lru_cache(maxsize=programs.KEPT)
def _stream_predictor(setup: Setup) -> Callable:
    return jax.jit(functools.partial(_predict, setup))


@functools.lru_cache(maxsize=programs.KEPT)
def _resident_predictor(setup: Setup) -> Callable:
    def predict(fixed, data, order):
        def one(order):
            return _predict(setup, fixed, taken(data, order)["inputs"])[0]

        return jax.lax.map(one, order)

    return setup.parallel.resident_map(predict)


@functools.lru_cache(maxsize=programs.KEPT)
def _score(setup: Setup) -> Callable[[Any, Any], dict[str, Term]]:
    return jax.jit(setup.objective.score)
