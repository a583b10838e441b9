"""A batch divided among the cores of a CPU, for what each example goes through by itself.

XLA's and oneDNN's threads wait for one another at the end of every operation. Those of a program
for each core, each with its own part of the batch, wait for one another once.
"""

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from tl_jax.ops import frozen, onednn


class Divided:
    """`fn(fixed, batch (B, ...)) -> (B, ...)`, jitted; on a CPU with oneDNN a part for each core.

    For inference alone: `fn` is to treat each example as if it were the only one. A batch that the
    cores cannot share equally, or that is being traced, stays whole.
    """

    def __init__(self, fn: Callable[[Any, jax.Array], jax.Array], **shardings: Any):
        self.whole = jax.jit(fn, **shardings)
        self._kept = jax.jit(functools.partial(_kept, fn))
        self._part = jax.jit(functools.partial(_part, fn), static_argnums=4)
        self._compiled: set[tuple[int, ...]] = set()  # shapes of batches

    def __call__(self, fixed: Any, batch: Any) -> jax.Array:
        return self.of(fixed)(batch)

    def of(self, fixed: Any) -> Callable[[Any], jax.Array]:
        """The function of the batch alone; what is kept of `fixed` is made for the first batch."""
        cores, kept = onednn.cores(), {}

        def run(batch: Any) -> jax.Array:
            if isinstance(batch, jax.core.Tracer) or cores == 1 or len(batch) % cores:
                return self.whole(fixed, batch)
            if batch.shape not in kept:
                kept[batch.shape] = self._made(fixed, batch)
            return self._run(*kept[batch.shape], batch, cores)

        return run

    def _made(self, fixed, batch):
        fixed = jax.device_put(fixed)
        traced = self._kept.trace(fixed, batch)
        _require_independent(traced.jaxpr, len(jax.tree.leaves(fixed)))
        return fixed, self._kept(fixed, batch)

    def _run(self, fixed, kept, batch, cores):
        parts = []
        for number, thread in enumerate(_threads(cores)):
            parts.append(thread.submit(self._part, fixed, kept, batch, number, cores))
            if batch.shape not in self._compiled:
                parts[0].result()  # or all threads would compile it
                self._compiled.add(batch.shape)
        found = [part.result() for part in parts]
        for part in found:
            _waiting().submit(part.block_until_ready)
        return jnp.concatenate(found)


def _kept(fn, fixed, batch):
    with frozen.recorded() as kept:
        fn(fixed, batch[: len(batch) // onednn.cores()])
    return kept


def _part(fn, fixed, kept, batch, number, cores):
    own = batch.reshape(cores, -1, *batch.shape[1:])[number]
    with frozen.replayed(kept):
        return fn(fixed, own)


def _require_independent(jaxpr, first: int) -> None:
    """That none of the results depends on the inputs behind the first so many."""
    others = set(jaxpr.jaxpr.invars[first:])
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in others for v in equation.invars):
            others.update(equation.outvars)
    if others.intersection(jaxpr.jaxpr.outvars):
        raise ValueError("what is kept of the weights depends on the batch")


@functools.cache
def _threads(cores: int) -> list[concurrent.futures.Executor]:
    """A thread each: what one thread gives JAX to do is done one after the other."""
    return [concurrent.futures.ThreadPoolExecutor(1, f"core{n}") for n in range(cores)]


@functools.cache
def _waiting() -> concurrent.futures.Executor:
    """Waits for what runs, which Python then does as well before it ends."""
    return concurrent.futures.ThreadPoolExecutor(1, "waiting")
