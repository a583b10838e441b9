"""What bases of texts give to a head that reads words: vectors of captions, vectors of words."""

import dataclasses
import logging

import numpy as np

from tl_jax import models
from tl_jax.base.base import Base
from tl_jax.base.load import is_path, load_base
from tl_jax.chain.variables import flat, nested
from tl_jax.chain.words import EMBED, TEXTS
from tl_jax.data.files import path_of
from tl_jax.data.task import Task
from tl_jax.data.texts import lengths
from tl_jax.data.texts.preprocessing import TextPreprocessing
from tl_jax.errors import UserError
from tl_jax.weights.files import is_export

logger = logging.getLogger(__name__)

BATCH = 64  # captions that an encoder reads at once


def with_vectors(task: Task, encoder: Base) -> Task:
    """Return the task with an encoder's vectors (N, K, D) of its captions at the place `texts`;
    zeros where an image has fewer than K. UserError for a base that reads no texts.
    """
    expects = _texts_of(encoder)
    there = task.truth["same"] >= 0
    tokens = expects([caption for own in task.captions for caption in own])
    found = np.zeros((len(tokens), encoder.features(tokens[:1]).shape[-1]), np.float32)
    for numbers, rows in lengths.batches(tokens, pad=expects.pad, size=BATCH):
        padded = np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows), 0)])
        found[numbers] = np.asarray(encoder.features(padded))[: len(rows)]
    vectors = np.zeros((*there.shape, found.shape[-1]), np.float32)
    vectors[there] = found
    return dataclasses.replace(task, arrays={**task.arrays, TEXTS: vectors})


def begun_with(base: Base, words: tuple[str, ...], source: str) -> Base:
    """Return the base whose head's vectors of these words are those that `source` has for them: a
    base of texts by name or path, or a file of vectors. Other words keep their fresh ones.

    UserError for vectors of another width than the head's.
    """
    texts = _loaded(source)
    known_words = _texts_of(texts).words()
    path = f"{EMBED}/table"
    leaves = flat(base.variables["params"])
    if path not in leaves:
        raise UserError(f"words_from={source}: this head has no vectors of words of its own")
    where: str = getattr(models.family(texts.name), "TABLE", "embed/table")
    theirs = np.asarray(flat(texts.variables["params"])[where])
    table = np.array(leaves[path])
    if theirs.shape[1] != table.shape[1]:
        raise UserError(
            f"words_from={source} has vectors of {theirs.shape[1]} numbers, and the head's have "
            f"{table.shape[1]}: take features={theirs.shape[1]} in head="
        )
    number = {word: row for row, word in enumerate(known_words) if word}
    known = [(row, number[word]) for row, word in enumerate(words) if word in number]
    if known:
        ours, rows = map(list, zip(*known, strict=True))
        scale = table.std() / max(theirs[rows].std(), 1e-6)  # of fresh ones, as the rest stays so
        table[ours] = theirs[rows] * scale
    logger.info("%s: %d of %d words begin with its vectors", source, len(known), len(words))
    params = nested({**leaves, path: table})
    return dataclasses.replace(base, variables={**base.variables, "params": params})


def _loaded(source: str) -> Base:
    """Return a base by its name or path, or the vectors in a file."""
    path = path_of(source)
    if is_path(source) and path.is_file() and not is_export(path):
        return load_base("word_vectors", path)
    return load_base(source)


def _texts_of(base: Base) -> TextPreprocessing:
    if not isinstance(base.preprocessing, TextPreprocessing):
        raise UserError(f"{base.name} reads images, and this asks for a base that reads texts")
    return base.preprocessing
