"""Batches: examples and views are a pure function of seed and epoch; Grain reads them ahead."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tl_jax.data import balance

READ_AHEAD = 4  # batches at the least; Grain's default of 500 would fill the memory
MOST_THREADS = 16

Read = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (B,) examples, (B,) views -> (B, ...)


def epoch_order(
    examples: np.ndarray,
    *,
    views: Sequence[int],
    batch_size: int,
    seed: Sequence[int],
    ordered: bool = False,
    classes: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Examples and views, (S, B) each, of the S full batches of one epoch.

    Shuffled, each example in one of the `views` at random: `seed` (numbers, such as run, phase and
    epoch) decides. The remainder that does not fill a batch is left out; it is another one each
    epoch. With `ordered`, examples are consecutive parts of a stream and are not shuffled: each row
    of a batch goes on where that row of the batch before ended, so rows are lanes through the
    stream. With `classes` (n,), of the examples, each class is drawn as often: see
    `balance.balanced`.
    """
    rng = np.random.default_rng(list(seed))
    steps = len(examples) // batch_size
    kept = steps * batch_size
    if classes is not None:
        order = np.asarray(examples)[balance.balanced(rng, classes, kept)]
    else:
        order = np.asarray(examples) if ordered else rng.permutation(examples)
    drawn = rng.integers(len(views), size=len(order))[:kept].reshape(steps, batch_size)
    chosen = np.asarray(views)[drawn]
    if ordered:
        return order[:kept].reshape(batch_size, steps).T, chosen
    return order[:kept].reshape(steps, batch_size), chosen


def once_order(count: int, *, batch_size: int, ordered: bool = False) -> np.ndarray:
    """Numbers below `count`, (S, B), in batches that hold each once; -1 where a row only pads.

    In order, or with `ordered` in lanes, as `epoch_order` has them.
    """
    steps = -(-count // batch_size)
    numbers = np.arange(steps * batch_size)
    rows = (batch_size, steps) if ordered else (steps, batch_size)
    numbers = numbers.reshape(rows).T if ordered else numbers.reshape(rows)
    return np.where(numbers < count, numbers, -1)


def threads() -> int:
    """How many threads make batches: one for each core that this process may use, 2 to 16.

    Threads are enough: Pillow decodes and resizes outside the interpreter's lock.
    """
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return min(max(2, cores), MOST_THREADS)


def read_ahead(items: Any, make: Callable[[Any], Any]) -> Iterator[Any]:
    """`make(item)` of every item, in order; the next ones are made in threads meanwhile."""
    import grain  # imports slowly

    if not len(items):
        return iter(())
    ahead = max(READ_AHEAD, threads())
    options = grain.ReadOptions(num_threads=threads(), prefetch_buffer_size=ahead)
    return iter(grain.MapDataset.source(items).map(make).to_iter_dataset(options))
