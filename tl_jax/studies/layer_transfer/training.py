"""The interface between the study and a trainer.

A trainer is a function from a `Training` to a `Trained` for each seed: `resident.trainer` trains
all seeds in one program on images in memory, `streamed.trainer` one after the other from disk.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tl_jax.data.subset import ClassSubset

BATCH_NORM = "batch"  # of layers that learn: the bases begin with fresh weights


class Training(NamedTuple):
    """One training, for each of S seeds."""

    subsets: list[ClassSubset]  # S subsets of the examples
    variables: list[Any]  # S trees of initial variables
    stop: str | None  # the last frozen layer; None: all layers are trained
    budget: int  # training examples of each class; 0: all
    epochs: int
    purpose: str  # names, with the seed, the random numbers of a training

    @property
    def seeds(self) -> list[int]:
        """The S seeds of the trainings, which draw the orders of their examples."""
        return [drawn_seed(self.purpose, seed) for seed in range(len(self.subsets))]


class Trained(NamedTuple):
    """The result of one training."""

    variables: Any
    row: dict[str, float]  # accuracies `val` and `test`, and the last epoch's `loss`


Trainer = Callable[[Training], list[Trained]]


def drawn_seed(purpose: str, seed: int) -> int:
    """Return a seed for random numbers, different for each purpose."""
    return zlib.crc32(f"{purpose}/{seed}".encode()) >> 1
