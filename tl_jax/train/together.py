"""Many small runs at once: runs of equal shapes, in one compiled program, on all devices.

`together` applies a function of one run to a stack of them, such as `tl_jax.train.fit.fit`: a head,
or any suffix of a chain, trained on arrays in memory.

    runs = stacked([Run(head, seed, 1e-2, 0.0, examples, weights) for seed in range(16)])
    fitted = together(fit, runs, Data(features, targets), chain=chain, start="pool", epochs=100)
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from tl_jax.engine.parallel import AXIS, Parallel, mesh
from tl_jax.errors import UserError, unknown

WAYS = ("map", "vmap")


def together(
    train: Callable, runs: Any, shared: Any = (), *, way: str | None = None, **static: Any
) -> Any:
    """Return `train(run, shared, **static)` for all runs, stacked: a tree with leaves (R, ...).

    `runs` is a tree of arrays (R, ...); `shared` is a tree of arrays that all runs read. Each
    device takes its part of the runs one after the other (`map`) or in lock step (`vmap`). The
    default is `map` on CPUs, where lock step gains little, loses much if the runs' numbers of steps
    differ, and changes the last bits; elsewhere it is `vmap`. The program is compiled once for the
    same `train`, shapes and `static`, which must be hashable: pass a function of a module, not a
    new lambda each time. UserError for an unknown way, no runs, or leaves that differ in R.
    """
    way = way or ("map" if jax.default_backend() == "cpu" else "vmap")
    if way not in WAYS:
        raise unknown("way", way, WAYS)
    count, parallel = _count(runs), Parallel()
    missing = -count % parallel.count

    def padded(leaf):
        return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], missing, 0)]) if missing else leaf

    runs = parallel.share(jax.tree.map(padded, runs))
    named = tuple(sorted(static.items()))
    done = _program(runs, parallel.place(shared), train=train, way=way, static=named)
    return jax.tree.map(lambda leaf: leaf[:count], done) if missing else done


def stacked(runs: Sequence[Any]) -> Any:
    """Stack R trees of arrays (...) into one of arrays (R, ...); UserError if shapes differ."""
    if not runs:
        raise UserError("there are no runs")
    first = _shapes(runs[0])
    for number, run in enumerate(runs):
        if _shapes(run) != first:
            raise UserError(
                f"runs must have the same shapes: {_shapes(run)} of run {number} is not {first}"
            )
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(a) for a in leaves]), *runs)


@functools.partial(jax.jit, static_argnames=("train", "way", "static"))
def _program(runs, shared, *, train, way, static):
    def here(runs, shared):
        one = functools.partial(train, **dict(static))
        if way == "vmap":
            return jax.vmap(one, in_axes=(0, None))(runs, shared)
        return jax.lax.map(lambda run: one(run, shared), runs)

    each, whole = PartitionSpec(AXIS), PartitionSpec()
    # Not left to the partitioner, which gathers the arrays that a loop over a sharded axis reads.
    # Unchecked, because the check wants a loop's constant first value declared as varying.
    return jax.shard_map(
        here, mesh=mesh(), in_specs=(each, whole), out_specs=each, check_vma=False
    )(runs, shared)


def _count(runs: Any) -> int:
    """Return R of leaves (R, ...)."""
    leaves = jax.tree_util.tree_leaves_with_path(runs)
    counts = {jax.tree_util.keystr(p): np.shape(leaf)[:1] for p, leaf in leaves}
    if not counts or (0,) in counts.values():
        raise UserError("there are no runs")
    (name, first), *others = counts.items()
    for other, count in others:
        if count != first:
            raise UserError(
                f"the first axis of every array must count the runs: "
                f"{first} of {name} is not {count} of {other}"
            )
    if first == ():
        raise UserError(f"{name or 'the only array'} of the runs is one number: stack the runs")
    return first[0]


def _shapes(run: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(run)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}
