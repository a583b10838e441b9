"""Batches of texts that are about as long, without the padding behind them.

Where all texts are as long as the longest, most of what a base computes may be padding.
"""

from collections.abc import Iterator

import numpy as np

LEAST = 16  # tokens: a batch has so many, or twice, four times, ... as many; few lengths to compile


def batches(tokens: np.ndarray, *, pad: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of tokens (N, T) in batches of `size` at most, the shortest first: their
    numbers (B,), and as much of them (B, L) as is not padding in all rows, rounded up.
    """
    lengths = tokens.shape[1] - np.argmax((tokens != pad)[:, ::-1], axis=1)
    lengths[~(tokens != pad).any(1)] = 1
    order = np.argsort(lengths, kind="stable")
    for first in range(0, len(order), size):
        numbers = order[first : first + size]
        length = LEAST
        while length < lengths[numbers[-1]]:
            length *= 2
        yield numbers, tokens[numbers, :length]
