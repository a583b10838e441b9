"""Random augmentation inside a training step: `(key, batch) -> batch`, pure and jittable.

An augmentation is a frozen dataclass of numbers. Equal ones compare and hash equal, because they
are part of what a program is compiled for. A batch is a dictionary: `inputs` (a mapping) holds
`image` (B, H, W, C), uint8 or float, 0 to 255, and an augmentation gives it back as float32 in that
range and of that shape. What is drawn depends on the key, the example's row and, in a `Sequence`,
the part's position alone, so a resumed run draws the same, on however many devices. Under `pmap`
each device counts its own rows, so the key must differ by device (`engine.Parallel.key`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tl_jax.errors import UserError

Batch = dict[str, Any]


def option(default: float, low: float, high: float) -> Any:
    """A field of an augmentation: a number in `low` to `high`."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What all have in common: options are checked, and kept as the type that they are said to be.

    `coupled`: examples are made of each other, so a part of a batch gives other examples than the
    whole.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if "range" in field.metadata:
                value = _checked(self, field, getattr(self, field.name))
                object.__setattr__(self, field.name, value)

    @property
    def coupled(self) -> bool:
        """Whether examples are made of each other."""
        return False

    def __call__(self, key: Array, batch: Batch) -> Batch:
        raise NotImplementedError


def _checked(owner: Augmentation, field: dataclasses.Field, value: Any) -> float:
    low, high = field.metadata["range"]
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    whole = field.type is int
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise UserError(
            f"{name(owner)}: {field.name} must be {kind} from {low:g} to {high:g}, not {value!r}"
        )
    return int(value) if whole else float(value)


@dataclasses.dataclass(frozen=True)
class Sequence(Augmentation):
    """One after the other, each with a key of its own, which later parts leave as it is."""

    parts: tuple[Augmentation, ...]

    @property
    def coupled(self) -> bool:
        return any(part.coupled for part in self.parts)

    def __call__(self, key: Array, batch: Batch) -> Batch:
        for number, part in enumerate(self.parts):
            batch = part(jax.random.fold_in(key, number), batch)
        return batch


@dataclasses.dataclass(frozen=True)
class OfSources:
    """The augmentation `of`, (key, batch) -> batch, of each batch of a dictionary by source."""

    of: Callable[[Array, Batch], Batch]

    def __call__(self, key: Array, batches: dict[str, Batch]) -> dict[str, Batch]:
        keys = jax.random.split(key, len(batches))
        return {n: self.of(k, b) for k, (n, b) in zip(keys, batches.items(), strict=True)}


@dataclasses.dataclass(frozen=True)
class TwoViews:
    """Leaves `inputs` and adds two views of them, "a" and "b", by the augmentation `of`."""

    of: Callable[[Array, Batch], Batch]

    def __call__(self, key: Array, batch: Batch) -> Batch:
        a, b = (self.of(k, batch)["inputs"] for k in jax.random.split(key))
        return {**batch, "a": a, "b": b}


def with_images(batch: Batch, images: Array) -> Batch:
    inputs = batch["inputs"]
    return {**batch, "inputs": type(inputs)({**inputs, "image": jnp.clip(images, 0, 255)})}


def name(augmentation: Augmentation) -> str:
    return type(augmentation).__name__.lower()
