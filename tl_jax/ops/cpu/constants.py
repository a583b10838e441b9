"""Inference with constant weights: whatever depends on the weights alone is computed once.

Such a program runs on one core of a CPU, and takes no gradient. It is traced twice: while
`recording`, to collect what its operations compute from the weights (`precomputed`), and while
`replaying`, with the results of the first pass.

| while tracing | an operation calls |
|---|---|
| is this such a program? | `active()` |
| this value depends on the weights alone | `precomputed(value)` |
| this is how I produced my output | `record_origin(value, origin)` |
| how was my input produced, so that I can fuse with it? | `origin_of(value)` |
| this value is needed in full, so do not fuse it away | `materialise(value)` |
"""

import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import Any

import jax


class _Tracing(threading.local):
    """The state of this thread's tracing."""

    recorded: list[jax.Array] | None = None
    replayed: Iterator[jax.Array] | None = None
    newest: tuple[jax.Array, Any] | None = None  # a value and its origin


_tracing = _Tracing()


def active() -> bool:
    """Whether a program with constant weights is being traced."""
    return _tracing.recorded is not None or _tracing.replayed is not None


def precomputed(value: jax.Array) -> jax.Array:
    """Return `value`, which must depend on the weights alone; the program computes it once."""
    if _tracing.replayed is not None:
        return next(_tracing.replayed)
    if _tracing.recorded is not None:
        _tracing.recorded.append(value)
    return value


def record_origin(value: jax.Array, origin: Any) -> None:
    """Record how `value`, the newest, was produced, so that the next operation can fuse with it."""
    _tracing.newest = value, origin


def origin_of(value: Any) -> Any:
    """Return the recorded origin of `value`, or None if another value is newer."""
    newest, origin = _tracing.newest or (None, None)
    return origin if value is newest else None


def materialise(value: Any) -> None:
    """Forget the origin of `value`, which is needed in full.

    An operation that fused with it would compute it a second time.
    """
    if origin_of(value) is not None:
        _tracing.newest = None


@contextlib.contextmanager
def recording() -> Generator[list[jax.Array]]:
    """Yield a list that collects all values that are `precomputed` inside."""
    _tracing.recorded = values = []
    try:
        yield values
    finally:
        _tracing.recorded = _tracing.newest = None


@contextlib.contextmanager
def replaying(values: list[jax.Array]) -> Generator[None]:
    """Let `precomputed` return these values in turn, while the same function is traced again."""
    _tracing.replayed = iter(values)
    try:
        yield
    finally:
        _tracing.replayed = _tracing.newest = None
