"""Texts in which words of a topic stand among words of the same topic, but for some."""

import functools

import numpy as np

TOPICS = (tuple(f"sea{n}" for n in "abcdefgh"), tuple(f"hill{n}" for n in "abcdefgh"))


@functools.cache
def texts() -> tuple[str, ...]:
    """Texts of 30 words, nine in ten of one topic."""
    rng, found = np.random.default_rng(0), []
    for number in range(120):
        topics = (number + (rng.random(30) < 0.1)) % 2
        found.append(" ".join(TOPICS[topic][rng.integers(8)] for topic in topics))
    return tuple(found)


def apart(words: tuple[str, ...], rows: np.ndarray) -> bool:
    """Whether every word's nearest ones are the others of its topic."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    topic = np.array([word.startswith("sea") for word in words])
    near = np.argsort(-unit @ unit.T, 1)[:, 1 : len(TOPICS[0])]
    return bool((topic[near] == topic[:, None]).all())
