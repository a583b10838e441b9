"""Episodes: W classes, k labelled examples of each (the support set), and queries to answer."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.data.splits import require_seed
from tl_jax.errors import UserError, takes_whole


class Episodes(NamedTuple):
    """E episodes of W classes, as rows of a task."""

    support: np.ndarray  # (E, W, k)
    query: np.ndarray  # (E, W, Q)

    def with_shots(self, shots: int) -> "Episodes":
        """Return the same episodes with the first `shots` examples of each support set."""
        return self._replace(support=self.support[:, :, :shots])

    def first(self, count: int) -> "Episodes":
        """Return the first `count` of them."""
        return Episodes(self.support[:count], self.query[:count])


def drawn(
    labels: np.ndarray,
    classes: Sequence[str],
    among: Sequence[str],
    *,
    ways: int,
    shots: int,
    queries: int,
    count: int,
    seed: int,
) -> Episodes:
    """Draw `count` episodes of the classes `among`; each draws its classes, then their examples.

    `labels` (N,) are numbers of `classes`. UserError, with the near miss, if there are fewer
    classes than `ways`, or fewer examples of a class than `shots` and `queries` together.
    """
    require(labels, classes, among, ways=ways, shots=shots, queries=queries, count=count)
    require_seed(seed)
    rng = np.random.default_rng([seed, 0])
    rows = [np.flatnonzero(labels == classes.index(name)) for name in among]
    every = np.empty((count, ways, shots + queries), np.int64)
    for episode in every:
        for place, number in enumerate(rng.choice(len(rows), ways, replace=False)):
            episode[place] = rng.choice(rows[number], shots + queries, replace=False)
    return Episodes(every[:, :, :shots], every[:, :, shots:])


def require(
    labels: np.ndarray,
    classes: Sequence[str],
    among: Sequence[str],
    *,
    ways: int,
    shots: int,
    queries: int,
    count: int,
) -> None:
    """UserError unless such episodes can be drawn: see `drawn`."""
    takes_whole(ways, "ways=", 2, 1_000_000)
    takes_whole(shots, "shots=", 1, 1_000_000)
    takes_whole(queries, "queries=", 1, 1_000_000)
    takes_whole(count, "episodes=", 2, 1_000_000)
    if len(among) < 2:
        raise UserError(f"episodes need two classes or more, and there are {len(among)}")
    if ways > len(among):
        raise UserError(
            f"an episode of {ways} ways needs {ways} classes, and there are {len(among)} to draw "
            f"from ({', '.join(among)}): take ways={len(among)}"
        )
    sizes = {name: int(np.sum(labels == classes.index(name))) for name in among}
    least = min(sizes, key=sizes.__getitem__)
    if sizes[least] < shots + queries:
        left = sizes[least] - shots
        take = f"queries={left}" if left > 0 else "fewer shots="
        raise UserError(
            f"class {least!r} has {sizes[least]} examples, and an episode of {shots} shots and "
            f"{queries} queries needs {shots + queries}: take {take}, or leave the class out"
        )
