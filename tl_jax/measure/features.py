"""Features at every layer: one forward pass over a task, pooled and stored on disk."""

import functools
import math
import pathlib
import re
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import ops
from tl_jax.base.base import Base
from tl_jax.chain import programs
from tl_jax.chain.network import Network
from tl_jax.chain.places import IMAGE
from tl_jax.chain.variables import select
from tl_jax.data import views as sets
from tl_jax.data.expects import Expected
from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.engine import prefix, store
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError, takes
from tl_jax.ops import adaptive_avg_pool


class LayerFeatures(NamedTuple):
    """The features of a layer for the N examples of a task, in the task's order."""

    rows: np.ndarray  # (N, D) float32, mapped from disk; in several views (V, N, D)
    shape: tuple[int, ...]  # of the layer's output for one example: (H, W, C), (T, D) or (D,)
    pooled: tuple[int, ...]  # of that output after pooling, with D entries: (h, w, C) or (D,)


def of_layers(
    base: Base,
    task: Task,
    *,
    layers: Sequence[str] | None = None,
    pool: str = "mean",
    views: str = "none",
    cache: str | pathlib.Path | None,
    precision: str = "float32",
    parallel: Parallel | None = None,
) -> dict[str, LayerFeatures]:
    """Return the pooled outputs of layers (default: all below the classifier) in forward order.

    `pool`: see `pooled_shape`. `views`: a set of `data.views`, in whose order they come. All are
    computed in one pass, in `precision`, stored in the folder `cache` (empty or None: for as long
    as the rows are in use), and verified when opened. UserError for an unknown layer, rule, set or
    precision, for views of texts, and for features that are not finite, naming the layer and the
    example.
    """
    if not cache:
        how: dict[str, Any] = {"layers": layers, "pool": pool, "views": views}
        how |= {"precision": precision, "parallel": parallel}
        with tempfile.TemporaryDirectory() as folder:  # deleted under the maps, which stay readable
            return of_layers(base, task, cache=folder, **how)
    preprocessing, task = base.preprocessing.of_task(task)
    if task.texts and views != "none":
        raise UserError(f"views={views} are of images, and the task has texts")
    prefix.require_precision(precision)
    numbers, count = sets.numbers(views), len(task.ids)
    parallel, cache = (parallel or Parallel()).alone, path_of(cache)
    shapes = shapes_of(base, layers=layers, pool=pool)
    names = tuple(shapes)
    chain = base.chain.cut(names[-1])
    ends = np.cumsum([math.prod(pooled) for _, pooled in shapes.values()])

    used = select(base.variables, chain.names)
    below, needs = prefix.to_come(task, preprocessing, cache=cache)
    outputs = prefix.outputs_of(chain, used, chain.layers)
    rule = repr(names), pool, repr(numbers), *prefix.computed_in(precision)
    key = prefix.cache_key("layers", below.key, *outputs, *rule)
    what = f"features of {names[0] if len(names) == 1 else f'{len(names)} layers'}"
    stored = store.Store(cache / key, (count * len(numbers), int(ends[-1])), np.float32, what)
    store.require_room([*needs, stored.need()])
    below = prefix.pixels(task, preprocessing, cache=cache)
    run = _mapped(chain, preprocessing, precision, names, pool, parallel)(parallel.place(used))
    batch = -(-store.BLOCK // parallel.count) * parallel.count

    def compute(first: int, last: int) -> np.ndarray:
        rows = np.arange(first, first + batch) % stored.shape[0]
        known = below.known(rows % count, np.take(numbers, rows // count))
        found = parallel.gathered(run(parallel.share(known[chain.inputs[0]])))[: last - first]
        ids = [task.ids[row % count] for row in rows]
        _require_finite(found, dict(zip(names, ends, strict=True)), ids)
        return found

    rows = store.build(stored, compute, progress=prefix.bar(what))
    parts = zip(names, np.split(rows, ends[:-1], axis=1), strict=True)
    by_view = (len(numbers),) * (len(numbers) > 1)
    return {n: LayerFeatures(p.reshape(*by_view, count, -1), *shapes[n]) for n, p in parts}


def of_examples(
    base: Base,
    task: Task,
    examples: np.ndarray,
    *,
    layers: Sequence[str],
    cache: str | pathlib.Path | None,
) -> dict[str, np.ndarray]:
    """Return the outputs of layers for some examples, averaged over space or tokens: (n, D) each.

    They are not stored; decoded images are, in the folder `cache`, if one is given.
    """
    preprocessing, task = base.preprocessing.of_task(task)
    shapes = shapes_of(base, layers=layers)
    chain, parallel = base.chain.cut(tuple(shapes)[-1]), Parallel()
    if cache:
        below = prefix.pixels(task, preprocessing, cache=path_of(cache))
    else:
        below = prefix.decoded(task, preprocessing)
    run = _mapped(chain, preprocessing, "float32", tuple(shapes), "mean", parallel)
    run = run(parallel.place(select(base.variables, chain.names)))
    batch, found = -(-store.BLOCK // parallel.count) * parallel.count, []
    for first in range(0, len(examples), batch):
        rows = examples[np.arange(first, first + batch) % len(examples)]
        known = below.known(rows, np.zeros_like(rows))
        found.append(parallel.gathered(run(parallel.share(known[chain.inputs[0]]))))
    ends = np.cumsum([math.prod(pooled) for _, pooled in shapes.values()])
    parts = np.split(np.concatenate(found)[: len(examples)], ends[:-1], axis=1)
    return dict(zip(shapes, parts, strict=True))


def shapes_of(
    base: Base, *, layers: Sequence[str] | None = None, pool: str = "mean"
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the shapes of the layers' outputs for one image, and the pooled shapes, by name.

    Layers are in forward order. Needs no weights. UserError for an unknown layer or rule.
    """
    if layers is not None:
        names = () if isinstance(layers, str) else layers
        takes(len(names) > 0, "layers=", "a list of one or more", layers)
    chain = base.chain
    below_classifier = base.layers[: chain.index(base.bottleneck) + 1]
    chosen = {chain.index(name) for name in (below_classifier if layers is None else layers)}
    names = [base.layers[index] for index in sorted(chosen)]
    outputs = chain.cut(names[-1]).shapes(base.preprocessing.example)[1]
    names = [name for name in names if hasattr(outputs[name], "shape")]  # a first state is empty
    shapes = {name: outputs[name].shape[1:] for name in names}
    return {name: (shape, pooled_shape(shape, pool)) for name, shape in shapes.items()}


def pooled_shape(shape: tuple[int, ...], pool: str) -> tuple[int, ...]:
    """Return the shape that the rule `pool` gives an output of `shape`, (H, W, C) or (D,).

    `mean`: the global average, (1, 1, C). `adaptive:9000`: adaptive average pooling to the largest
    square of at most so many features (Goyal et al. 2019, arXiv:1905.01235, which take about 9000).
    Of tokens (T, D) it is the mean, (D,). Vectors stay as they are.
    """
    adaptive = re.fullmatch(r"adaptive:(\d+)", str(pool))
    if pool != "mean" and not adaptive:
        raise UserError(f"pool is mean or adaptive:<most features>, as adaptive:9000; got {pool!r}")
    if len(shape) < 3:
        return shape[-1:]
    height, width, channels = shape
    side = math.isqrt(int(adaptive[1]) // channels) if adaptive else 1
    side = max(1, min(side, height, width))
    return (side, side, channels)


def _forward(
    chain: Network,
    preprocessing: Expected,
    precision: str,
    names: tuple[str, ...],
    pool: str,
    variables: Any,
    images: jax.Array,
) -> jax.Array:
    x = prefix.prepared(preprocessing, precision, IMAGE, images)
    taps = chain.apply(variables, x, taps=names).taps
    pooled = []
    for name in names:
        x = taps[name].astype(jnp.float32)
        side = pooled_shape(x.shape[1:], pool)[0] if x.ndim == 4 else 1
        x = ops.mean_of_positions(x) if side == 1 else adaptive_avg_pool(x, side)
        pooled.append(x.reshape(len(x), -1))
    return jnp.concatenate(pooled, axis=1)


@functools.lru_cache(maxsize=programs.KEPT)
def _mapped(chain, preprocessing, precision, names, pool, parallel) -> Callable:
    return parallel.map(functools.partial(_forward, chain, preprocessing, precision, names, pool))


def _require_finite(rows: np.ndarray, ends: dict[str, int], ids: Sequence[str]) -> None:
    wrong = np.argwhere(~np.isfinite(rows))
    if len(wrong):
        row, column = wrong[wrong[:, 1].argmin()]  # the lowest layer, where it starts
        layer = next(name for name, end in ends.items() if column < end)
        where = f"layer {layer!r} are not finite for the example {ids[row]!r}"
        raise UserError(f"the features of {where}")
