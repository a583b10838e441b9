"""Many small trainings at once: runs of equal shapes, in one compiled program, on every device.

`together` applies a function of one run to a stack of them; `fit` is such a function: a head, or
any suffix of a chain, trained on arrays in memory.

    runs = stacked([Run(head, seed, 1e-2, 0.0, examples, weights) for seed in range(16)])
    fitted = together(fit, runs, Data(features, targets), chain=chain, start="pool", epochs=100)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from tl_jax.chain.network import Chain, select
from tl_jax.engine.parallel import AXIS, Parallel, mesh
from tl_jax.errors import UserError, unknown
from tl_jax.ops import BatchNorm
from tl_jax.plans.plan import Phase, Settings
from tl_jax.train import optim

WAYS = ("map", "vmap")


def together(
    train: Callable, runs: Any, shared: Any = (), *, way: str | None = None, **static: Any
) -> Any:
    """`train(run, shared, **static)` of every run, stacked: leaves (R, ...) to leaves (R, ...).

    `runs` is a tree of arrays (R, ...), `shared` one of arrays that all runs read. Each device
    takes its part of the runs one after the other (`map`) or in lock step (`vmap`). The rule is
    `map` on CPUs, where lock step gains little, loses much if the runs' numbers of steps differ,
    and changes the last bits; and `vmap` elsewhere. Compiled once for the same `train`, shapes and
    `static`, which must be hashable: hand in a function of a module, not a new lambda each time.
    UserError for an unknown way, no runs, or leaves that differ in R.
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
    """A tree of arrays (R, ...) from R trees of arrays (...); UserError if their shapes differ."""
    if not runs:
        raise UserError("there are no runs")
    first = _shapes(runs[0])
    for number, run in enumerate(runs):
        if _shapes(run) != first:
            raise UserError(
                f"runs together have the same shapes: {_shapes(run)} of run {number} is not {first}"
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
    # Not left to the partitioner, which gathers what a loop over a sharded axis reads. Unchecked,
    # because a loop that begins with a constant would have to say that it will vary.
    return jax.shard_map(
        here, mesh=mesh(), in_specs=(each, whole), out_specs=each, check_vma=False
    )(runs, shared)


def _count(runs: Any) -> int:
    """R of leaves (R, ...)."""
    leaves = jax.tree_util.tree_leaves_with_path(runs)
    counts = {jax.tree_util.keystr(p): np.shape(leaf)[:1] for p, leaf in leaves}
    if not counts or (0,) in counts.values():
        raise UserError("there are no runs")
    (name, first), *others = counts.items()
    for other, count in others:
        if count != first:
            raise UserError(
                f"every array of the runs begins with one axis, over the runs: "
                f"{first} of {name} is not {count} of {other}"
            )
    if first == ():
        raise UserError(f"{name or 'the only array'} of the runs is one number: stack the runs")
    return first[0]


def _shapes(run: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(run)
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in leaves}


class Run(NamedTuple):
    """What may differ from run to run; `together` takes them stacked."""

    variables: Any  # where it begins: {collection: {layer: tree}} of the layers above `start`
    seed: Any  # of batches and dropout
    learning_rate: Any  # the schedule's peak
    weight_decay: Any  # decoupled; kernels only
    examples: Any  # (K,) rows of the data that it trains on: a subset, or all
    weights: Any  # (K,) of their losses; 0: as if its loss were not there


class Data(NamedTuple):
    """What all runs read."""

    inputs: Any  # (N, ...) outputs of the layer `start`, or of no layer: the chain's inputs
    targets: Any  # (N, C) probabilities


class Fitted(NamedTuple):
    """What a training gives."""

    variables: Any  # as they are after the last step
    loss: jax.Array  # (E,) weighted mean over each epoch's steps, as they were made


@functools.partial(
    jax.jit,
    static_argnames=(
        *("chain", "start", "epochs", "batch_size"),
        *("optimizer", "schedule", "clip", "batch_norm"),
    ),
)
def fit(
    run: Run,
    data: Data,
    *,
    chain: Chain,
    start: str | None,
    epochs: int,
    batch_size: int = 32,
    optimizer: str = "adamw",
    schedule: str = "cosine",
    clip: float = 1.0,
    batch_norm: str = "frozen",
) -> Fitted:
    """Train every layer of the chain above `start` with minibatches, in float32.

    The steps are those of `tl_jax.train` (loss, clipping, optimizer, schedule, modes of batch norm:
    see `plan.Settings`), the batches `batches(run.seed, epoch, ...)`. A batch of weight 0 has no
    gradient. A subset is said by `examples`, not by weights: its batches are full of it, no work is
    spent on the rest, and no other example reaches the batch statistics. Row numbers that are not
    in the data make the loss NaN. UserError for shapes that do not fit and unknown choices.
    """
    settings = Settings(
        epochs=epochs,
        learning_rate=1.0,  # the run's own, and its decay, come in `step`: they are traced
        weight_decay=0.0,
        optimizer=optimizer,
        schedule=schedule,
        clip=clip,
        batch_norm=batch_norm,
    )
    size = _batch_size(run, data, batch_size)
    steps = len(run.examples) // size
    names = tuple(layer.name for layer in chain.between(start, None))
    normed = names if batch_norm == "batch" else ()
    rate = optim.schedule(settings, epochs * steps)
    constant = dataclasses.replace(settings, schedule="constant")
    direction = optim.transformation(Phase("fit", dict.fromkeys(names, 1.0), constant), 1)
    targets = jnp.take(data.targets, run.examples, axis=0)  # NaN where there is no such row
    _, masks = _keys(run.seed)

    def inputs(rows):
        return data.inputs.at[run.examples[rows]].get(mode="clip").astype(jnp.float32)

    def step(state, rows):
        params, stats, optimizer, number = state

        def weighted_loss(params):
            applied = chain.apply(
                {"params": params, "batch_stats": stats},
                inputs(rows),
                start=start,
                train=names,
                batch_norm=normed,
                rng=jax.random.fold_in(masks, number),
            )
            losses = optax.softmax_cross_entropy(applied.output, targets[rows])
            return (losses * run.weights[rows]).sum(), applied.batch_stats

        (loss, stats), gradients = jax.value_and_grad(weighted_loss, has_aux=True)(params)
        weight = run.weights[rows].sum()
        gradients = jax.tree.map(lambda g: g / jnp.where(weight == 0, 1, weight), gradients)
        updates, optimizer = direction.update(gradients, optimizer, params)
        now = run.learning_rate * rate(number)
        params = jax.tree.map(functools.partial(_moved, now, run.weight_decay), params, updates)
        return (params, stats, optimizer, number + 1), (loss, weight)

    def one_epoch(state, epoch):
        rows = batches(run.seed, epoch, len(run.examples), size)
        state, (losses, weights) = jax.lax.scan(step, state, rows)
        return state, losses.sum() / weights.sum()

    params, stats = map(_float32, select(run.variables, names).values())
    if batch_norm == "recalibrate":
        stats = _recalibrated(run, chain, start, stats, inputs, size)
    state = (params, stats, direction.init(params), jnp.int32(0))
    (params, stats, *_), losses = jax.lax.scan(one_epoch, state, jnp.arange(epochs))
    return Fitted({"params": params, "batch_stats": stats}, losses)


def batches(seed: jax.Array, epoch: jax.Array, examples: int, batch_size: int) -> jax.Array:
    """The epoch's batches (S, B), shuffled numbers below `examples`; what fills no batch is left
    out, another remainder each epoch.
    """
    orders, _ = _keys(seed)
    # Once sorted by 32 random bits: `jax.random.permutation` sorts more than once against ties,
    # which here only ever leave two neighbours in order, and takes twice as long.
    bits = jax.random.bits(jax.random.fold_in(orders, epoch), (examples,))
    steps = examples // batch_size
    return jnp.argsort(bits)[: steps * batch_size].reshape(steps, batch_size)


def _recalibrated(run, chain, start, stats, inputs, size):
    """Batch statistics estimated anew on the first epoch's batches: see `train.recalibrated`."""
    # From zero, one update leaves (1 - momentum) times the batch's own statistics.
    zero = jax.tree.map(jnp.zeros_like, stats)
    names = [layer.name for layer in chain.between(start, None)]
    variables = _float32(select(run.variables, names)) | {"batch_stats": zero}

    def add(total, rows):
        applied = chain.apply(variables, inputs(rows), start=start, batch_norm=tuple(stats))
        return jax.tree.map(jnp.add, total, applied.batch_stats), None

    rows = batches(run.seed, 0, len(run.examples), size)
    total, _ = jax.lax.scan(add, zero, rows)
    return jax.tree.map(lambda t: t / (len(rows) * (1 - BatchNorm.momentum)), total)


def _moved(rate, decay, param, update):
    """A step `rate` times as long as `update`, with decay of kernels alone, as in `optim`."""
    return param + rate * (update - decay * param if param.ndim > 1 else update)


def _keys(seed):
    """For the order of the examples, and for dropout."""
    return jax.random.split(jax.random.key(seed))


def _float32(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)


def _batch_size(run: Run, data: Data, wanted: int) -> int:
    """As wanted, or all examples; UserError if the run and the data do not fit together."""
    inputs, targets, examples, weights = (
        np.shape(a) for a in (data.inputs, data.targets, run.examples, run.weights)
    )
    if len(targets) != 2 or inputs[:1] != targets[:1]:
        raise UserError(f"inputs (N, ...) and targets (N, C) do not fit: {inputs} and {targets}")
    if len(examples) != 1 or examples != weights:
        raise UserError(f"examples (K,) and weights (K,) do not fit: {examples} and {weights}")
    size = min(wanted, *examples)
    if size < 1:
        raise UserError(f"batch_size {wanted} of {examples[0]} examples leaves nothing to train on")
    return size
