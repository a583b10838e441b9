"""Inference on a part of the batch for each core of a CPU.

XLA's and oneDNN's threads wait for one another at the end of every operation. Single-core programs,
each with a part of the batch, wait for one another once, at the end.
"""

import concurrent.futures
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from tl_jax.ops.cpu import constants, onednn


class PerCore:
    """`fn(fixed, batch) -> result`, run by one program on each core.

    Batch and result are trees of arrays (B, ...). `fn` must process each example independently of
    the rest of the batch.
    """

    def __init__(self, fn: Callable[[Any, Any], Any]):
        self._precomputed = jax.jit(functools.partial(_precomputed, fn))
        self._part = jax.jit(functools.partial(_part, fn))
        self._compiled: set[Any] = set()  # structures, shapes and dtypes of batches

    def of(self, fixed: Any, whole: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a function of the batch alone.

        A batch that the cores cannot share equally, or that is being traced, goes to `whole`. The
        first batch triggers the computation of what depends on `fixed` alone.
        """
        cores, prepared = onednn.cores(), {}

        def run(batch: Any) -> Any:
            leaves, structure = jax.tree.flatten(batch)
            if cores == 1 or not _shared_equally(leaves, cores):
                return whole(batch)
            # NumPy's parts are views of the batch's memory; JAX's slices would be copies.
            shares = zip(*(np.split(np.asarray(leaf), cores) for leaf in leaves), strict=True)
            parts = jax.device_put([structure.unflatten(share) for share in shares])
            signature = structure, *((leaf.shape, leaf.dtype) for leaf in leaves)
            if signature not in prepared:
                prepared[signature] = self._prepared(fixed, parts[0])
            return self._run(*prepared[signature], parts=parts, signature=signature)

        return run

    def _prepared(self, fixed: Any, part: Any) -> tuple[Any, list[jax.Array]]:
        fixed = jax.device_put(fixed)
        traced = self._precomputed.trace(fixed, part)
        _require_independent(traced.jaxpr, len(jax.tree.leaves(fixed)))
        return fixed, self._precomputed(fixed, part)

    def _run(self, fixed: Any, values: list[jax.Array], parts: list[Any], signature: Any) -> Any:
        running = []
        for thread, part in zip(_threads(len(parts)), parts, strict=True):
            running.append(thread.submit(self._part, fixed, values, part))
            if signature not in self._compiled:  # otherwise each thread would compile it
                running[0].result()
        self._compiled.add(signature)
        results = [future.result() for future in running]
        for leaf in jax.tree.leaves(results):
            _waiting().submit(leaf.block_until_ready)
        return jax.tree.map(lambda *parts: jnp.concatenate(parts), *results)


def _shared_equally(leaves: list[Any], cores: int) -> bool:
    """Whether these are concrete arrays of one length, which the number of cores divides."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return False
    lengths = {len(leaf) for leaf in leaves}
    return len(lengths) == 1 and not lengths.pop() % cores


def _precomputed(fn, fixed, part):
    with constants.recording() as values:
        fn(fixed, part)
    return values


def _part(fn, fixed, values, part):
    with constants.replaying(values):
        return fn(fixed, part)


def _require_independent(jaxpr, first: int) -> None:
    """Raise ValueError if a result depends on any input after the `first` ones."""
    others = set(jaxpr.jaxpr.invars[first:])
    for equation in jaxpr.eqns:
        if any(not isinstance(v, Literal) and v in others for v in equation.invars):
            others.update(equation.outvars)
    if others.intersection(jaxpr.jaxpr.outvars):
        raise ValueError("a value that is computed once, from the weights, depends on the batch")


@functools.cache
def _threads(cores: int) -> list[concurrent.futures.Executor]:
    """Return one thread for each core: JAX runs a thread's programs one after the other."""
    return [concurrent.futures.ThreadPoolExecutor(1, f"core{n}") for n in range(cores)]


@functools.cache
def _waiting() -> concurrent.futures.Executor:
    """Return a thread that waits for computations in flight; at exit Python waits for it."""
    return concurrent.futures.ThreadPoolExecutor(1, "waiting")
