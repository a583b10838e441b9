"""How near captions come to those that people wrote: BLEU and CIDEr-D.

Captions are sequences of words: the values are those of COCO's own code (pycocoevalcap 1.2) for the
same words, and depend on how texts become words. N images, each with one or several references.
"""

import collections
import math
from collections.abc import Sequence

import numpy as np

ORDERS = 4  # n-grams of 1 to 4 words
SIGMA = 6.0  # words, of the penalty for another length

Words = Sequence[str]


def ngrams(words: Words, n: int) -> collections.Counter:
    """Return how often each n-gram occurs."""
    return collections.Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu_counts(told: Words, references: Sequence[Words]) -> np.ndarray:
    """Return what BLEU adds up over images, (2 ORDERS + 2,): n-grams that are right, n-grams, the
    caption's length, and that of the reference nearest in length (of two, the shorter).
    """
    right, count = [], []
    for n in range(1, ORDERS + 1):
        own = ngrams(told, n)
        most: collections.Counter = collections.Counter()
        for reference in references:
            most |= ngrams(reference, n)
        right.append(sum((own & most).values()))
        count.append(sum(own.values()))
    nearest = min((abs(len(r) - len(told)), len(r)) for r in references)[1]
    return np.array([*right, *count, len(told), nearest], np.float64)


def bleu(counts: np.ndarray) -> list[float]:
    """Return BLEU-1 to BLEU-4 of a corpus, of the sum (2 ORDERS + 2,) of `bleu_counts` (Papineni et
    al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL).

    0 where no n-gram is right; nothing is smoothed.
    """
    right, count = counts[:ORDERS], counts[ORDERS : 2 * ORDERS]
    length, nearest = counts[2 * ORDERS :]
    if not length:
        return [0.0] * ORDERS
    brevity = min(1.0, math.exp(1 - nearest / length))
    with np.errstate(divide="ignore"):
        logs = np.log(right / np.maximum(count, 1))
    return [brevity * math.exp(logs[:n].mean()) for n in range(1, ORDERS + 1)]


def cider_d(told: Sequence[Words], references: Sequence[Sequence[Words]]) -> np.ndarray:
    """Return CIDEr-D (N,) of each caption; its mean is the corpus's (Vedantam et al. 2015,
    arXiv:1411.5726, section 5 and its supplement).

    The weight of an n-gram is its number times log(N / images whose references have it), counted
    over these references: values of two test sets, and of parts of one, are not comparable. With
    one image all weights are 0.
    """
    found: collections.Counter = collections.Counter()
    for own in references:
        found.update({gram for ref in own for n in range(1, ORDERS + 1) for gram in ngrams(ref, n)})
    whole = math.log(max(len(references), 1))

    def weight(gram: tuple) -> float:
        return whole - math.log(max(1, found[gram]))

    def weighed(words: Words) -> list[dict[tuple, float]]:
        counted = (ngrams(words, n) for n in range(1, ORDERS + 1))
        return [{gram: k * weight(gram) for gram, k in own.items()} for own in counted]

    scores = []
    for words, own in zip(told, references, strict=True):
        mine = weighed(words)
        pairs = [_alike(mine, weighed(ref), _longer(words, ref)) for ref in own]
        scores.append(10 * float(np.mean(pairs)))
    return np.array(scores)


def _longer(words: Words, reference: Words) -> int:
    """Return the difference of two lengths, counted in pairs of words as COCO's code does."""
    return max(len(words) - 1, 0) - max(len(reference) - 1, 0)


def _alike(
    told: Sequence[dict[tuple, float]], reference: Sequence[dict[tuple, float]], longer: int
) -> float:
    """Return the mean over n of the clipped cosine of weighed n-grams, less for another length."""
    cosines = []
    for mine, theirs in zip(told, reference, strict=True):
        shared = mine.keys() & theirs.keys()
        common = sum(min(mine[gram], theirs[gram]) * theirs[gram] for gram in shared)
        norms = [math.sqrt(sum(x * x for x in own.values())) for own in (mine, theirs)]
        cosines.append(common / math.prod(norms) if all(norms) else 0.0)
    return float(np.mean(cosines)) * math.exp(-(longer**2) / (2 * SIGMA**2))


def evaluate(told: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """Return `bleu1` to `bleu4`, `cider`, and `exact`, the share that is a reference word for
    word.
    """
    counts = [bleu_counts(*pair) for pair in zip(told, references, strict=True)]
    named = {f"bleu{n}": value for n, value in enumerate(bleu(np.sum(counts, 0)), 1)}
    exact = [tuple(one) in map(tuple, own) for one, own in zip(told, references, strict=True)]
    return named | {
        "cider": float(cider_d(told, references).mean()),
        "exact_captions": float(np.mean(exact)),
    }
