"""A vocabulary: tokens by their ids, as fastai's `make_vocab` chooses them."""

import collections
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tl_jax.data.texts.rules import SPECIALS, UNK

FILLER = "xxfake"  # fills a vocabulary up; no token is ever it
_MULTIPLE = 8  # of which the number of rows is one, for the sake of GPUs


def vocabulary(
    texts: Iterable[Sequence[str]],
    *,
    min_freq: int = 3,
    max_vocab: int = 60_000,
    known: Sequence[str] = (),
) -> tuple[str, ...]:
    """Return the tokens of texts that occur `min_freq` times, the most frequent first, and then the
    tokens that are `known` already, in their order.

    The special tokens come before them and count among the `max_vocab`. One to eight fillers after
    them make the length a multiple of 8 (a length that is one gets eight). Without `known` it is
    fastai's.
    """
    counts = collections.Counter(token for text in texts for token in text)
    # The specials make room for themselves only among the most frequent, as in fastai.
    frequent = [token for token, n in counts.most_common(max_vocab) if n >= min_freq]
    found = dict.fromkeys((*SPECIALS, *frequent, *known))
    words = tuple(token for token in found if token not in ("", FILLER))[:max_vocab]
    return (*words, *[FILLER] * (_MULTIPLE - len(words) % _MULTIPLE))


def ids_of(words: Sequence[str]) -> dict[str, int]:
    """Return the id of each token; of a token that comes twice the last, as in fastai."""
    return {token: number for number, token in enumerate(words) if token != FILLER}


def numbers(tokens: Sequence[str], ids: Mapping[str, int]) -> np.ndarray:
    """Return the tokens' ids, (T,) int32; unknown ones are `xxunk`."""
    unknown = ids[UNK]
    return np.array([ids.get(token, unknown) for token in tokens], np.int32)
