"""What a captioner tells of an image: beam search, as one compiled program.

Shapes are static: every caption has `steps` places, of which those behind its end are 0.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.chain.network import Net
from tl_jax.chain.places import Known
from tl_jax.chain.recurrent import first_states
from tl_jax.chain.words import EMBED, READ, WORDS


class Marks(NamedTuple):
    """Numbers of the words that are none, beside 0."""

    begin: int
    end: int
    never: tuple[int, ...]  # are not told


class Told(NamedTuple):
    """Captions (B, steps), and the logarithm of the probability of each, its end included (B,)."""

    words: Any
    log_p: Any


class Beams(NamedTuple):
    """`beam` captions of each image that have begun, (B, beam, ...)."""

    words: jax.Array  # (B, beam, steps)
    log_p: jax.Array
    last: jax.Array  # the newest word of each
    ended: jax.Array
    states: Any


def told(
    net: Net,
    known: Mapping[str, Any],
    *,
    marks: Marks,
    steps: int,
    beam: int = 3,
    length: float = 0.0,
    output: str = "head",
) -> Told:
    """Return the best captions of the images at the places `known`, by beam search; greedily if
    `beam` is 1.

    The best has the greatest log-probability over the number of its words, with its end, to the
    power `length`: 0 does not normalise, 1 takes the mean of a word (Wu et al. 2016,
    arXiv:1609.08144, section 7, with another denominator).
    """
    known = {place: value for place, value in known.items() if place != WORDS}
    rows = len(jax.tree.leaves(known)[0])
    states = first_states(net.network, rows)
    begun = Known({**known, **states, WORDS: jnp.full((rows, 1, 1), marks.begin, jnp.int32)})
    log_p, states = _next(net, begun, states, output, marks)
    first, states = jax.tree.map(lambda a: a[:, None], (log_p, states))  # of one beam
    whole = Beams(
        jnp.zeros((rows, 1, steps), jnp.int32),
        jnp.zeros((rows, 1)),
        jnp.zeros((rows, 1), jnp.int32),
        jnp.zeros((rows, 1), bool),
        states,
    )
    whole = _extended(whole, first, 0, beam, marks)
    step = functools.partial(_step, net, output, beam, marks)
    whole, _ = jax.lax.scan(step, whole, jnp.arange(1, steps))
    counts = jnp.maximum((whole.words > 0).sum(-1), 1)
    best = (whole.log_p / counts**length).argmax(1)[:, None]
    words = jnp.take_along_axis(whole.words, best[..., None], 1)[:, 0]
    return Told(words, jnp.take_along_axis(whole.log_p, best, 1)[:, 0])


def _next(net: Net, known: Known, states: Any, output: str, marks: Marks) -> tuple[Any, Any]:
    """Return the log-probabilities (rows, V) of the word after the last one, and the states."""
    names = [place.removesuffix(".state") for place in states]
    *values, logits = net(known, (*names, output), train=False)
    logits = logits[:, -1].astype(jnp.float32)
    never = jnp.array([0, marks.begin, *marks.never])
    log_p = jax.nn.log_softmax(logits).at[:, never].set(-jnp.inf)
    after = {f"{name}.state": value["state"] for name, value in zip(names, values, strict=True)}
    return log_p, jax.tree.map(lambda new, old: new.astype(old.dtype), after, states)


def _step(net: Net, output: str, beam: int, marks: Marks, whole: Beams, number: Any):
    """Return the captions with a word more, in the form that `jax.lax.scan` asks for."""
    rows = len(whole.last)
    vectors = net(Known({WORDS: whole.last[..., None]}), EMBED, train=False)  # (B, beam, 1, D)
    flat = jax.tree.map(lambda a: a.reshape(rows * beam, *a.shape[2:]), whole.states)
    known = Known({READ: vectors.reshape(rows * beam, 1, -1), **flat})
    log_p, states = _next(net, known, flat, output, marks)
    log_p, states = jax.tree.map(lambda a: a.reshape(rows, beam, *a.shape[1:]), (log_p, states))
    return _extended(whole._replace(states=states), log_p, number, beam, marks), None


def _extended(whole: Beams, log_p: jax.Array, number: Any, beam: int, marks: Marks) -> Beams:
    """Return the best `beam` captions that these make with a next word, by its log-probabilities
    (B, beams, V). Those that have ended stay as they are: 0 comes next, and costs nothing.
    """
    rows, _, size = log_p.shape
    stays = jnp.where(jnp.arange(size) == 0, 0.0, -jnp.inf)
    log_p = jnp.where(whole.ended[..., None], stays, log_p)
    totals = (whole.log_p[..., None] + log_p).reshape(rows, -1)
    if totals.shape[1] < beam:  # a vocabulary smaller than the beam
        totals = jnp.pad(totals, ((0, 0), (0, beam - totals.shape[1])), constant_values=-jnp.inf)
    best, chosen = jax.lax.top_k(totals, beam)
    came = jnp.minimum(chosen // size, whole.last.shape[1] - 1)
    last = chosen % size

    def kept(a: jax.Array) -> jax.Array:
        index = came.reshape(rows, beam, *[1] * (a.ndim - 2))
        return jnp.take_along_axis(a, index, 1)

    words, ended, states = jax.tree.map(kept, (whole.words, whole.ended, whole.states))
    words = words.at[:, :, number].set(jnp.where(ended, 0, last))
    return Beams(words, best, last, ended | (last == marks.end), states)
