"""Training of a head, or any suffix of a chain, on arrays in memory, in one compiled program."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Known
from tl_jax.chain.variables import select
from tl_jax.data.expects import Expected
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError
from tl_jax.ops import BatchNorm
from tl_jax.plans import norms
from tl_jax.plans.plan import Phase, Settings
from tl_jax.train import optim
from tl_jax.train.objective import Objective
from tl_jax.train.objectives.cross_entropy import CrossEntropy
from tl_jax.train.problem import Setup
from tl_jax.train.step import Recipe, State, bound, evaluated, recipe, update
from tl_jax.train.survey import Survey, survey


class Run(NamedTuple):
    """The values that may differ from run to run; `together` takes runs stacked."""

    variables: Any  # first ones: {collection: {layer: tree}} of the layers above `start`
    seed: Any  # of batch order and dropout
    learning_rate: Any  # the peak of the schedule
    weight_decay: Any  # decoupled; kernels only
    examples: Any  # (K,) rows of the data that the run trains on; of several sources by name
    weights: Any  # (K,) of their losses, 0 leaves one out; of several sources by name


class Data(NamedTuple):
    """The arrays that all runs read."""

    inputs: Any  # (N, ...) outputs of the layer `start`, or the chain's inputs if it is None
    targets: Any  # (N, C) probabilities


class Fitted(NamedTuple):
    """The result of a run."""

    variables: Any  # after the last step; of an objective that evaluates their average, this
    loss: jax.Array  # (E,) weighted mean over the steps of each epoch, of all terms


@functools.partial(
    jax.jit,
    static_argnames=(
        *("chain", "start", "epochs", "batch_size", "objective", "preprocessing", "augment"),
        *("optimizer", "schedule", "clip", "batch_norm"),
    ),
)
def fit(
    run: Run,
    data: Data | Mapping[str, Data],
    *,
    chain: Network,
    start: str | None,
    epochs: int,
    batch_size: int = 32,
    objective: Objective | None = None,
    preprocessing: Expected | None = None,
    augment: Callable[[Any, Any], Any] | None = None,
    optimizer: str = "adamw",
    schedule: str = "cosine",
    clip: float = 1.0,
    batch_norm: str = "frozen",
) -> Fitted:
    """Train every layer of the chain above `start` with minibatches, in float32.

    The steps are those of `tl_jax.train` (for clipping, optimizer, schedule and modes of batch norm
    see `plan.Settings`). The objective's tails are in the chain; None is the cross entropy of the
    last layer. One of several sources takes the data, and a run's examples and weights, by name: an
    epoch shows the one of most batches once, and the others again and again. `augment` (key, batch)
    -> batch acts on inputs before `preprocessing` normalises them.

    The batches are `batches(run.seed, epoch, ...)`. A batch of weight 0 has no gradient. Choose a
    subset by `examples`, not by weights: then no other example fills a batch, costs work or reaches
    the batch statistics. Row numbers that are not in the data make the loss NaN. UserError for
    shapes that do not fit, unknown choices, and an objective that refreshes its memory.
    """
    shared = {"optimizer": optimizer, "schedule": schedule, "clip": clip, "batch_norm": batch_norm}
    # The run's own learning rate is traced, so `rates` holds it.
    settings = Settings(epochs=epochs, learning_rate=1.0, **shared)
    sources = _sources(run, data, start or chain.inputs[0], batch_size)
    objective = objective or CrossEntropy(output=chain.names[-1])
    layers, leading = _above(chain, start), max(sources.values(), key=lambda one: one.steps)
    phase = Phase("fit", dict.fromkeys(layers, 1.0), settings)
    setup = Setup(chain, objective, preprocessing, Parallel())
    made = recipe(setup, phase, objective.augmented(augment))
    first = _float32(select(run.variables, layers))
    judged = sources.get(objective.judges, leading)
    if norms.make(batch_norm).anew:
        first["batch_stats"] = _recalibrated(run, setup, start, first, judged)
    orders = functools.partial(_orders, run.seed, sources, leading.steps)
    example = _batch(sources, {name: rows[0] for name, rows in orders(0).items()})
    needs = _surveyed(made, first, example, judged)
    fixed = _fixed(run, settings, epochs * leading.steps)
    fixed |= {"anchor": first} if needs.anchor else {}
    state = _begin(made, needs, first, fixed, example)

    def step(state, rows):
        return update(made, state, fixed, _batch(sources, rows)), None

    def one_epoch(state, epoch):
        state = state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums))
        state, _ = jax.lax.scan(step, state, orders(epoch))
        means = [state.sums[name][2] / state.sums[name][1] for name in needs.minimised]
        return state, jnp.sum(jnp.stack(means))

    state, losses = jax.lax.scan(one_epoch, state, jnp.arange(epochs))
    return Fitted(evaluated(setup, state), losses)


class _Source(NamedTuple):
    """The data of one source, as a run reads them."""

    place: str  # where its inputs are
    inputs: Any
    targets: Any  # (K, C) of the run's examples
    examples: Any
    weights: Any
    batch_size: int

    @property
    def steps(self) -> int:
        """Full batches of an epoch."""
        return len(self.examples) // self.batch_size

    def known(self, rows: Any) -> Known:
        """The inputs of these of the run's examples."""
        return Known({self.place: self.inputs.at[self.examples[rows]].get(mode="clip")})

    def batch(self, rows: Any) -> dict[str, Any]:
        """Inputs and truth of these of the run's examples."""
        targets, weights = self.targets[rows], self.weights[rows]
        truth = {"targets": targets, "labels": targets.argmax(-1), "weights": weights}
        graded = {"graded_labels": truth["labels"], "graded_weights": weights}
        return {"inputs": self.known(rows), **truth, **graded}


def _sources(run: Run, data: Any, place: str, batch_size: int) -> dict[str, _Source]:
    """The sources by name; of one source without a name "". UserError if they do not fit."""
    if isinstance(data, Data):
        data, run = {"": data}, run._replace(examples={"": run.examples}, weights={"": run.weights})
    if not data.keys() == run.examples.keys() == run.weights.keys():
        names = [", ".join(sorted(each)) for each in (data, run.examples, run.weights)]
        raise UserError(f"data, examples and weights name different sources: {'; '.join(names)}")
    found = {}
    for name, (inputs, targets) in data.items():
        examples, weights = run.examples[name], run.weights[name]
        arrays = inputs, targets, examples, weights
        size = _batch_size([np.shape(array) for array in arrays], batch_size)
        targets = jnp.take(targets, examples, axis=0)  # NaN for rows that do not exist
        found[name] = _Source(place, inputs, targets, examples, weights, size)
    return found


def _above(chain: Network, start: str | None) -> list[str]:
    """The layers that compute what depends on `start`, tails with them."""
    if start is None:
        return list(chain.names)
    chain.index(start)
    wanted = [name for name in chain.names if start in chain.below[name] and name != start]
    return [layer.name for layer in chain.path((start,), wanted)]


def _batch(sources: Mapping[str, _Source], rows: Mapping[str, Any]) -> dict[str, Any]:
    """The batch of these of each source's examples; of one without a name, its own."""
    found = {name: source.batch(rows[name]) for name, source in sources.items()}
    return found.get("", found)


def _surveyed(made: Recipe, first: Any, example: Any, judged: _Source) -> Survey:
    """What steps on such batches ask for. UserError for what a program of all epochs cannot do."""
    objective = made.setup.objective
    if objective.refresh is not None:
        raise UserError(
            f"{type(objective).__name__} looks at all examples before each epoch: train it by "
            "tl_jax.transfer"
        )
    single = judged.batch(jnp.arange(1)) | {"real": jnp.ones(1)}
    return survey(made, first, *jax.eval_shape(lambda: (example, single)))


def _orders(seed: Any, sources: Mapping[str, _Source], steps: int, epoch: Any) -> dict[str, Any]:
    """The examples (S, B) of each source's batches in an epoch; a shorter source begins again, each
    time in another order.
    """
    found = {}
    for number, (name, source) in enumerate(sources.items()):
        shape = len(source.examples), source.batch_size
        rounds = [
            batches(seed, epoch, *shape, part=again * len(sources) + number)
            for again in range(-(-steps // source.steps))
        ]
        found[name] = jnp.concatenate(rounds)[:steps]
    return found


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


def _begin(made: Recipe, needs: Survey, first: Any, fixed: Any, batch: Any) -> State:
    zero, params, stats = jnp.float32(0), first["params"], first["batch_stats"]
    optimizer = optim.begin(made.optimizer, made.factors(params), params)
    average = first if made.setup.objective.average is not None else ()
    sums = {name: (zero, zero, zero) for name in needs.terms}
    state = State(params, stats, optimizer, average, (), jnp.int32(0), sums, jnp.int32(-1))
    if not jax.tree.leaves(needs.memory):
        return state
    net = bound(made, state, params, stats, fixed, jax.random.key(0))
    return state._replace(memory=made.setup.objective.begin(net, batch))


def batches(
    seed: Any, epoch: jax.Array | int, examples: int, batch_size: int, part: int = 0
) -> jax.Array:
    """Return the epoch's batches (S, B): shuffled numbers below `examples`.

    The remainder that fills no batch is left out; it differs from epoch to epoch. Parts of an epoch
    have orders of their own.
    """
    orders, _ = _keys(seed)
    key = jax.random.fold_in(orders, epoch)
    # One sort by 32 random bits. `jax.random.permutation` sorts again because of ties, which takes
    # twice as long; here a tie only leaves two neighbours in order.
    bits = jax.random.bits(jax.random.fold_in(key, part) if part else key, (examples,))
    steps = examples // batch_size
    return jnp.argsort(bits)[: steps * batch_size].reshape(steps, batch_size)


def _recalibrated(run: Run, setup: Setup, start: str | None, first: Any, judged: _Source) -> Any:
    """Return statistics estimated anew on the first epoch's batches: see `fold.recalibrated`."""
    # From zero, one update leaves (1 - momentum) times the batch's own statistics.
    zero = jax.tree.map(jnp.zeros_like, first["batch_stats"])

    def add(total, rows):
        x = setup.prepare(judged.place, judged.known(rows)[judged.place])
        variables = first | {"batch_stats": zero}
        applied = setup.network.apply(variables, x, start=start, batch_norm=tuple(zero))
        return jax.tree.map(jnp.add, total, applied.batch_stats), None

    rows = batches(run.seed, 0, len(judged.examples), judged.batch_size)
    total, _ = jax.lax.scan(add, zero, rows)
    return jax.tree.map(lambda t: t / (len(rows) * (1 - BatchNorm.momentum)), total)


def _keys(seed):
    """Return the keys for the order of the examples and for dropout."""
    return jax.random.split(jax.random.key(seed))


def _float32(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), tree)


def _batch_size(shapes: list[tuple[int, ...]], wanted: int) -> int:
    """Return `wanted`, at most all examples; UserError if these shapes do not fit together."""
    inputs, targets, examples, weights = shapes
    if len(targets) != 2 or inputs[:1] != targets[:1]:
        raise UserError(f"inputs (N, ...) and targets (N, C) do not fit: {inputs} and {targets}")
    if len(examples) != 1 or examples != weights:
        raise UserError(f"examples (K,) and weights (K,) do not fit: {examples} and {weights}")
    size = min(wanted, *examples)
    if size < 1:
        raise UserError(f"batch_size {wanted} of {examples[0]} examples leaves nothing to train on")
    return size
