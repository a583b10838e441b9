"""Texts as numbers of words, from which vectors are learnt."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tl_jax import interrupt
from tl_jax.data.texts.split import lower_words_of
from tl_jax.errors import UserError


class Corpus(NamedTuple):
    """The words of texts that occur often enough; others are as if they were not there."""

    words: tuple[str, ...]  # (V,) the most frequent first
    counts: np.ndarray  # (V,) int64
    tokens: np.ndarray  # (N,) int32: the words' numbers, text after text
    texts: np.ndarray  # (N,) int32: the number of the text that each token is of


def of_texts(texts: Iterable[str], *, least: int, most: int = 0) -> Corpus:
    """The words, in lower case, that occur `least` times; at most `most` of them, if not 0.

    UserError for texts without two such words.
    """
    numbers: dict[str, int] = {}
    parts = []
    for text in texts:
        interrupt.check()
        found = (numbers.setdefault(word, len(numbers)) for word in lower_words_of(text))
        parts.append(np.fromiter(found, np.int32))
    tokens = np.concatenate(parts) if parts else np.zeros(0, np.int32)
    counts = np.bincount(tokens, minlength=len(numbers))
    order = np.argsort(-counts, kind="stable")[: most or None]
    order = order[counts[order] >= least]
    if len(order) < 2:
        raise UserError(f"the texts have {len(order)} words that occur {least} times: take least=1")
    ranks = np.full(len(numbers), -1, np.int32)
    ranks[order] = np.arange(len(order))
    tokens = ranks[tokens]
    of_text = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    names, kept = tuple(numbers), tokens >= 0
    return Corpus(
        tuple(names[number] for number in order), counts[order], tokens[kept], of_text[kept]
    )


def subsampled(corpus: Corpus, threshold: float, rng: np.random.Generator) -> Corpus:
    """The corpus with some occurrences of frequent words left out at random; all with 0.

    A word of frequency f is kept with the probability (sqrt(f / t) + 1) t / f: that of word2vec's
    code, while its paper (Mikolov et al. 2013, arXiv:1310.4546, section 2.3) says sqrt(t / f).
    """
    if not threshold:
        return corpus
    share = corpus.counts / corpus.counts.sum() / threshold
    kept = rng.random(len(corpus.tokens)) < ((np.sqrt(share) + 1) / share)[corpus.tokens]
    return corpus._replace(tokens=corpus.tokens[kept], texts=corpus.texts[kept])


def blocks(corpus: Corpus, size: int, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and the texts they are of, (M, window + size + window) each: stretches of `size`
    tokens that follow each other, with the tokens around them. Beyond the ends the text is -1.
    """
    count = -(-len(corpus.tokens) // size)
    beyond = (window, count * size - len(corpus.tokens) + window)
    tokens, texts = (
        np.lib.stride_tricks.sliding_window_view(
            np.pad(values, beyond, constant_values=fill), size + 2 * window
        )[::size]
        for values, fill in ((corpus.tokens, 0), (corpus.texts, -1))
    )
    return tokens, texts


def drawn(counts: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Words, int32, with probabilities in proportion to their counts to the power of 3/4."""
    bounds = np.cumsum(np.asarray(counts, np.float64) ** 0.75)
    found = np.searchsorted(bounds, rng.random(shape) * bounds[-1], side="right")
    return np.minimum(found, len(counts) - 1).astype(np.int32)
