"""Texts without labels, from which a language model learns."""

import os
import re
from collections.abc import Sequence

import numpy as np

from tl_jax.data import duplicates, tables
from tl_jax.data.files import path_of
from tl_jax.data.images import fingerprint
from tl_jax.data.splits import complete
from tl_jax.data.task import Task
from tl_jax.data.tasks.text import MOST, digest
from tl_jax.errors import UserError


def plain(path: str | os.PathLike, *, seed: int, val: float = 0.05, test: float = 0.05) -> Task:
    """A task of the paragraphs of a text file in UTF-8, which empty lines divide."""
    root = path_of(path)
    if not root.is_file():
        raise UserError(f"{str(root)!r} is no text file")
    if root.stat().st_size > MOST:
        raise UserError(f"{str(root)!r} has more than {MOST:,} bytes; take a part of it")
    with root.open("rb") as file:
        whole = "".join(tables.lines(file, root.name))
    paragraphs = [part.strip() for part in re.split(r"\n[ \t\r]*\n", whole)]
    return unlabelled(root.stem, [p for p in paragraphs if p], seed, val, test)


def python_help(*, seed: int, val: float = 0.1, test: float = 0.1) -> Task:
    """The topics of Python's own `help()`, which every Python ships."""
    from pydoc_data import topics

    texts = [topics.topics[name] for name in sorted(topics.topics)]
    return unlabelled("python_help", texts, seed, val, test)


def unlabelled(name: str, texts: Sequence[str], seed: int, val: float, test: float) -> Task:
    """A task of texts without labels, split at random."""
    if len(texts) < 3:
        raise UserError(f"{name!r} has {len(texts)} texts, and three splits need three")
    everything = {"train": np.arange(len(texts))}
    splits = complete(everything, np.zeros(len(texts), int), seed=seed, val=val, test=test)
    ids, digests = tuple(map(str, range(len(texts)))), [digest(text) for text in texts]
    duplicates.warn(name, digests, splits, noun="texts")
    return Task(
        name=name,
        ids=ids,
        texts=tuple(texts),
        truth={},
        splits=splits,
        fingerprint=fingerprint(ids, digests),
    )
