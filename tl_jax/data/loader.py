"""Batches: examples and views are a pure function of seed and epoch; Grain reads them ahead."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

READ_AHEAD = 4  # batches; Grain's default of 500 would fill the memory
THREADS = 2

Read = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (B,) examples, (B,) views -> (B, ...)


class Batch(NamedTuple):
    """Inputs (B, ...) of the examples `indices` (B,); `real` (B,) is 0 where a row only pads."""

    inputs: np.ndarray
    indices: np.ndarray
    real: np.ndarray


def epoch(
    read: Read,
    examples: np.ndarray,
    *,
    views: int,
    batch_size: int,
    seed: Sequence[int],
    first: int = 0,
) -> Iterator[Batch]:
    """Shuffled full batches of one epoch from batch `first` on, each example in a random view.

    `seed` (numbers, such as run, phase and epoch) decides order and views. The remainder that does
    not fill a batch is left out; it is another one each epoch.
    """
    order, chosen = epoch_order(examples, views=views, batch_size=batch_size, seed=seed)
    plan = list(zip(order[first:], chosen[first:], strict=True))
    ones = np.ones(batch_size, np.float32)
    return _read_ahead(plan, lambda e, v: Batch(read(e, v), e, ones))


def epoch_order(
    examples: np.ndarray, *, views: int, batch_size: int, seed: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Examples and views, (S, B) each, of the S batches of such an epoch."""
    rng = np.random.default_rng(list(seed))
    order = rng.permutation(examples)
    chosen = rng.integers(views, size=len(order))
    shape = len(order) // batch_size, batch_size
    kept = shape[0] * batch_size
    return order[:kept].reshape(shape), chosen[:kept].reshape(shape)


def once(read: Read, examples: np.ndarray, *, view: int, batch_size: int) -> Iterator[Batch]:
    """Every example exactly once, in order, in one view; the last batch is padded and says so."""
    plan = []
    for i in range(0, len(examples), batch_size):
        part = examples[i : i + batch_size]
        plan.append((part, np.full(len(part), view)))

    def padded(part: np.ndarray, numbers: np.ndarray) -> Batch:
        missing = batch_size - len(part)
        inputs = read(part, numbers)
        inputs = np.concatenate([inputs, np.repeat(inputs[:1], missing, 0)]) if missing else inputs
        indices = np.concatenate([part, np.repeat(part[:1], missing)])
        return Batch(inputs, indices, np.arange(batch_size) < len(part))

    return _read_ahead(plan, padded)


def _read_ahead(plan: list, make: Callable[[np.ndarray, np.ndarray], Batch]) -> Iterator[Batch]:
    import grain  # imports slowly

    if not plan:
        return iter(())
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=READ_AHEAD)
    return iter(grain.MapDataset.source(plan).map(lambda p: make(*p)).to_iter_dataset(options))
