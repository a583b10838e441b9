"""Training of a head, or any suffix of a chain, on arrays in memory, in one compiled program."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Known
from tl_jax.chain.variables import select
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.ops import BatchNorm
from tl_jax.plans import norms
from tl_jax.plans.plan import Phase, Settings
from tl_jax.train import optim
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.problem import Setup
from tl_jax.train.step import Recipe, State, recipe, update


class Run(NamedTuple):
    """The values that may differ from run to run; `together` takes runs stacked."""

    variables: Any  # first ones: {collection: {layer: tree}} of the layers above `start`
    seed: Any  # of batch order and dropout
    learning_rate: Any  # the peak of the schedule
    weight_decay: Any  # decoupled; kernels only
    examples: Any  # (K,) rows of the data that the run trains on: a subset, or all
    weights: Any  # (K,) of their losses; 0 leaves an example's loss out


class Data(NamedTuple):
    """The arrays that all runs read."""

    inputs: Any  # (N, ...) outputs of the layer `start`, or the chain's inputs if it is None
    targets: Any  # (N, C) probabilities


class Fitted(NamedTuple):
    """The result of a run."""

    variables: Any  # after the last step
    loss: jax.Array  # (E,) weighted mean over the steps of each epoch


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
    chain: Network,
    start: str | None,
    epochs: int,
    batch_size: int = 32,
    optimizer: str = "adamw",
    schedule: str = "cosine",
    clip: float = 1.0,
    batch_norm: str = "frozen",
) -> Fitted:
    """Train every layer of the chain above `start` with minibatches, in float32.

    The steps are those of `tl_jax.train` (for loss, clipping, optimizer, schedule and modes of
    batch norm see `plan.Settings`); the batches are `batches(run.seed, epoch, ...)`. A batch of
    weight 0 has no gradient. Choose a subset by `examples`, not by weights: then no other example
    fills a batch, costs work or reaches the batch statistics. Row numbers that are not in the data
    make the loss NaN. UserError for shapes that do not fit and unknown choices.
    """
    settings = Settings(
        epochs=epochs,
        learning_rate=1.0,  # the run's is traced, so `rates` holds it
        optimizer=optimizer,
        schedule=schedule,
        clip=clip,
        batch_norm=batch_norm,
    )
    size = _batch_size(run, data, batch_size)
    layers = [layer.name for layer in chain.between(start, None)]
    setup = Setup(chain, CrossEntropy(output=chain.names[-1]), None, Parallel())
    of_steps = recipe(setup, Phase("fit", dict.fromkeys(layers, 1.0), settings))
    fixed = _fixed(run, settings, epochs * (len(run.examples) // size))
    targets = jnp.take(data.targets, run.examples, axis=0)  # NaN for rows that do not exist
    place = start or chain.inputs[0]

    def inputs(rows):
        return data.inputs.at[run.examples[rows]].get(mode="clip").astype(jnp.float32)

    def step(state, rows):
        truth = {"targets": targets[rows], "weights": run.weights[rows]}
        batch = {"inputs": Known({place: inputs(rows)}), **truth}
        return update(of_steps, state, fixed, batch), None

    def one_epoch(state, epoch):
        state = state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
        state, _ = jax.lax.scan(step, state, batches(run.seed, epoch, len(run.examples), size))
        return state, state.sums["loss"][0] / state.sums["loss"][1]

    params, stats = map(_float32, select(run.variables, layers).values())
    if norms.make(batch_norm).anew:
        stats = _recalibrated(run, chain, start, stats, inputs, size)
    state, losses = jax.lax.scan(one_epoch, _begin(of_steps, params, stats), jnp.arange(epochs))
    return Fitted({"params": state.params, "batch_stats": state.batch_stats}, losses)


def _fixed(run: Run, settings: Settings, steps: int) -> dict[str, Any]:
    """Return the values that the run does not change: see `step.update`."""
    rate = optim.schedule(settings, steps)
    _, masks = _keys(run.seed)
    return {
        "params": {},
        "batch_stats": {},
        "rates": run.learning_rate * jax.vmap(rate)(jnp.arange(steps)),
        "first": jnp.int32(0),
        "decay": run.weight_decay,
        "key": jax.random.key_data(masks),
    }


def _begin(made: Recipe, params: Any, stats: Any) -> State:
    zero = jnp.float32(0)
    optimizer = optim.begin(made.optimizer, made.factors(params), params)
    sums = {"loss": (zero, zero, zero)}
    return State(params, stats, optimizer, (), (), jnp.int32(0), sums, jnp.int32(-1))


def batches(seed: Any, epoch: jax.Array | int, examples: int, batch_size: int) -> jax.Array:
    """Return the epoch's batches (S, B): shuffled numbers below `examples`.

    The remainder that fills no batch is left out; it differs from epoch to epoch.
    """
    orders, _ = _keys(seed)
    # One sort by 32 random bits. `jax.random.permutation` sorts again because of ties, which takes
    # twice as long; here a tie only leaves two neighbours in order.
    bits = jax.random.bits(jax.random.fold_in(orders, epoch), (examples,))
    steps = examples // batch_size
    return jnp.argsort(bits)[: steps * batch_size].reshape(steps, batch_size)


def _recalibrated(run, chain, start, stats, inputs, size):
    """Return statistics estimated anew on the first epoch's batches: see `fold.recalibrated`."""
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


def _keys(seed):
    """Return the keys for the order of the examples and for dropout."""
    return jax.random.split(jax.random.key(seed))


def _float32(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)


def _batch_size(run: Run, data: Data, wanted: int) -> int:
    """Return `wanted`, at most all examples; UserError if run and data do not fit together."""
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
