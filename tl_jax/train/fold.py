"""Passes over a phase's training batches without gradients.

They compute an objective's first memory, the memory that it refreshes before each epoch, and
re-estimated batch statistics.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain import programs
from tl_jax.chain.network import Net
from tl_jax.chain.variables import merged, overlaid, select
from tl_jax.data import loader
from tl_jax.ops import BatchNorm
from tl_jax.plans import norms
from tl_jax.train.problem import Setup
from tl_jax.train.step import Recipe, State, evaluated
from tl_jax.train.work import PhaseRun


def fold(
    work: PhaseRun,
    variables: Any,
    anchor: Any,
    each: Callable[[Net, Any, Any], Any],
    total: Any,
) -> Any:
    """Fold `each(net, batch, total) -> total` over the training examples in view 0, in inference
    mode. `anchor`: the run's first variables.
    """
    setup, anchors = work.recipe.setup, {"anchor": anchor} if work.survey.anchor else {}
    run = _folding(setup, each)
    placed = setup.parallel.place(
        (select(variables, work.layers), {n: select(a, work.layers) for n, a in anchors.items()})
    )
    for batch in _once(work):
        total = run(placed, batch, total)
    return total


@functools.lru_cache(maxsize=programs.KEPT)  # a method of the objective is compiled once
def _folding(setup: Setup, each: Callable) -> Callable:
    return jax.jit(lambda weights, batch, total: each(_bound(setup, *weights), batch, total))


def _bound(setup: Setup, variables: Any, others: Mapping[str, Any]) -> Net:
    """Return the network with these weights, in inference mode, and `others` by view."""
    views = {n: (setup.cast(tree["params"]), tree["batch_stats"]) for n, tree in others.items()}
    return setup.bound(variables, views=views)


def _once(work: PhaseRun) -> Iterator[Any]:
    """Yield batches that have each training example once, the last of which may be smaller; of
    several sources the first epoch's batches.
    """
    if len(work.sources) > 1:
        return work.batches(0, augment=False, whole=True)
    (source,) = work.sources.values()
    examples, size = source.task.splits["train"], source.batch_size

    def batch(first: int) -> Any:
        part = examples[first : first + size]
        return source.batch(part, np.zeros(len(part), int))

    return loader.read_ahead(range(0, len(examples), size), batch)


def first_memory(work: PhaseRun, variables: Any, anchor: Any) -> Any:
    """Return the objective's memory at the beginning of the phase; () if it has none."""
    if not jax.tree.leaves(work.survey.memory):
        return work.survey.memory
    setup, layers = work.recipe.setup, work.layers
    batch = next(iter(work.batches(0, whole=True)))

    def begin(variables, anchor, batch):
        if work.recipe.augment is not None:
            batch = work.recipe.augment(jax.random.key(work.problem.seed), batch)
        net = _bound(setup, variables, {"anchor": anchor, "average": variables})
        return setup.objective.begin(net, batch)

    selected = select(variables, layers), select(anchor, layers)
    return jax.device_get(jax.jit(begin)(*selected, batch))


def refreshed(work: PhaseRun, variables: Any, anchor: Any, state: State, epoch: int) -> State:
    """Return the state with its memory refreshed, if the objective does so before each epoch."""
    objective = work.problem.objective
    if objective.refresh is None:
        return state
    now = merged(variables, evaluated(work.recipe.setup, state))
    memory = objective.refresh(functools.partial(fold, work, now, anchor), state.memory, epoch)
    return state._replace(memory=memory)


def recalibrated(work: PhaseRun, variables: Any) -> Any:
    """Return the variables; with batch_norm=recalibrate, the trained layers' statistics are new.

    They are the mean of the batches' statistics over one epoch, as in Li et al. 2018 (AdaBN). Every
    batch is in view 0 and is normalised by its own statistics.
    """
    if not norms.make(work.phase.settings.batch_norm).anew:
        return variables
    return with_statistics(work, variables)


def with_statistics(work: PhaseRun, variables: Any) -> Any:
    """Return the variables; the trained layers' statistics are those of the training batches."""
    parallel, step = work.problem.parallel, _statistics_step(work.recipe)
    trained = work.recipe.of_trained(variables)["params"]
    fixed = parallel.place(work.frozen(variables, variables, 0) | {"trained": trained})
    stats = select(variables, work.recipe.trained)["batch_stats"]
    total = parallel.place(jax.tree.map(np.zeros_like, stats))
    prefix_fn = work.prefix(fixed)
    for batch in work.batches(0, augment=False):
        total = step(total, fixed, prefix_fn(parallel.share(batch)))
    scale = 1 / (work.steps * (1 - BatchNorm.momentum))
    mean = jax.tree.map(lambda t: np.asarray(t) * np.float32(scale), total)
    return merged(variables, {"params": {}, "batch_stats": mean})


@functools.lru_cache(maxsize=programs.KEPT)
def _statistics_step(recipe: Recipe) -> Callable:
    setup, trained = recipe.setup, recipe.trained

    def add(total, fixed, batch):
        # From zero, one update leaves (1 - momentum) times the batch's own statistics.
        zeroed = jax.tree.map(jnp.zeros_like, total)
        variables = {
            "params": overlaid(fixed["params"], fixed["trained"]),
            "batch_stats": {**fixed["batch_stats"], **zeroed},
        }
        net = setup.bound(variables, norm=trained)
        judged = batch.get(setup.objective.judges, batch)
        net(judged["inputs"], tuple(total))
        return {n: jax.tree.map(jnp.add, total[n], net.stats[n]) for n in total}

    return setup.parallel.step(add)
