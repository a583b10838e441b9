"""Methods that learn classes from a support set; all episodes are answered in one program.

A method is a function (subject, episodes, *, seed, **options) of `METHODS` that returns (E, W * Q)
places of the predicted classes in their episodes, queries class by class.
"""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import registry
from tl_jax.base.base import Base
from tl_jax.chain import heads
from tl_jax.chain.network import Network
from tl_jax.chain.variables import select
from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.engine import prefix
from tl_jax.engine.parallel import Parallel
from tl_jax.errors import UserError, takes_whole, unknown
from tl_jax.measure.few_shot.episodes import Episodes
from tl_jax.measure.retrieval import unit
from tl_jax.plans.plan import Settings
from tl_jax.train.fit import Data, Run, fit
from tl_jax.train.together import together

METHODS: dict[str, Any] = {}
GIVEN = ("seed",)  # of a method's options: the study's own
TRAINING = ("epochs", "learning_rate", "weight_decay")
NO_CENTRE = "cl2n subtracts the mean of the base classes: name some (base_classes=), or take l2n"
BATCHED = {"optimizer": "sgd(momentum=0.9, nesterov=False)", "schedule": "constant", "clip": 0.0}


def chosen(spec: str) -> tuple[Callable, dict[str, Any]]:
    """Return the method that `spec` names and the options that it sets; UserError for none."""
    return registry.chosen("method", spec, METHODS, given=GIVEN)


def require(spec: str, base: Base, layers: Sequence[str]) -> Callable:
    """Return the method; UserError for one that is none, or with options that cannot be for
    features of these layers of the base.
    """
    function, given = chosen(spec)
    known = registry.parameters(function).items()
    options = {name: one.default for name, one in known if name not in GIVEN} | given
    of_training = {name: options[name] for name in TRAINING if name in options}
    Settings(**of_training)
    if "scale" in options:
        heads.make(f"cosine(scale={options['scale']})", 2)
    if "above" in options:
        for layer in layers:
            below = base.chain.cut(layer)
            if options["above"] not in below.names[:-1]:
                raise unknown(
                    f"layer below {layer}, for {spec}: above=", options["above"], below.names[:-1],
                    ordered=True,
                )  # fmt: skip
    return function


class Subject(NamedTuple):
    """What the episodes are about: a task's examples, as a layer of a base represents them."""

    base: Base
    task: Task
    layer: str
    features: np.ndarray  # (N, D) of all examples
    centre: np.ndarray | None  # (D,) the base classes' mean; None if there are no base classes
    cache: str


class _Episode(NamedTuple):
    support: Any  # (W * k,) rows, class by class
    query: Any  # (W * Q,)
    seed: Any


@registry.register(METHODS, "method")
def nearest_mean(subject: Subject, episodes: Episodes, *, seed: int) -> np.ndarray:
    """The class whose support set has the nearest mean. With a base trained on episodes
    (`objectives.prototypes`) this is a prototypical network.
    """
    return _nearest(subject.features, episodes)


@registry.register(METHODS, "method")
def l2n(subject: Subject, episodes: Episodes, *, seed: int) -> np.ndarray:
    """The nearest mean of features at length 1 (SimpleShot, Wang et al. 2019, 1911.04623)."""
    return _nearest(unit(subject.features), episodes)


@registry.register(METHODS, "method")
def cl2n(subject: Subject, episodes: Episodes, *, seed: int) -> np.ndarray:
    """The same after subtracting the base classes' mean (SimpleShot's CL2N)."""
    if subject.centre is None:
        raise UserError(NO_CENTRE)
    return _nearest(unit(subject.features - subject.centre), episodes)


@registry.register(METHODS, "method")
def linear(
    subject: Subject,
    episodes: Episodes,
    *,
    seed: int,
    epochs: int = 100,
    learning_rate: float = 0.01,
    weight_decay: float = 1e-3,
) -> np.ndarray:
    """Baseline (Chen et al. 2019, arXiv:1904.04232): a linear classifier of features, by SGD."""
    training = epochs, learning_rate, weight_decay
    return _on_features("linear", subject, episodes, seed, *training)


@registry.register(METHODS, "method")
def cosine(
    subject: Subject,
    episodes: Episodes,
    *,
    seed: int,
    scale: float = 10.0,
    epochs: int = 100,
    learning_rate: float = 0.01,
    weight_decay: float = 1e-3,
) -> np.ndarray:
    """Baseline++ of the same: cosines with a vector of each class, times `scale`."""
    training = epochs, learning_rate, weight_decay
    return _on_features(f"cosine(scale={scale})", subject, episodes, seed, *training)


@registry.register(METHODS, "method")
def fine_tune(
    subject: Subject,
    episodes: Episodes,
    *,
    seed: int,
    above: str = "",
    most: int = 100,
    epochs: int = 30,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> np.ndarray:
    """The layers above `above` and a linear head, by AdamW; in the first `most` episodes alone."""
    takes_whole(most, "fine_tune: most", 1, 1_000_000)
    base = subject.base.with_head(episodes.support.shape[1], cut=subject.layer, seed=seed)
    layers = [layer.name for layer in base.chain.between(above, None)]
    return _fitted(
        base.chain,
        select(base.variables, layers),
        _outputs(base, subject.task, above, subject.cache),
        episodes.first(most),
        seed,
        start=above,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        epochs=epochs,
    )


def _outputs(base: Base, task: Task, layer: str, cache: str) -> np.ndarray:
    """Return the layer's outputs (N, ...) for all examples, which are stored."""
    if not cache:
        with tempfile.TemporaryDirectory() as folder:
            return _outputs(base, task, layer, folder)
    expected, task = base.preprocessing.of_task(task)
    below = prefix.pixels(task, expected, cache=path_of(cache))
    how = {"parallel": Parallel(), "cache": path_of(cache), "dtype": "float32"}
    every = np.arange(len(task.ids))
    outputs = prefix.features(
        base.chain, base.variables, below, layer, examples=len(every), stored_views=(0,), **how
    )
    return outputs.images(every)


def _nearest(features: np.ndarray, episodes: Episodes) -> np.ndarray:
    return _answers(_nearest_mean, episodes, 0, np.asarray(features, np.float32))


def _nearest_mean(episode: _Episode, features: Any, *, ways: int) -> jax.Array:
    means = features[episode.support].reshape(ways, -1, features.shape[1]).mean(1)
    distances = ((features[episode.query][:, None] - means) ** 2).sum(-1)
    return distances.argmin(1)


def _on_features(
    head: str,
    subject: Subject,
    episodes: Episodes,
    seed: int,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
) -> np.ndarray:
    """Train a head on the features as Chen et al. do, but for batches: as many as there are ways,
    where theirs are of four.
    """
    chain = Network(heads.make(head, episodes.support.shape[1]))
    features = np.asarray(subject.features, np.float32)
    # Theirs is PyTorch's SGD with momentum and dampening 0.9, which weighs a gradient with 0.1, and
    # the decay of the weights with it; ours weighs it with 1 and decays the weights apart from it.
    return _fitted(
        chain,
        chain.init(seed, (1, features.shape[1])),
        features,
        episodes,
        seed,
        start=None,
        learning_rate=learning_rate / 10,
        weight_decay=10 * weight_decay,
        epochs=epochs,
        **BATCHED,
    )


def _fitted(
    chain: Network,
    variables: Any,
    inputs: np.ndarray,
    episodes: Episodes,
    seed: int,
    *,
    learning_rate: float,
    weight_decay: float,
    **settings: Any,
) -> np.ndarray:
    numbers = np.float32(learning_rate), np.float32(weight_decay)
    shared = inputs, variables, *numbers
    found = _answers(_taught, episodes, seed, shared, chain=chain, **settings)
    if (found < 0).any():
        raise UserError("the loss is not finite in an episode: try a smaller learning_rate=")
    return found


def _taught(
    episode: _Episode, shared: Any, *, ways: int, chain: Network, start: str | None, **settings: Any
) -> jax.Array:
    """Train the layers above `start` on the support set; return the queries' classes, -1 where the
    training has blown up.
    """
    inputs, variables, learning_rate, weight_decay = shared
    count = len(episode.support)
    labels = jnp.repeat(jnp.arange(ways), count // ways)
    data = Data(inputs[episode.support], jnp.eye(ways)[labels])
    every = jnp.arange(count), jnp.ones(count)
    run = Run(variables, episode.seed, learning_rate, weight_decay, *every)
    fitted = fit(run, data, chain=chain, start=start, batch_size=ways, **settings)
    queries = inputs[episode.query].astype(jnp.float32)
    logits = chain.apply(fitted.variables, queries, start=start).output
    finite = jnp.isfinite(logits).all() & jnp.isfinite(fitted.loss).all()
    return jnp.where(finite, logits.argmax(1), -1)


def _answers(answer: Any, episodes: Episodes, seed: int, shared: Any, **static: Any) -> np.ndarray:
    """Return `answer` of all episodes, (E, W * Q), from one program."""
    count, ways, _ = episodes.support.shape
    support, query = (np.int32(part.reshape(count, -1)) for part in episodes)
    seeds = np.random.default_rng([seed, 1]).integers(2**31, size=count).astype(np.int32)
    runs = _Episode(support, query, seeds)
    return np.asarray(together(answer, runs, shared, ways=ways, **static))


def right(predicted: np.ndarray, episodes: Episodes) -> np.ndarray:
    """Return how many queries of each episode, (E,), are answered right."""
    _, ways, queries = episodes.query.shape
    truth = np.repeat(np.arange(ways), queries)
    return (predicted == truth).sum(1)
