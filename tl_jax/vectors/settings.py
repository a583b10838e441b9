"""Settings of the methods: those of each one's own code. Nothing slow is imported here."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class SkipGram:
    """Of skip-gram, as in word2vec's code."""

    dim: int = 100
    window: int = 5  # words on either side at most: of each word a number drawn from 1 to it
    negative: int = 5
    sample: float = 1e-3  # frequency above which words are left out at random; 0: none is
    rate: float = 0.025  # of learning, at the beginning; it falls to 0
    epochs: int = 5
    blocks: int = 4  # of 32 tokens, in a step


@dataclasses.dataclass(frozen=True)
class FastText(SkipGram):
    """Of fastText, as in its code for skip-gram."""

    sample: float = 1e-4
    rate: float = 0.05
    least: int = 3  # characters of an n-gram, with the marks of the word's beginning and end
    most: int = 6
    buckets: int = 2_000_000


@dataclasses.dataclass(frozen=True)
class GloVe:
    """Of GloVe, as in its code and the demo that comes with it."""

    dim: int = 100
    window: int = 15
    x_max: float = 10.0  # 100 in the paper, whose texts have billions of words
    alpha: float = 0.75
    rate: float = 0.05
    epochs: int = 15


SETTINGS: dict[str, Any] = {"skip_gram": SkipGram, "glove": GloVe, "fasttext": FastText}
