"""The frozen-prefix engine: what does not change is computed once and kept on disk.

A phase reads either a task's raw inputs, or the stored output of a frozen layer, for each example
in each stored view. All are read in the same way, so a phase does not know which it trains on.
"""

import concurrent.futures
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops, progress
from tl_jax.chain import code, programs
from tl_jax.chain.network import Net, Network
from tl_jax.chain.places import IMAGE, Known, Layer
from tl_jax.chain.variables import fingerprint, select
from tl_jax.data import views
from tl_jax.data.expects import Expected
from tl_jax.data.loader import Read
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.data.task import Task
from tl_jax.engine import store
from tl_jax.engine.parallel import Parallel
from tl_jax.engine.store import Store
from tl_jax.errors import UserError, unknown

VERSION = 2  # of what is stored: to be raised when the same key would mean other numbers
DTYPES = ("float32", "float16", "bfloat16")
PRECISIONS = ("float32", "bfloat16")  # in which layers compute
RESIDENT = 2**28  # bytes of stored vectors that are put on the device for a phase


def require_dtype(dtype: str) -> None:
    """UserError, with the near miss, for a type in which outputs are not stored."""
    if dtype not in DTYPES:
        raise unknown("cache_dtype", dtype, DTYPES)


def require_precision(precision: str) -> None:
    """UserError, with the near miss, for a precision in which frozen layers do not compute, and for
    one in which this machine would be slower.
    """
    if precision not in PRECISIONS:
        raise unknown("cache_precision", precision, PRECISIONS)
    if precision == "bfloat16" and not ops.fast_in_bfloat16():
        raise UserError(
            "cache_precision=bfloat16 is for accelerators and CPUs with AVX-512 BF16 or AMX, as "
            "one device and by oneDNN (extra onednn): take cache_precision=float32"
        )


class Inputs(NamedTuple):
    """Where a phase's inputs come from: `read(examples (B,), views (B,))` gives images, uint8, or
    the stored output of a layer, (B, ...); `known` gives these and all other inputs.
    """

    read: Read | None  # None for a task without images of which nothing is stored
    start: str | None  # the layer whose output `read` gives; None: pixels, uint8
    key: str  # what they are a function of, hashed
    preprocessing: Expected | None  # that made the pixels
    nbytes: int = 0  # on disk
    stored: np.ndarray | None = None  # the rows (R, ...) of which `read` gives some, if so stored
    row: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None  # examples, views -> rows
    resident: jax.Array | None = None  # the same rows on the device
    arrays: Mapping[str, np.ndarray] = {}  # inputs that are arrays, (N, ...) each
    others: Mapping[str, Any] = {}  # of a phase with several sources, the inputs of each by name

    @property
    def place(self) -> str:
        """The place of what `read` gives."""
        return self.start or IMAGE

    @property
    def names(self) -> list[str]:
        """The places that are known."""
        of_rows = self.read is not None or self.start is not None
        return [*self.arrays, *([self.place] if of_rows else [])]

    def known(self, examples: np.ndarray, views: np.ndarray) -> Known:
        """Values by place, (B, ...) each, of so many examples in their views."""
        given = {name: array[examples] for name, array in self.arrays.items()}
        if self.read is not None:
            given[self.place] = self.read(examples, views)
        return Known(given)

    def rows_of(self, examples: np.ndarray, views: np.ndarray) -> np.ndarray:
        """The numbers of the stored rows that `read` gives of examples in their views."""
        if self.row is None:
            raise ValueError("nothing is stored of these inputs")
        return self.row(examples, views)

    def images(self, examples: np.ndarray) -> np.ndarray:
        """What `read` gives of examples in view 0; UserError for a task without images."""
        if self.read is None:
            raise UserError("the task has no images")
        return self.read(examples, np.zeros_like(examples))

    def described(self) -> dict[str, Any]:
        """What a report says of them."""
        return {"prefix": self.start, "cached_bytes": self.nbytes, "cache_key": self.key}


def prepared(preprocessing: Expected | None, precision: Any, place: str, value: Any) -> Any:
    """What layers read of a known value: normalised pixels; numbers in the precision."""
    if place == IMAGE and preprocessing is not None:
        value = preprocessing.normalise(value)

    def cast(a: Any) -> Any:
        return a.astype(precision) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.tree.map(cast, value)


def decoded(task: Task, preprocessing: Expected | None) -> Inputs:
    """Every image decoded whenever it is asked for: (B, S, S, C) uint8; and the other inputs."""
    if task.open is None:
        return Inputs(None, None, cache_key(task.fingerprint), preprocessing, arrays=task.arrays)
    if not isinstance(preprocessing, Preprocessing):
        raise UserError(f"the task {task.name!r} has images, but the base says nothing of theirs")

    fit = functools.partial(_fit, task, preprocessing)

    def read(examples: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        images = map(fit, examples)
        return np.stack([views.view(i, v) for i, v in zip(images, numbers, strict=True)])

    key = cache_key(task.fingerprint, preprocessing.fingerprint())
    return Inputs(read, None, key, preprocessing, arrays=task.arrays)


def pixels_store(task: Task, preprocessing: Preprocessing, *, cache: pathlib.Path) -> Store:
    """Where `pixels` keeps the decoded images; UserError for a task without images."""
    if task.open is None:
        raise UserError("the task has no images")
    key = cache_key("pixels", task.fingerprint, preprocessing.fingerprint())
    shape = (len(task.ids), preprocessing.size, preprocessing.size, task.channels)
    return Store(cache / key, shape, np.uint8, "decoded images")


def to_come(
    task: Task, preprocessing: Expected | None, *, cache: pathlib.Path
) -> tuple[Inputs, tuple[store.Need, ...]]:
    """The inputs that `pixels` gives, as far as their key and names go, and what it will write."""
    inputs = decoded(task, preprocessing)
    if task.open is None or not isinstance(preprocessing, Preprocessing):
        return inputs, ()
    kept = pixels_store(task, preprocessing, cache=cache)
    return inputs._replace(key=kept.folder.name), (kept.need(),)


def pixels(task: Task, preprocessing: Expected | None, *, cache: pathlib.Path) -> Inputs:
    """Every image decoded once and kept: (B, S, S, C) uint8; views are made as they are read."""
    if task.open is None or not isinstance(preprocessing, Preprocessing):
        return decoded(task, preprocessing)
    kept = pixels_store(task, preprocessing, cache=cache)
    with concurrent.futures.ThreadPoolExecutor() as pool:

        def compute(first: int, last: int) -> np.ndarray:
            fit = functools.partial(_fit, task, preprocessing)
            return np.stack(list(pool.map(fit, range(first, last))))

        rows = store.build(kept, compute, progress=bar("decode"))

    def read(examples: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        images = store.take(rows, examples)
        return np.stack([views.view(i, v) for i, v in zip(images, numbers, strict=True)])

    return Inputs(read, None, kept.folder.name, preprocessing, rows.nbytes, arrays=task.arrays)


def features_store(
    chain: Network,
    variables: Any,
    below: Inputs,
    stop: str,
    shape: tuple[int, ...],
    *,
    examples: int,
    stored_views: tuple[int, ...],
    cache: pathlib.Path,
    dtype: str,
    precision: str = "float32",
) -> Store:
    """Where `features` keeps the output of `stop`, which has `shape` for one example.

    Of `below` only the key and the names of its values count (`above`).
    """
    layers = chain.path(below.names, [stop])
    outputs = *outputs_of(chain, variables, layers), *computed_in(precision)
    key = cache_key("features", below.key, *outputs, repr(stored_views), dtype)
    return Store(cache / key, (examples * len(stored_views), *shape), dtype, f"output of {stop}")


def computed_in(precision: str) -> tuple[str, ...]:
    """What a key says of the layers' precision: nothing of float32, the only one for long."""
    return () if precision == "float32" else (precision,)


def outputs_of(chain: Network, variables: Any, layers: Sequence[Layer]) -> tuple[str, str]:
    """What the layers' outputs are a function of, besides what they read: code and weights.

    UserError for layers that hold what has no name: see `tl_jax.chain.code`.
    """
    names = [layer.name for layer in layers]
    used = select(variables, chain.weights(names))
    own = select({**used, "params": chain.combine(used["params"])}, names)
    return code.told(layers), fingerprint(own)


def features(
    chain: Network,
    variables: Any,
    below: Inputs,
    stop: str,
    *,
    examples: int,
    stored_views: tuple[int, ...],
    parallel: Parallel,
    cache: pathlib.Path,
    dtype: str,
    precision: str = "float32",
) -> Inputs:
    """The output of the layer `stop` for every example in every view, run once, kept on disk.

    `below` is what it is computed from: pixels, or the stored output of a lower layer. Computed in
    `precision`, with the weights in float32, and kept as `dtype`; rows are ordered view by view, in
    the order of `stored_views`, which ascend.
    """

    def needed(known: Known) -> Known:
        return Known({name: value for name, value in known.items() if name in chain.below[stop]})

    one = below.known(np.zeros(1, int), np.zeros(1, int))
    names = [layer.name for layer in chain.path(one, [stop])]
    used = select(variables, chain.weights(names))
    program = chain, below.preprocessing, precision, stop
    shape = jax.eval_shape(functools.partial(_forward, *program), used, needed(one)).shape[1:]
    of = {"examples": examples, "stored_views": stored_views, "cache": cache, "dtype": dtype}
    kept = features_store(chain, variables, below, stop, shape, **of, precision=precision)

    parallel = parallel.alone  # each of several processes computes a part of the rows
    run = _mapped(*program, parallel)(parallel.place(used))
    batch = -(-store.BLOCK // parallel.count) * parallel.count
    numbers = np.repeat(stored_views, examples)

    def compute(first: int, last: int) -> np.ndarray:
        rows = np.arange(first, first + batch) % len(numbers)
        batch_in = parallel.share(needed(below.known(rows % examples, numbers[rows])))
        out = parallel.gathered(run(batch_in))[: last - first]
        with np.errstate(over="ignore"):  # said better below
            found = out.astype(dtype)
        if not np.isfinite(found).all():
            raise UserError(
                f"the output of layer {stop!r} does not fit {dtype}: take cache_dtype=float32"
            )
        return found

    rows = store.build(kept, compute, progress=bar(kept.what))

    def row(numbers: np.ndarray, views: np.ndarray) -> np.ndarray:
        return np.searchsorted(stored_views, views) * examples + numbers

    def read(numbers: np.ndarray, views: np.ndarray) -> np.ndarray:
        return store.take(rows, row(numbers, views))

    stored = {"read": read, "nbytes": rows.nbytes, "stored": rows, "row": row}
    return above(chain, below, stop, kept.folder.name)._replace(**stored)


def above(chain: Network, below: Inputs, stop: str, key: str) -> Inputs:
    """The inputs of what begins at `stop` and not `below`: names and key, not yet how to read."""
    others = {n: a for n, a in below.arrays.items() if n not in chain.below[stop]}
    return Inputs(below.read, stop, key, below.preprocessing, arrays=others)


def _forward(network, preprocessing, precision, stop, variables, known):
    params, stats = network.combine(variables["params"]), variables["batch_stats"]
    prepare = functools.partial(prepared, preprocessing, precision)
    return Net(network, params, stats, prepare=prepare)(known, stop)


@functools.lru_cache(maxsize=programs.KEPT)  # another run's frozen layers need no new program
def _mapped(network, preprocessing, precision, stop, parallel) -> Callable:
    return parallel.map(functools.partial(_forward, network, preprocessing, precision, stop))


def on_device(inputs: Inputs, parallel: Parallel) -> Inputs:
    """The inputs, with their rows on the device if they are stored vectors (R, D) and few enough.

    Vectors only: what is trained above them is dense, and quick enough for the way to the device
    and back to matter. XLA's CPU backend runs convolutions at half the speed inside a loop.
    """
    rows = inputs.stored
    if rows is None or rows.ndim != 2 or rows.nbytes > RESIDENT or not parallel.resident:
        return inputs
    return inputs._replace(resident=parallel.place(store.take(rows, np.arange(len(rows)))))


def _fit(task: Task, preprocessing: Preprocessing, example: int) -> np.ndarray:
    image = preprocessing.fit(task.image(int(example)))
    return np.broadcast_to(image, (*image.shape[:2], task.channels))


def cache_key(*parts: str) -> str:
    """A folder's name for what is a function of the parts alone."""
    return hashlib.sha256(json.dumps([VERSION, *parts]).encode()).hexdigest()[:24]


def bar(what: str) -> Callable:
    """A progress bar over the blocks of `store.build`."""
    return lambda blocks, total: progress.over(blocks, what, total=total, unit="blocks")
