"""Devices: the only file that knows how many there are and how steps are spread over them.

It offers data parallelism in two ways, which give the same numbers, except for random ones. `jit`,
the default, runs one program over a mesh with the batch sharded, so sums over the batch are global.
`pmap` runs one program on each device, which sees its part of the batch; `sum` and synchronised
batch statistics make results global, and `key` draws different numbers for each part.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tl_jax import ops
from tl_jax.errors import UserError, takes_whole, unknown

AXIS = "data"
MAX_BATCH = 2**31 - 1
WAYS = ("jit", "pmap")
STRIDE = 16  # steps: of a second each, still within the half minute that schedulers allow


@dataclasses.dataclass(frozen=True)
class Parallel:
    """A way to spread batches over all devices."""

    way: str = "jit"

    def __post_init__(self):
        if self.way not in WAYS:
            raise unknown("parallel", self.way, WAYS)

    @property
    def count(self) -> int:
        """Number of devices."""
        return jax.device_count()

    def batch_size(self, wanted: int, examples: int) -> int:
        """Return the batch size: at most `wanted` and `examples`, and a multiple of the devices."""
        takes_whole(wanted, "batch_size=", 1, MAX_BATCH)
        size = min(wanted, examples) // self.count * self.count
        if wanted % self.count or size < 1:
            raise UserError(
                f"batch_size {wanted} for {examples} examples cannot be shared by {self.count} "
                f"devices: take a multiple of {self.count} that is at most {examples}"
            )
        return size

    def sum(self, tree: Any) -> Any:
        """Inside a step, turn sums over the local batch into sums over the whole batch."""
        return jax.lax.psum(tree, AXIS) if self.way == "pmap" else tree

    def key(self, key: jax.Array) -> jax.Array:
        """Inside a step, return the key for the local batch: each device has its own."""
        return jax.random.fold_in(key, jax.lax.axis_index(AXIS)) if self.way == "pmap" else key

    def place(self, tree: Any) -> Any:
        """Copy host arrays, whole, to every device."""
        return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))

    def share(self, batch: Any) -> Any:
        """Spread a batch (B, ...) of host arrays over the devices, a part on each."""
        if self.way == "pmap":
            return jax.tree.map(lambda a: a.reshape(self.count, -1, *a.shape[1:]), batch)
        return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec(AXIS)))

    def share_columns(self, order: Any) -> Any:
        """Host arrays (S, B) onto the devices, some columns each: the `order` of resident steps."""
        return jax.device_put(order, NamedSharding(mesh(), PartitionSpec(None, AXIS)))

    def step(self, fn: Callable) -> jax.stages.Wrapped:
        """Compile `fn(state, fixed, batch) -> state`, which reuses the old state's memory."""
        if self.way == "pmap":
            return jax.pmap(_synchronised(fn), AXIS, in_axes=(None, None, 0), out_axes=None)
        whole, parts = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (AXIS,)))
        return jax.jit(
            fn, in_shardings=(whole, whole, parts), out_shardings=whole, donate_argnums=0
        )

    @property
    def resident(self) -> bool:
        """Whether programs can take their batches from arrays on the device."""
        return self.way == "jit"

    def resident_steps(self, fn: Callable) -> jax.stages.Wrapped:
        """Compile `fn(state, fixed, data, order, first, last) -> state`, as `step` does.

        `data` is whole on every device; `order` is a tree of (S, B), and each device takes its part
        of the columns.
        """
        whole, columns = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (None, AXIS)))
        return jax.jit(
            fn,
            in_shardings=(whole, whole, whole, columns, whole, whole),
            out_shardings=whole,
            donate_argnums=0,
        )

    def resident_map(self, fn: Callable) -> Callable:
        """Compile `fn(fixed, data, order) -> (S, B, ...)`, as `resident_steps` does."""
        whole, columns = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (None, AXIS)))
        return jax.jit(fn, in_shardings=(whole, whole, columns), out_shardings=columns)

    def map(self, fn: Callable) -> Callable[[Any], Callable[[Any], jax.Array]]:
        """Compile `fn(fixed, batch) -> (B, ...)` for inference.

        Return a function that takes `fixed` and returns a function of a batch from `share`;
        `gathered` copies its result to the host.
        """
        if self.way == "pmap":
            mapped = jax.pmap(_synchronised(fn), AXIS, in_axes=(None, 0))
            return functools.partial(functools.partial, mapped)
        whole, parts = (NamedSharding(mesh(), PartitionSpec(*a)) for a in ((), (AXIS,)))
        return ops.inference(fn, in_shardings=(whole, parts), out_shardings=parts).of

    def gathered(self, out: jax.Array) -> np.ndarray:
        """Wait for the result of a mapped function, and return it on the host: (B, ...)."""
        whole = np.asarray(out)
        return whole.reshape(-1, *whole.shape[2:]) if self.way == "pmap" else whole


def agreed(wish: int) -> int:
    """The greatest of all processes' wishes, the same on each; 0 and False wish for nothing.

    One process gets its own back. Each of several must ask after the same steps: it waits for the
    others there, and a device for what was started before.
    """
    if jax.process_count() == 1:
        return wish
    return int(np.max(multihost_utils.process_allgather(np.int32(wish))))


def stride() -> int:
    """After how many steps, batch by batch, all processes ask each other: save? stop?"""
    return 1 if jax.process_count() == 1 else STRIDE


@functools.cache
def mesh() -> jax.sharding.Mesh:
    """Return the mesh of all devices in one row."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def _synchronised(fn: Callable) -> Callable:
    @functools.wraps(fn)
    def wrapped(*args):
        with ops.synchronised(AXIS):
            return fn(*args)

    return wrapped
