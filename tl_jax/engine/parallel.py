"""Devices: the only file that knows how many there are and how a step is spread over them.

Data parallel in two ways that give the same numbers, but for random ones. `jit` (the rule): one
program over a mesh, the batch sharded, so sums over the batch are global by themselves. `pmap`: one
program a device, which sees its part of the batch; `sum` and the synchronised batch statistics make
it global, and `key` draws otherwise for each part.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tl_jax import ops
from tl_jax.errors import UserError, takes_whole, unknown

AXIS = "data"
MAX_BATCH = 2**31 - 1
WAYS = ("jit", "pmap")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """A way of spreading batches over all local devices."""

    way: str = "jit"

    def __post_init__(self):
        if self.way not in WAYS:
            raise unknown("parallel", self.way, WAYS)

    @property
    def count(self) -> int:
        """Number of devices."""
        return jax.device_count()

    def batch_size(self, wanted: int, examples: int) -> int:
        """The batch for `examples` examples: at most as wanted, and a multiple of the devices."""
        takes_whole(wanted, "batch_size=", 1, MAX_BATCH)
        size = min(wanted, examples) // self.count * self.count
        if wanted % self.count or size < 1:
            raise UserError(
                f"batch_size {wanted} for {examples} examples cannot be shared by {self.count} "
                f"devices: take a multiple of {self.count} that is no larger than the examples"
            )
        return size

    def sum(self, tree: Any) -> Any:
        """Inside a step: sums over the local batch become sums over the whole batch."""
        return jax.lax.psum(tree, AXIS) if self.way == "pmap" else tree

    def key(self, key: jax.Array) -> jax.Array:
        """Inside a step: the key to draw for the local batch, so another on each device."""
        return jax.random.fold_in(key, jax.lax.axis_index(AXIS)) if self.way == "pmap" else key

    def place(self, tree: Any) -> Any:
        """Host arrays onto every device, whole."""
        return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))

    def share(self, batch: Any) -> Any:
        """A batch (B, ...) of host arrays onto the devices, a part each."""
        if self.way == "pmap":
            return jax.tree.map(lambda a: a.reshape(self.count, -1, *a.shape[1:]), batch)
        return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec(AXIS)))

    def step(self, fn: Callable) -> jax.stages.Wrapped:
        """`fn(state, fixed, batch) -> state`, jitted; the old state's memory is reused."""
        if self.way == "pmap":
            return jax.pmap(_synchronised(fn), AXIS, in_axes=(None, None, 0), out_axes=None)
        whole, parts = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (AXIS,)))
        return jax.jit(
            fn, in_shardings=(whole, whole, parts), out_shardings=whole, donate_argnums=0
        )

    @property
    def resident(self) -> bool:
        """Whether there are programs that take their batches from arrays on the device."""
        return self.way == "jit"

    def resident_steps(self, fn: Callable) -> jax.stages.Wrapped:
        """`fn(state, fixed, data, order, first, last) -> state`, jitted as a step is.

        `data` is whole on every device; each device takes its part of the columns of `order`, a
        tree of (S, B).
        """
        whole, columns = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (None, AXIS)))
        return jax.jit(
            fn,
            in_shardings=(whole, whole, whole, columns, whole, whole),
            out_shardings=whole,
            donate_argnums=0,
        )

    def resident_map(self, fn: Callable) -> Callable:
        """`fn(fixed, data, order (S, B)) -> (S, B, ...)`, jitted; `data` and `order` as there."""
        whole, columns = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (None, AXIS)))
        return jax.jit(fn, in_shardings=(whole, whole, columns), out_shardings=columns)

    def map(self, fn: Callable) -> Callable[[Any], Callable[[Any], jax.Array]]:
        """`fn(fixed, batch) -> (B, ...)`, jitted, for inference: of `fixed` the function of a
        shared batch; `gathered` gets back what that gives.
        """
        if self.way == "pmap":
            mapped = jax.pmap(_synchronised(fn), AXIS, in_axes=(None, 0))
            return functools.partial(functools.partial, mapped)
        whole, parts = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (AXIS,)))
        return ops.inference(fn, in_shardings=(whole, parts), out_shardings=parts).of

    def gathered(self, out: jax.Array) -> np.ndarray:
        """What a mapped function gave, (B, ...) on the host; waits until it is there."""
        whole = np.asarray(out)
        return whole.reshape(-1, *whole.shape[2:]) if self.way == "pmap" else whole


@functools.cache
def mesh() -> jax.sharding.Mesh:
    """All devices in one row."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def _synchronised(fn: Callable) -> Callable:
    @functools.wraps(fn)
    def wrapped(*args):
        with ops.synchronised(AXIS):
            return fn(*args)

    return wrapped
