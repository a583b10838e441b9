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
import numpy as np
from jax.extend.core import Literal

from tl_jax.ops.cpu import frozen, onednn


class Divided:
    """`fn(fixed, batch (B, ...)) -> (B, ...)`, jitted; on a CPU with oneDNN a part for each core.

    For inference alone: `fn` is to treat each example as if it were the only one. A batch that the
    cores cannot share equally, or that is being traced, stays whole.
    """

    def __init__(self, fn: Callable[[Any, jax.Array], jax.Array], **shardings: Any):
        self.whole = jax.jit(fn, **shardings)
        self._kept = jax.jit(functools.partial(_kept, fn))
        self._part = jax.jit(functools.partial(_part, fn))
        self._compiled: set[Any] = set()  # shapes and types of parts

    def __call__(self, fixed: Any, batch: Any) -> jax.Array:
        return self.of(fixed)(batch)

    def of(self, fixed: Any) -> Callable[[Any], jax.Array]:
        """The function of the batch alone; what is kept of `fixed` is made for the first batch."""
        cores, made = onednn.cores(), {}

        def run(batch: Any) -> jax.Array:
            leaves, tree = jax.tree.flatten(batch)
            if isinstance(leaves[0], jax.core.Tracer) or cores == 1 or len(leaves[0]) % cores:
                return self.whole(fixed, batch)
            # Views of the batch's memory: a slice by JAX would be a copy.
            split = zip(*(np.split(np.asarray(leaf), cores) for leaf in leaves), strict=True)
            parts = [jax.device_put(tree.unflatten(part)) for part in split]
            key = tree, *((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(parts[0]))
            if key not in made:
                made[key] = self._made(fixed, parts[0])
            return self._run(*made[key], parts, first=key not in self._compiled)

        return run

    def _made(self, fixed: Any, part: jax.Array) -> tuple[Any, list[jax.Array]]:
        fixed = jax.device_put(fixed)
        traced = self._kept.trace(fixed, part)
        _require_independent(traced.jaxpr, len(jax.tree.leaves(fixed)))
        return fixed, self._kept(fixed, part)

    def _run(self, fixed: Any, kept: list[jax.Array], parts: list[jax.Array], *, first: bool):
        found = []
        for thread, part in zip(_threads(len(parts)), parts, strict=True):
            found.append(thread.submit(self._part, fixed, kept, part))
            if first:  # all threads at once would each compile it
                found[0].result()
        leaves, tree = jax.tree.flatten(parts[0])
        self._compiled.add((tree, *((leaf.shape, leaf.dtype) for leaf in leaves)))
        found = [part.result() for part in found]
        for part in found:
            _waiting().submit(jax.block_until_ready, part)
        return jax.tree.map(lambda *a: jnp.concatenate(a), *found)


def _kept(fn, fixed, part):
    with frozen.recorded() as kept:
        fn(fixed, part)
    return kept


def _part(fn, fixed, kept, part):
    with frozen.replayed(kept):
        return fn(fixed, part)


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
