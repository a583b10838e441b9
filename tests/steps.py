"""Single steps, for tests: what a phase would make of a recipe, without a phase and a task."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.chain.network import Network
from tl_jax.chain.places import Known
from tl_jax.chain.variables import merged, select
from tl_jax.engine.parallel import Parallel
from tl_jax.train import state
from tl_jax.train.objective import Loss, Objective, Term
from tl_jax.train.problem import Setup
from tl_jax.train.step import Recipe, State, evaluated, update
from tl_jax.train.survey import survey


class Noise(nn.Module):
    """Dropout of half, where there is something to draw it from."""

    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5)(x, deterministic=not self.has_rng("dropout"))


class Bare(nn.Module):
    """Parameters of such shapes, which are its output."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @nn.compact
    def __call__(self):
        return {name: self.param(name, nn.initializers.zeros, s) for name, s in self.shapes}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quiet(Objective):
    """An objective that predicts and scores nothing of interest."""

    def predict(self, net, batch, carry):
        """Zeros."""
        return jnp.zeros(len(batch["real"])), carry

    def score(self, predictions, batch):
        """Zero."""
        return {"loss": Term(predictions.sum())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given(Quiet):
    """Its gradient is the batch's "gradient", {layer: tree}."""

    def loss(self, net, batch, memory, now):
        """The inner product of parameters and gradient."""
        mine = {name: net.params[name] for name in batch["gradient"]}
        products = jax.tree.map(lambda p, g: (p * g).sum(), mine, batch["gradient"])
        return Loss({"loss": Term(sum(jax.tree.leaves(products)))}, memory)


def recipe(network: Network, objective: Objective, trained: Any = None, **options: Any) -> Recipe:
    """A recipe of these layers (default: all) at their factors; no clipping unless asked for."""
    if trained is None or not isinstance(trained, dict):
        trained = dict.fromkeys(trained or network.names, 1.0)
    setup = Setup(network, objective, None, Parallel())
    return Recipe(setup, tuple(trained.items()), **{"optimizer": "sgd", "clip": 0.0} | options)


def begin(of: Recipe, variables: Any, batch: Any, *, memory: Any = (), former: Any = None) -> State:
    """The state before the first step."""
    first = next(iter(batch.values())) if "inputs" not in batch else batch
    single = {**first, "real": np.ones(_rows(first), np.float32)}
    found = survey(of, variables, shapes(batch), shapes(single))
    return state.begin(of, found, variables, memory, former)


def shapes(tree: Any) -> Any:
    """The tree as shapes."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(np.shape(a), jnp.asarray(a).dtype), tree)


def fixed(
    of: Recipe, variables: Any, *, rates: Any = 0.1, decay: float = 0.0, steps: int = 10, seed=0
) -> dict[str, Any]:
    """What such steps leave as it is, with the anchor."""
    others = [name for name in of.setup.network.names if name not in of.trained]
    own = variables if of.leaves else select(variables, others)
    return {
        "params": own["params"],
        "batch_stats": select(variables, others)["batch_stats"],
        "anchor": variables,
        "key": jax.random.key_data(jax.random.key(seed)),
        "rates": jnp.broadcast_to(jnp.float32(rates), steps) if np.ndim(rates) == 0 else rates,
        "first": np.int32(0),
        "decay": np.float32(decay),
    }


@functools.lru_cache
def program(of: Recipe):
    """The compiled step of a recipe."""
    return jax.jit(functools.partial(update, of))


def after(of: Recipe, variables: Any, batches: Any, *, memory: Any = (), **options: Any) -> State:
    """The state after a step on each of the batches."""
    now = begin(of, variables, batches[0], memory=memory)
    given = fixed(of, variables, **options)
    for batch in batches:
        now = program(of)(now, given, batch)
    return now


def handed_on(of: Recipe, variables: Any, now: State) -> Any:
    """The variables that such a phase would hand on."""
    return merged(variables, jax.device_get(evaluated(of.setup, now)))


def batch_of(x: Any, place: str = "x", **truth: Any) -> dict[str, Any]:
    """A batch of one input."""
    return {"inputs": Known({place: x}), **truth}


def _rows(batch: Any) -> int:
    """How many examples the batch has; 1 if it has no arrays by example."""
    leaves = [leaf for leaf in jax.tree.leaves(batch) if np.ndim(leaf)]
    return len(leaves[0]) if leaves else 1
