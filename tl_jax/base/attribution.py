"""Which words of a text an answer rests on."""

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tl_jax.base.base import Base
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError

PIECE = re.compile(r"\s*\S+\s*")


def word_weights(base: Base, text: str, answer: int) -> list[tuple[str, float]]:
    """Return the words of a text in order, with the space beside them, and each one's weight for
    the class `answer`: positive if it speaks for it.

    A word's weight is that of its tokens: the logit's gradient times the token's vector, as the
    first layer gives it (Denil et al. 2014, arXiv:1412.6815, section 3; gradient x input). Words
    that the base does not read, because the text is too long, weigh 0. UserError for a base that
    reads no texts.
    """
    preprocessing = base.preprocessing
    if not isinstance(preprocessing, TextPreprocessing):
        raise UserError(f"{base.name} reads images: only words can be weighed")
    shown, spans = preprocessing.spans(text)
    vectors = base(preprocessing(text), layer=base.layers[0])
    of_tokens = np.asarray(_weighed(base.chain, base.variables, vectors, answer))[0]
    weights = np.zeros(len(shown))  # by character
    for (start, stop), weight in zip(spans, of_tokens, strict=False):
        if stop > start:
            weights[start:stop] += weight / (stop - start)
    pieces = [match.span() for match in PIECE.finditer(shown)]
    return [(shown[start:stop], float(weights[start:stop].sum())) for start, stop in pieces]


@functools.partial(jax.jit, static_argnames="chain")
def _weighed(chain: Any, variables: Any, vectors: jax.Array, answer: int) -> jax.Array:
    """The weights (N, T) of tokens with these vectors (N, T, D)."""

    def logit(vectors: jax.Array) -> jax.Array:
        return chain.apply(variables, vectors, start=chain.names[0]).output[:, answer].sum()

    return jnp.sum(jax.grad(logit)(vectors) * vectors, -1)
