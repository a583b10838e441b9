"""GloVe (Pennington et al. 2014, EMNLP, "Global Vectors for Word Representation").

X_ij is how often the words i and j stand near each other, each time weighted by 1 / distance. Two
vectors and two biases a word are fitted to it: the sum over X_ij > 0 of f(X_ij) (w_i w'_j + b_i +
b'_j - log X_ij)^2 is minimised by AdaGrad, where f(x) = min(1, (x / x_max)^alpha). The vector of a
word is w + w'.

As in its code, AdaGrad divides by the root of 1 plus the squares of the past steps, rate times
gradient, whose parts are clipped. Pairs go in batches: what a word has in several of a batch adds
up, while the code takes them one after the other.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

from tl_jax import interrupt
from tl_jax.vectors import settings
from tl_jax.vectors.corpus import Corpus

CHUNK = 2**19  # tokens whose pairs are counted at once
BATCH = 1024  # pairs of a step
STEPS = 256  # of a call
CLIP = 100.0  # of a gradient's parts, as in the code

Tables = dict[str, jax.Array]  # "centre", "context": (V, 2, dim + 1)


def counted(corpus: Corpus, window: int) -> scipy.sparse.csr_array:
    """X (V, V), symmetric: for every two tokens of a text, at most `window` apart, 1 / distance."""
    size, total = len(corpus.words), None
    for first in range(0, len(corpus.tokens), CHUNK):
        interrupt.check()
        tokens = corpus.tokens[first : first + CHUNK + window]
        texts = corpus.texts[first : first + CHUNK + window]
        rows, columns, values = [], [], []
        for distance in range(1, min(window, len(tokens) - 1) + 1):
            left = np.arange(min(CHUNK, len(tokens) - distance))
            left = left[texts[left] == texts[left + distance]]
            rows.append(tokens[left])
            columns.append(tokens[left + distance])
            values.append(np.full(len(left), 1 / distance))
        if rows:
            places = np.concatenate(rows), np.concatenate(columns)
            found = scipy.sparse.coo_array((np.concatenate(values), places), (size, size)).tocsr()
            total = found if total is None else total + found
    total = scipy.sparse.csr_array((size, size)) if total is None else total
    return (total + total.T).tocsr()


def loss(centre, context, logs, weights) -> jax.Array:
    """The sum over pairs of weight times squared error.

    `centre` and `context` are vector and bias (B, dim + 1); `logs` of X, `weights` f(X) are (B,).
    """
    found = (centre[:, :-1] * context[:, :-1]).sum(-1) + centre[:, -1] + context[:, -1]
    return 0.5 * (weights * (found - logs) ** 2).sum()


@functools.partial(jax.jit, donate_argnums=0)
def steps(tables: Tables, batches: Any, rate: float) -> tuple[Tables, jax.Array]:
    """A step of AdaGrad for each of the `batches`: i, j, log X, f(X), (T, B) each; also the losses.

    Of a word's row in a table the first part is vector and bias, the second AdaGrad's sums.
    """

    def step(tables, batch):
        centres, contexts, logs, weights = batch
        words = {"centre": centres, "context": contexts}
        rows = {name: tables[name][words[name]] for name in words}
        value, slopes = jax.value_and_grad(loss, (0, 1))(
            rows["centre"][:, 0], rows["context"][:, 0], logs, weights
        )
        for name, slope in zip(words, slopes, strict=True):
            move = rate * jnp.clip(slope, -CLIP, CLIP)
            change = jnp.stack([-move / jnp.sqrt(rows[name][:, 1]), move**2], 1)
            tables = tables | {name: tables[name].at[words[name]].add(change)}
        return tables, value

    return jax.lax.scan(step, tables, batches)


class GloVe(settings.GloVe):
    """GloVe with these settings."""

    def prepare(self, corpus: Corpus) -> scipy.sparse.coo_array:
        """The counts X, of pairs that there are."""
        return counted(corpus, self.window).tocoo()

    def begin(self, corpus: Corpus, material: Any, seed: int) -> Tables:
        """Small random vectors and biases; AdaGrad's sums are 1."""
        rng, shape = np.random.default_rng(seed), (len(corpus.words), self.dim + 1)
        tables = {}
        for name in ("centre", "context"):
            rows = rng.uniform(-0.5 / self.dim, 0.5 / self.dim, shape)
            tables[name] = jnp.asarray(np.stack([rows, np.ones(shape)], 1), jnp.float32)
        return tables

    def epoch(
        self, corpus: Corpus, material: Any, tables: Tables, epoch: int, seed: int
    ) -> tuple[Tables, float]:
        """The tables after one more pass over the pairs, and the mean loss of one."""
        order = np.random.default_rng((seed, epoch)).permutation(material.nnz)
        count, values = min(STEPS, -(-len(order) // BATCH)), []
        per_call = count * BATCH
        for first in range(0, len(order), per_call):
            interrupt.check()
            rows = order[first : first + per_call]
            counts = material.data[rows]
            batch = (
                *(material.coords[axis][rows].astype(np.int32) for axis in range(2)),
                np.log(counts).astype(np.float32),
                np.minimum(1, (counts / self.x_max) ** self.alpha).astype(np.float32),
            )
            # Pairs that fill a call up weigh 0, so that they change nothing.
            full = [np.pad(part, (0, per_call - len(rows))).reshape(count, BATCH) for part in batch]
            tables, found = steps(tables, tuple(full), self.rate)
            values.append(found)
        total = np.concatenate(values).astype(np.float64).sum() if values else 0.0
        return tables, float(total / max(len(order), 1))

    def vectors(self, corpus: Corpus, material: Any, tables: Tables) -> np.ndarray:
        """The words' vectors (V, dim): both of each, added up."""
        return np.asarray(tables["centre"][:, 0, :-1] + tables["context"][:, 0, :-1])
