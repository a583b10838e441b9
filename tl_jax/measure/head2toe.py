"""Head2Toe: a linear classifier on features of all layers, of which the group lasso keeps a share.

Evci, Dumoulin, Larochelle & Mozer 2022, Head2Toe: Utilizing Intermediate Representations for Better
Transfer Learning (arXiv:2201.03529), section 3.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tl_jax.data.task import Task
from tl_jax.measure.probes import protocol

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the features, among which validation chooses
STRENGTH = 0.05  # of the lasso, of the strength at which it keeps nothing
STEPS = 300  # of proximal gradient descent


class Head2Toe(NamedTuple):
    """The classifier that validation chose."""

    share: float  # of the features that are kept
    kept: dict[str, int]  # how many of each layer's features
    val: float  # accuracy
    test: float
    test_weighted: float
    answer: dict[str, Any]  # all that `protocol.examine` says of it


def fit(
    layers: Mapping[str, np.ndarray],
    task: Task,
    examples: protocol.Examples,
    *,
    shares: Sequence[float] = SHARES,
) -> Head2Toe:
    """Rank all features by the norm of their weights in a group lasso on train, and fit logistic
    regression on the best `shares` of them; validation chooses the share.

    `layers`: features (N, D) by layer. Features are scaled to mean 0 and variance 1 on train. The
    paper drops the lasso's weights too, and trains the classifier anew.
    """
    rows = np.concatenate(list(layers.values()), axis=1).astype(np.float32)
    train = rows[examples.train]
    deviation = train.std(0)
    rows = (rows - train.mean(0)) / np.where(deviation > 0, deviation, 1)
    targets, weights = task.targets[examples.train], task.weights[examples.train]
    order = np.argsort(-relevance(rows[examples.train], targets, weights), kind="stable")
    best: Any = None
    for share in shares:
        kept = np.sort(order[: max(1, round(share * len(order)))])
        (answers,) = protocol.examine(rows[:, kept], [(task, examples)], ["logistic"])
        if best is None or answers["logistic"]["val"] > best[0]["val"]:
            best = answers["logistic"], share, kept
    answer, share, kept = best
    ends = np.cumsum([features.shape[1] for features in layers.values()])
    counts = np.bincount(np.searchsorted(ends, kept, side="right"), minlength=len(layers))
    by_layer = dict(zip(layers, counts.tolist(), strict=True))
    figures = answer["val"], answer["test"], answer["test_weighted"]
    return Head2Toe(share, by_layer, *figures, answer)


def relevance(rows: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return for each feature the norm of its weights (D,) in the softmax regression of targets
    (N, C) on features (N, D) with a group lasso: l sum_d |W_d|, equation 2.
    """
    share = weights / weights.sum()
    found = _lasso(*map(jnp.float32, (rows, targets, share)))
    return np.asarray(found)


@jax.jit
def _lasso(rows: jax.Array, targets: jax.Array, share: jax.Array) -> jax.Array:
    """FISTA (Beck & Teboulle 2009), with an intercept that is not penalised."""

    def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = rows @ weights[0] + weights[1]
        return (share * optax.softmax_cross_entropy(logits, targets)).sum()

    def moment(vector: jax.Array) -> jax.Array:
        return rows.T @ (share * (rows @ vector))

    def power(_: Any, vector: jax.Array) -> jax.Array:
        return moment(vector) / jnp.maximum(jnp.linalg.norm(moment(vector)), 1e-12)

    gradient = jax.grad(loss)
    zeros = jnp.zeros((rows.shape[1], targets.shape[1])), jnp.zeros(targets.shape[1])
    strength = STRENGTH * jnp.linalg.norm(gradient(zeros)[0], axis=1).max()
    start = jnp.ones(rows.shape[1]) / jnp.sqrt(rows.shape[1])
    vector = jax.lax.fori_loop(0, 30, power, start)
    # The Hessian of the softmax's loss is at most half of the second moment of the features and
    # the intercept's ones; 5 % more, as power iteration ends below it.
    rate = 2 / (1.05 * vector @ moment(vector) + 1)

    def step(number: Any, carry: Any) -> Any:
        ahead, before, momentum = carry
        moved = jax.tree.map(lambda w, g: w - rate * g, ahead, gradient(ahead))
        norms = jnp.linalg.norm(moved[0], axis=1, keepdims=True)
        shrunk = jnp.maximum(1 - rate * strength / jnp.maximum(norms, 1e-12), 0)
        now = (shrunk * moved[0], moved[1])
        later = (1 + jnp.sqrt(1 + 4 * momentum**2)) / 2
        gain = (momentum - 1) / later
        return jax.tree.map(lambda a, b: a + gain * (a - b), now, before), now, later

    _, weights, _ = jax.lax.fori_loop(0, STEPS, step, (zeros, zeros, jnp.float32(1)))
    return jnp.linalg.norm(weights[0], axis=1)
