"""Texts as one stream of tokens in windows, which a language model reads."""

import dataclasses
import hashlib

import numpy as np

from tl_jax.data.task import SPLITS, Task
from tl_jax.data.texts.preprocessing import TOKENS, TextPreprocessing
from tl_jax.errors import UserError, takes_whole


def of_texts(task: Task, expects: TextPreprocessing, *, window: int, seed: int) -> Task:
    """The stream of a task's texts: examples are windows of so many tokens, and what is true of
    them are the tokens that come next, "targets" and "weights" (N, window).

    The texts of a split follow each other, whole, in an order that the seed decides. Behind the
    last one of a split stands padding, which weighs 0. UserError for a split without a window.
    """
    takes_whole(window, "window=", 1, 2**16)
    rng, parts, ends = np.random.default_rng(seed), [], []
    for split in SPLITS:
        texts = [task.texts[row] for row in rng.permutation(task.splits[split])]
        tokens = np.concatenate(expects.rows(texts)) if texts else np.zeros(0, np.int32)
        if len(tokens) < 2:
            raise UserError(f"{task.name!r} has no text in {split}, and a stream needs some")
        parts.append(_windows(tokens, window, expects.pad))
        ends.append(len(parts[-1][0]) + (ends[-1] if ends else 0))
    inputs, targets, weights = (np.concatenate(each) for each in zip(*parts, strict=True))
    key = f"{task.fingerprint} {expects.fingerprint()} {window} {seed}"
    return dataclasses.replace(
        task,
        classes=(),
        ids=tuple(map(str, range(len(inputs)))),
        texts=(),
        arrays={TOKENS: inputs},
        truth={"targets": targets, "weights": weights},
        splits=dict(zip(SPLITS, np.split(np.arange(len(inputs)), ends[:-1]), strict=True)),
        fingerprint=hashlib.sha256(key.encode()).hexdigest(),
        ordered=True,
    )


def _windows(tokens: np.ndarray, window: int, pad: int) -> tuple[np.ndarray, ...]:
    """Tokens, those that come next, and their weights, (N, window) each."""
    count = -(-(len(tokens) - 1) // window)
    padded = np.full(count * window + 1, pad, np.int32)
    padded[: len(tokens)] = tokens
    weights = (np.arange(count * window) < len(tokens) - 1).astype(np.float32)
    parts = padded[:-1], padded[1:], weights
    return tuple(part.reshape(count, window) for part in parts)
