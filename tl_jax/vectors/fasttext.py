"""fastText (Bojanowski et al. 2017, arXiv:1607.04606): skip-gram with parts of words.

A word's vector is the mean of one of its own and one for each of its n-grams, so that words which
share a stem share what is learnt. n-grams are hashed into a number of buckets; only buckets that
the vocabulary's n-grams fall into have a row here.
"""

from typing import Any, NamedTuple

import numpy as np

from tl_jax.vectors import settings, skip_gram
from tl_jax.vectors.corpus import Corpus
from tl_jax.vectors.skip_gram import Tables

MULTIPLE = 4096  # to which the number of a step's rows is rounded up, so that few programs do


class Parts(NamedTuple):
    """The rows that make each word's vector."""

    rows: np.ndarray  # (P,) int32, word after word: its own, then those of its n-grams
    bounds: np.ndarray  # (V + 1,) where each word's begin
    count: int  # of rows of the table


def ngrams(word: str, least: int, most: int) -> list[str]:
    """The n-grams of "<word>" with `least` to `most` characters, but for "<" and ">" alone."""
    whole = f"<{word}>"
    return [
        whole[start : start + length]
        for start in range(len(whole))
        for length in range(least, most + 1)
        if start + length <= len(whole) and whole[start : start + length] not in ("<", ">")
    ]


def fnv(text: str) -> int:
    """The hash of fastText: FNV-1a of 32 bits, whose bytes from 128 on count as negative ones."""
    found = 2166136261
    for byte in text.encode():
        signed = byte if byte < 128 else byte | 0xFFFFFF00
        found = ((found ^ signed) * 16777619) & 0xFFFFFFFF
    return found


def parts_of(words: tuple[str, ...], *, least: int, most: int, buckets: int) -> Parts:
    """The rows of each word: its own is its number; those of n-grams follow, by their buckets."""
    row_of: dict[str, int] = {}
    numbers: dict[int, int] = {}  # of buckets
    rows, ends = [], [0]
    for number, word in enumerate(words):
        rows.append(number)
        for gram in ngrams(word, least, most):
            if gram not in row_of:
                row_of[gram] = len(words) + numbers.setdefault(fnv(gram) % buckets, len(numbers))
            rows.append(row_of[gram])
        ends.append(len(rows))
    return Parts(np.array(rows, np.int32), np.array(ends), len(words) + len(numbers))


def flat(parts: Parts, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `Batch.parts` (T, R) of the centres (T, B, L), filled up with rows that are nobody's."""
    words = centres.reshape(len(centres), -1)
    starts = parts.bounds[words]
    counts = parts.bounds[words + 1] - starts
    ends = np.cumsum(counts, 1)
    room = -(-int(ends[:, -1].max()) // MULTIPLE) * MULTIPLE
    rows = np.zeros((len(words), room), np.int32)
    owners, shares = np.full(rows.shape, words.shape[1], np.int32), np.zeros(rows.shape, np.float32)
    for step, total in enumerate(ends[:, -1]):
        owner = np.repeat(np.arange(words.shape[1], dtype=np.int32), counts[step])
        within = np.arange(total) - (ends[step] - counts[step])[owner]
        rows[step, :total] = parts.rows[starts[step][owner] + within]
        owners[step, :total], shares[step, :total] = owner, 1 / counts[step][owner]
    return rows, owners, shares


def means(parts: Parts, table: np.ndarray) -> np.ndarray:
    """The words' vectors (V, D): the means of their rows."""
    return np.add.reduceat(table[parts.rows], parts.bounds[:-1]) / np.diff(parts.bounds)[:, None]


class FastText(settings.FastText):
    """fastText with these settings."""

    def prepare(self, corpus: Corpus) -> Parts:
        """The words' parts."""
        sizes = {"least": self.least, "most": self.most, "buckets": self.buckets}
        return parts_of(corpus.words, **sizes)

    def begin(self, corpus: Corpus, material: Parts, seed: int) -> Tables:
        """Small random input vectors, of words and n-grams; output vectors of 0."""
        return skip_gram.fresh(material.count, len(corpus.words), self.dim, 1.0, seed)

    def epoch(
        self, corpus: Corpus, material: Parts, tables: Tables, epoch: int, seed: int
    ) -> tuple[Tables, float]:
        """The tables after one more pass over the texts, and the mean loss of a pair."""
        return skip_gram.passed(
            self, corpus, tables, epoch, seed, lambda centres: flat(material, centres)
        )

    def vectors(self, corpus: Corpus, material: Any, tables: Tables) -> np.ndarray:
        """The words' vectors (V, dim)."""
        return means(material, np.asarray(tables["input"])).astype(np.float32)
