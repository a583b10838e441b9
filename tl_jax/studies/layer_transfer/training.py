"""What the study asks of a trainer, and what it gets.

A trainer is a function from a `Training` to a `Trained` for each seed: `resident.trainer` trains
all seeds in one program on images in memory, `streamed.trainer` one after the other from disk.
"""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tl_jax.studies.layer_transfer.subsets import ClassSubset


class Training(NamedTuple):
    """The same training for each of S seeds."""

    subsets: list[ClassSubset]  # (S,) of the examples
    variables: list[Any]  # (S,) at the start
    stop: str | None  # the last frozen layer; None: all layers learn
    budget: int  # training examples of each class; 0: all
    epochs: int
    purpose: str  # says with the seed what is drawn

    @property
    def seeds(self) -> list[int]:
        """(S,) of what is drawn in each training: the order of its examples."""
        return [drawn_seed(self.purpose, seed) for seed in range(len(self.subsets))]


class Trained(NamedTuple):
    """What one training gives."""

    variables: Any
    row: dict[str, float]  # accuracies `val` and `test`, and the last epoch's `loss`


Trainer = Callable[[Training], list[Trained]]


def drawn_seed(purpose: str, seed: int) -> int:
    """Return a seed of its own for everything that is drawn."""
    return zlib.crc32(f"{purpose}/{seed}".encode()) >> 1
