"""Devices: the only file that knows how many there are and how steps are spread over them.

It offers data parallelism in three ways, which give the same numbers, except for random ones.
`jit`, the default, runs one program over a mesh with the batch sharded, so sums over the batch are
global. `fsdp` does so too, and spreads every array of the state as well, for networks that do not
fit a device: each holds a part, and gathers a layer's weights when it needs them ("ZeRO",
Rajbhandari et al. 2019, arXiv:1910.02054, stage 3).
`pmap` runs one program on each device, which sees its part of the batch; `sum` and synchronised
batch statistics make results global, and `key` draws different numbers for each part.

The devices may belong to several processes (`processes`). Then each reads the rows of a batch that
lie on its own devices, and gets results whole.
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
from tl_jax.engine import processes
from tl_jax.errors import UserError, takes_whole, unknown

AXIS = "data"
MAX_BATCH = 2**31 - 1
WAYS = ("jit", "pmap", "fsdp")


@dataclasses.dataclass(frozen=True)
class Parallel:
    """A way to spread batches over all devices, or over those of this process."""

    way: str = "jit"
    own: bool = False  # this process's devices alone, for work that others do not share

    def __post_init__(self):
        if self.way not in WAYS:
            raise unknown("parallel", self.way, WAYS)
        if self.way != "jit" and processes.several():
            raise UserError(f"parallel={self.way} runs in one process: take parallel=jit")

    @property
    def count(self) -> int:
        """Number of devices."""
        return mesh(self.own).size

    @property
    def alone(self) -> "Parallel":
        """The same over the devices of this process, for work that it does by itself."""
        return dataclasses.replace(self, own=True) if processes.several() else self

    def rows(self, size: int) -> slice:
        """Which rows of a batch of `size` this process reads: those that lie on its devices."""
        if not processes.several() or self.own:
            return slice(None)
        parts = self._sharding(AXIS).addressable_devices_indices_map((size,)).values()
        ranges = [range(size)[part[0]] for part in parts if part]
        return slice(min(r.start for r in ranges), max(r.stop for r in ranges))

    def _sharding(self, *axes: str | None) -> NamedSharding:
        return NamedSharding(mesh(self.own), PartitionSpec(*axes))

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
        """Copy host arrays, whole, to every device; by `fsdp` a part of each."""
        if self.way == "fsdp":
            return jax.tree.map(lambda leaf: self._put(leaf, self._split(leaf)), tree)
        return self._put(tree, self._sharding())

    def _split(self, leaf: Any) -> NamedSharding:
        """Return how `fsdp` spreads an array: along its longest axis that the devices divide."""
        shape = np.shape(leaf)
        fit = [axis for axis, side in enumerate(shape) if side and side % self.count == 0]
        if not fit:
            return self._sharding()
        longest = max(fit, key=lambda axis: shape[axis])
        return self._sharding(*(AXIS if axis == longest else None for axis in range(len(shape))))

    def share(self, batch: Any) -> Any:
        """Spread a batch (B, ...) of host arrays over the devices, a part on each.

        A process gives its `rows` of the batch.
        """
        if not self.own:
            processes.arrive()
        if self.way == "pmap":
            return jax.tree.map(lambda a: a.reshape(self.count, -1, *a.shape[1:]), batch)
        sharding = self._sharding(AXIS)
        if sharding.is_fully_addressable:
            return jax.device_put(batch, sharding)

        def spread(part: np.ndarray) -> jax.Array:
            size = len(part) * self.count // jax.local_device_count()
            shape = size, *part.shape[1:]
            return jax.make_array_from_process_local_data(sharding, np.asarray(part), shape)

        return jax.tree.map(spread, batch)

    def share_columns(self, order: Any) -> Any:
        """Host arrays (S, B) onto the devices, some columns each: the `order` of resident steps."""
        return self._put(order, self._sharding(None, AXIS))

    def _put(self, tree: Any, sharding: NamedSharding) -> Any:
        """Put arrays that every process has whole on the devices, of which each fills its own."""
        if sharding.is_fully_addressable:
            return jax.device_put(tree, sharding)

        def put(leaf: Any) -> jax.Array:
            if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
                return leaf
            # Not by device_put, which has the processes compare their arrays, one by one.
            whole = np.asarray(leaf)
            return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

        return jax.tree.map(put, tree)

    def step(self, fn: Callable) -> jax.stages.Wrapped:
        """Compile `fn(state, fixed, batch) -> state`, which reuses the old state's memory."""
        if self.way == "pmap":
            return jax.pmap(_synchronised(fn), AXIS, in_axes=(None, None, 0), out_axes=None)
        whole, parts = self._sharding(), self._sharding(AXIS)
        if self.way == "fsdp":

            def spread(*args: Any) -> Any:
                return jax.tree.map(
                    lambda a: jax.lax.with_sharding_constraint(a, self._split(a)), fn(*args)
                )

            return jax.jit(spread, in_shardings=(None, None, parts), donate_argnums=0)
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
        whole, columns = self._sharding(), self._sharding(None, AXIS)
        return jax.jit(
            fn,
            in_shardings=(whole, whole, whole, columns, whole, whole),
            out_shardings=whole,
            donate_argnums=0,
        )

    def resident_map(self, fn: Callable) -> Callable:
        """Compile `fn(fixed, data, order) -> (S, B, ...)`, as `resident_steps` does."""
        whole, columns = self._sharding(), self._sharding(None, AXIS)
        return jax.jit(fn, in_shardings=(whole, whole, columns), out_shardings=columns)

    def map(self, fn: Callable) -> Callable[[Any], Callable[[Any], jax.Array]]:
        """Compile `fn(fixed, batch) -> (B, ...)` for inference.

        Return a function that takes `fixed` and returns a function of a batch from `share`;
        `gathered` copies its result to the host.
        """
        if self.way == "pmap":
            mapped = jax.pmap(_synchronised(fn), AXIS, in_axes=(None, 0))
            return functools.partial(functools.partial, mapped)
        parts = self._sharding(AXIS)
        whole = None if self.way == "fsdp" else self._sharding()  # None: as it was placed
        return ops.inference(fn, in_shardings=(whole, parts), out_shardings=parts).of

    def gathered(self, out: jax.Array) -> np.ndarray:
        """Wait for the result of a mapped function, and return it on the host: (B, ...)."""
        if not out.is_fully_addressable:
            return multihost_utils.process_allgather(out, tiled=True)
        whole = np.asarray(out)
        return whole.reshape(-1, *whole.shape[2:]) if self.way == "pmap" else whole


@functools.cache
def mesh(own: bool = False) -> jax.sharding.Mesh:
    """Return the mesh of all devices in one row, or of this process's `own`.

    UserError if JAX has several processes that `processes.start` did not join.
    """
    if jax.process_count() == 1:
        return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
    if not processes.several():
        raise UserError(
            "JAX runs in several processes, which do not know each other: start them by "
            "--processes=, or by tl_jax.engine.processes.start"
        )
    devices = jax.local_devices() if own else jax.devices()
    row = sorted(devices, key=lambda d: (d.process_index, d.id))  # a process's rows are neighbours
    return jax.sharding.Mesh(np.array(row), (AXIS,), axis_types=(AxisType.Auto,))


def _synchronised(fn: Callable) -> Callable:
    @functools.wraps(fn)
    def wrapped(*args):
        with ops.synchronised(AXIS):
            return fn(*args)

    return wrapped
