"""Programs whose weights stay as they are from batch to batch: what is made of those once.

Such a program is for inference on one core of a CPU. It is traced twice: `recorded`, to find what
its operations `keep` of the weights, and `replayed` with that.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import jax


class _Traced(threading.local):
    """What the thread is tracing now."""

    kept: list[jax.Array] | None = None
    given: Iterator[jax.Array] | None = None
    last: tuple[jax.Array, Any] | None = None


_traced = _Traced()


def active() -> bool:
    """Whether such a program is being traced."""
    return _traced.kept is not None or _traced.given is not None


def keep(value: jax.Array) -> jax.Array:
    """`value`, which is to be a function of the weights alone: computed once, in such a program."""
    if _traced.given is not None:
        return next(_traced.given)
    if _traced.kept is not None:
        _traced.kept.append(value)
    return value


def note(value: jax.Array, made_of: Any) -> None:
    """That `value`, the newest, is made so; for an operation that can take its making along."""
    _traced.last = value, made_of


def noted(value: jax.Array) -> Any:
    """What was noted of `value`, if it is the newest."""
    last, made_of = _traced.last or (None, None)
    return made_of if value is last else None


def want(value: jax.Array) -> None:
    """That `value` is wanted itself, so that no operation need make it again."""
    if noted(value) is not None:
        _traced.last = None


@contextlib.contextmanager
def recorded() -> Iterator[list[jax.Array]]:
    """The list of all that is kept in the block."""
    _traced.kept = kept = []
    try:
        yield kept
    finally:
        _traced.kept = _traced.last = None


@contextlib.contextmanager
def replayed(values: list[jax.Array]) -> Iterator[None]:
    """In the block, which is to trace the same again, these values are what was kept."""
    _traced.given = iter(values)
    try:
        yield
    finally:
        _traced.given = _traced.last = None
