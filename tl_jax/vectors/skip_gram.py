"""Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546).

The vector v of a word predicts each word o that stands near it, by that one's second vector u:
log s(u_o v) plus, over k words drawn in proportion to count^(3/4), log s(-u v), where s is the
logistic function, is maximised. Here a step takes many pairs at once:

* A step works on stretches of text. A stretch gathers the two vectors of each of its tokens once,
  and one product of matrices has all its pairs.
* A stretch shares its draws: each pair has all of them, weighted so that they count as k. The
  objective's expectation stays what it is.
* A word that comes several times in a step takes the sum of its gradients. Pair by pair, as in the
  paper's code, each gradient would see what the ones before it changed; so the sum is damped by
  what they would have seen (`moved`). Without that, vocabularies of a thousand words diverge.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax import interrupt
from tl_jax.errors import UserError
from tl_jax.vectors import settings
from tl_jax.vectors.corpus import Corpus, blocks, drawn, subsampled

BLOCK = 32  # tokens of a stretch, and words that are drawn for it
STEPS = 32  # of a call
TINY = 1e-20
LEAST = 1e-4  # share of the learning rate at the end, as in word2vec's code

Tables = dict[str, jax.Array]  # "input": v, "output": u, a row each


class Batch(NamedTuple):
    """B stretches of L tokens, with w tokens on either side."""

    tokens: Any  # (B, w + L + w) int32
    texts: Any  # (B, w + L + w) int32: which text each is of; -1: there is no token
    reach: Any  # (B, L) int32: how far from each of the L its pairs go, 1 to w
    negatives: Any  # (B, S) int32: words drawn
    rate: Any  # () of learning
    # (R,) each, of vectors that are means of rows: a row, whose it is of the B L tokens, its share
    parts: tuple[Any, Any, Any] | None = None


def near(batch: Batch) -> jax.Array:
    """Which tokens are pairs, (B, L, w + L + w): in the same text, and within reach."""
    size, wide = batch.reach.shape[1], batch.tokens.shape[1]
    window = (wide - size) // 2
    centre = batch.texts[:, window : window + size, None]
    far = jnp.abs(jnp.arange(wide) - window - jnp.arange(size)[:, None])
    return (
        (centre == batch.texts[:, None])
        & (centre >= 0)
        & (far > 0)
        & (far <= batch.reach[..., None])
    )


def weighted(pairs: jax.Array, draws: int, negative: int) -> tuple[jax.Array, jax.Array]:
    """Label and weight, (B, L, W + draws), of every token and word drawn, for every centre.

    `pairs` are (B, L, W). The draws, whose labels are 0, count as `negative` in each pair.
    """
    noise = pairs.sum(-1, keepdims=True) * (negative / draws)
    noise = jnp.broadcast_to(noise, (*pairs.shape[:2], draws))
    return jnp.concatenate([pairs, 0 * noise], -1), jnp.concatenate([pairs, noise], -1)


def loss(inputs, outputs, labels, weights) -> jax.Array:
    """The negative of the objective, summed: `inputs` v (B, L, D), `outputs` u (B, W, D)."""
    scores = jnp.einsum("bld,bwd->blw", inputs, outputs)
    return (weights * (jax.nn.softplus(scores) - labels * scores)).sum()


def slopes(inputs, outputs, labels, weights) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The gradients of the loss by `inputs` and `outputs`; and its second derivatives by the scores
    (B, L, W): the greatest ones on the way to the labels, as a score far on the wrong side, where
    the loss is straight, would seem to allow any step.
    """
    share = jax.nn.sigmoid(jnp.einsum("bld,bwd->blw", inputs, outputs))
    slope = weights * (share - labels)
    by_input = jnp.einsum("blw,bwd->bld", slope, outputs)
    by_output = jnp.einsum("blw,bld->bwd", slope, inputs)
    right = jnp.abs(share - labels) < 0.5
    return by_input, by_output, weights * jnp.where(right, share * (1 - share), 0.25)


def bent(moves, others, curve) -> jax.Array:
    """The curvature of the loss along the moves (B, L, D) of vectors, (B, L): `curve` (B, L, W) are
    second derivatives by their products with `others` (B, W, D).
    """
    found = (curve * jnp.einsum("bld,bwd->blw", moves, others) ** 2).sum(-1)
    return found / jnp.maximum((moves**2).sum(-1), TINY)


def moved(table: jax.Array, rows, before, gradients, rate, bend) -> jax.Array:
    """The table after a step along the gradients (..., D) of rows, whose vectors are `before`.

    Rows that come several times add up. Then a row's move is multiplied by (1 - exp(-x)) / x, where
    x is the rate times the curvature along it, which `bend` gives for moves (..., D): what small
    steps, each of which sees the ones before, come to where the loss is quadratic. Where x is small
    that is the plain step; where it is large the row does not overshoot.
    """
    table = table.at[rows].add(-rate * gradients)
    moves = table[rows] - before
    x = jnp.zeros(len(table)).at[rows].add(rate * bend(moves))[rows]
    share = jnp.where(x > 1e-4, -jnp.expm1(-x) / jnp.maximum(x, 1e-4), 1)
    return table.at[rows].set(before + share[..., None] * moves)


@functools.partial(jax.jit, donate_argnums=0, static_argnames="negative")
def steps(tables: Tables, batches: Batch, negative: int) -> tuple[Tables, jax.Array]:
    """One step of gradient descent for each of the `batches` (T, ...); also their sum of losses and
    number of pairs.
    """
    return jax.lax.scan(functools.partial(_step, negative=negative), tables, batches)


def _step(tables: Tables, batch: Batch, *, negative: int) -> tuple[Tables, jax.Array]:
    count, size = batch.reach.shape
    window = (batch.tokens.shape[1] - size) // 2
    rows, inputs = _inputs(tables["input"], batch, batch.tokens[:, window : window + size])
    words = jnp.concatenate([batch.tokens, batch.negatives], 1)
    outputs, pairs = tables["output"][words], near(batch).astype(inputs.dtype)
    labels, weights = weighted(pairs, batch.negatives.shape[1], negative)
    by_input, by_output, curve = slopes(inputs, outputs, labels, weights)
    bend = functools.partial(bent, others=outputs, curve=curve)
    before = inputs
    if batch.parts is not None:
        # fastText's code gives each part the whole gradient of their mean, not its share.
        _, owners, shares = batch.parts
        owners, real = jnp.minimum(owners, count * size - 1), shares > 0
        before = tables["input"][rows]
        by_input = by_input.reshape(count * size, -1)[owners] * real[:, None]
        of_means, bend = bend, lambda moves: of_means(_means(moves, batch)).ravel()[owners] * real
    back = functools.partial(bent, others=inputs, curve=curve.swapaxes(1, 2))
    tables = {
        "input": moved(tables["input"], rows, before, by_input, batch.rate, bend),
        "output": moved(tables["output"], words, outputs, by_output, batch.rate, back),
    }
    return tables, jnp.stack([loss(inputs, outputs, labels, weights), pairs.sum()])


def _inputs(table: jax.Array, batch: Batch, centres: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rows of the table that make the centres' vectors, and these (B, L, D)."""
    if batch.parts is None:
        return centres, table[centres]
    return batch.parts[0], _means(table[batch.parts[0]], batch)


def _means(rows: jax.Array, batch: Batch) -> jax.Array:
    """The means (B, L, D) of the rows (R, D) that each centre's vector has."""
    assert batch.parts is not None
    _, owners, shares = batch.parts
    count, size = batch.reach.shape
    found = jax.ops.segment_sum(rows * shares[:, None], owners, count * size)
    return found.reshape(count, size, -1)


class SkipGram(settings.SkipGram):
    """Skip-gram with these settings."""

    def prepare(self, corpus: Corpus) -> Any:
        """Nothing is computed before."""
        return None

    def begin(self, corpus: Corpus, material: Any, seed: int) -> Tables:
        """Small random input vectors; output vectors of 0."""
        return fresh(len(corpus.words), len(corpus.words), self.dim, 0.5, seed)

    def epoch(
        self, corpus: Corpus, material: Any, tables: Tables, epoch: int, seed: int
    ) -> tuple[Tables, float]:
        """The tables after one more pass over the texts, and the mean loss of a pair."""
        return passed(self, corpus, tables, epoch, seed, lambda tokens: None)

    def vectors(self, corpus: Corpus, material: Any, tables: Tables) -> np.ndarray:
        """The words' vectors (V, dim): the input vectors."""
        return np.asarray(tables["input"])


def fresh(inputs: int, outputs: int, dim: int, limit: float, seed: int) -> Tables:
    """Input vectors from -limit / dim to limit / dim; output vectors of 0."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(-limit / dim, limit / dim, (inputs, dim)).astype(np.float32)
    return {"input": jnp.asarray(rows), "output": jnp.zeros((outputs, dim), jnp.float32)}


def passed(
    how: Any, corpus: Corpus, tables: Tables, epoch: int, seed: int, parts
) -> tuple[Tables, float]:
    """The tables after one more pass over the texts, in an order that seed and epoch decide, and
    the mean loss of a pair. `parts` gives the `Batch.parts` of several batches' centres (T, B, L).
    """
    totals = []
    for batches in _calls(how, corpus, epoch, seed, parts):
        interrupt.check()
        tables, found = steps(tables, batches, how.negative)
        totals.append(found)
    value, pairs = np.concatenate(totals).astype(np.float64).sum(0)
    return tables, float(value / max(pairs, 1))


def _calls(how: Any, corpus: Corpus, epoch: int, seed: int, parts) -> Iterator[Batch]:
    """The batches of an epoch, `STEPS` at a time, the last ones filled up with empty stretches."""
    rng, window = np.random.default_rng((seed, epoch)), how.window
    shown = subsampled(corpus, how.sample, rng)
    if not len(shown.tokens):
        raise UserError(f"sample={how.sample:g} leaves out all words: take a larger one, or 0")
    tokens, texts = blocks(shown, BLOCK, window)
    order = rng.permutation(len(tokens))
    per_call = STEPS * how.blocks
    for first in range(0, len(order), per_call):
        rows = order[first : first + per_call]
        empty = (0, per_call - len(rows)), (0, 0)
        shape = STEPS, how.blocks, -1
        own = np.pad(tokens[rows], empty).reshape(shape)
        done = (epoch + (first + np.arange(STEPS) * how.blocks) / len(order)) / how.epochs
        yield Batch(
            own,
            np.pad(texts[rows], empty, constant_values=-1).reshape(shape),
            rng.integers(1, window + 1, (*shape[:2], BLOCK), np.int32),
            drawn(corpus.counts, (*shape[:2], BLOCK), rng),
            np.float32(how.rate * np.maximum(1 - done, LEAST)),
            parts(own[..., window : window + BLOCK]),
        )
