"""Captions as words, and words as numbers."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np

from tl_jax.data.texts.split import lower_words_of
from tl_jax.errors import UserError

# Numbers of what is no word: 0 stands behind a caption
NONE, BEGIN, END, UNKNOWN = range(4)
SPECIALS = ("", "<begin>", "<end>", "<unknown>")
MOST_NUMBERS = 2**30  # of all captions of a task, padded to the longest


def words_in(caption: str) -> tuple[str, ...]:
    """Return the words of a caption in lower case, without punctuation, as captions are judged
    (Chen et al. 2015, arXiv:1504.00325, section 4).
    """
    return tuple(word for word in lower_words_of(caption) if any(map(str.isalnum, word)))


def vocabulary(captions: Iterable[Sequence[str]], *, least: int, most: int) -> tuple[str, ...]:
    """Return the special words, and then those that occur `least` times, the most frequent first;
    `most` in all.
    """
    counts = collections.Counter(word for caption in captions for word in caption)
    frequent = [word for word, count in counts.most_common() if count >= least]
    return (*SPECIALS, *frequent)[:most]


def numbered(
    captions: Sequence[Sequence[Sequence[str]]], words: Sequence[str], *, longest: int
) -> np.ndarray:
    """Return the numbers int32 (N, K, T + 2) of the words of up to K captions of each image,
    between `BEGIN` and `END`, with `NONE` behind. T is the length of the longest caption, `longest`
    at most: of a longer one the first words are kept, and no end.

    UserError where that would be more than `MOST_NUMBERS`.
    """
    number = {word: place for place, word in enumerate(words)}
    each = max(map(len, captions))
    length = min(longest, max(len(caption) for own in captions for caption in own))
    if len(captions) * each * (length + 2) > MOST_NUMBERS:
        raise UserError(
            f"{len(captions):,} images with up to {each:,} captions of {length} words take too "
            "much memory: take fewer captions an image, or a smaller longest="
        )
    found = np.full((len(captions), each, length + 2), NONE, np.int32)
    for rows, own in zip(found, captions, strict=True):
        for row, caption in zip(rows, own, strict=False):
            told = [number.get(word, UNKNOWN) for word in caption[:length]]
            ends = [END] if len(caption) <= length else []
            row[: len(told) + 1 + len(ends)] = [BEGIN, *told, *ends]
    return found


def told(numbers: Sequence[int], words: Sequence[str]) -> tuple[str, ...]:
    """Return the words that these numbers (T,) are, up to the end."""
    kept = []
    for number in numbers:
        if number in (NONE, END):
            break
        kept.append(words[number])
    return tuple(kept)
