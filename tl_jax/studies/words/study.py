"""Vectors of words, learnt from the training texts of a task; labels are not used."""

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tl_jax.data.task import Task
from tl_jax.errors import UserError, unknown
from tl_jax.measure.embedding import FEWEST, METHODS
from tl_jax.runs.subject import task_of
from tl_jax.vectors import corpus as corpora
from tl_jax.vectors import judge, learn
from tl_jax.weights import vectors_file

VECTORS = "vectors.txt"  # the file in the results folder
NEAR = 6  # neighbours that are shown of a word
SHOWN = 12  # words whose neighbours are shown, if the config names none
MAPPED = 400  # words in the plane


def check(config: Any) -> None:
    """Raise UserError for a method, setting or map that does not exist."""
    learn.method(config.method, dict(config[config.method] if config.method in config else {}))
    for name in config.maps:
        if name not in METHODS:
            raise unknown("map", name, METHODS)


def data(config: Any) -> dict[str, Task]:
    """Return the task that a results folder belongs to; UserError for one without texts."""
    task = task_of(config, config.seed)
    if not task.texts:
        raise UserError(f"words are learnt from texts, and the task {task.name!r} has none")
    return {"": task}


def compute(config: Any, workdir: pathlib.Path) -> dict:
    """Learn the vectors as the config says, and write them; what is drawn is `material`."""
    started, task = time.monotonic(), data(config)[""]
    texts = (task.texts[row] for row in task.splits["train"])
    corpus = corpora.of_texts(texts, least=config.least, most=config.words)
    judge.require(config.shown, corpus.words)
    how = learn.method(config.method, dict(config[config.method]))
    vectors, losses = learn.learnt(how, corpus, seed=config.seed, folder=workdir / "checkpoints")
    vectors_file.write(workdir / VECTORS, vectors)
    space = judge.Space(vectors)
    names = [word for word in corpus.words if word.isalpha()]
    shown = tuple(config.shown) or spread([word for word in names if len(word) > 3], SHOWN)
    mapped = names[:MAPPED] if len(names) >= FEWEST else []
    rows = space.rows[[space.number[word] for word in mapped]]
    maps = config.maps if mapped else ()
    return {
        "method": config.method,
        "task": task.name,
        "words": len(corpus.words),
        "tokens": len(corpus.tokens),
        "losses": losses,
        "neighbours": {word: space.neighbours(word, NEAR) for word in shown},
        "seconds": time.monotonic() - started,
        "material": {
            "counts": {word: int(corpus.counts[space.find(word)]) for word in shown},
            "mapped": mapped,
            "points": {name: METHODS[name](rows, seed=config.seed) for name in maps},
        },
    }


def spread(words: Sequence[str], count: int) -> tuple[str, ...]:
    """Return words of all frequencies: as many between the first and the tenth, in order of
    frequency, as between the tenth and the hundredth, and so on.
    """
    places = np.geomspace(1, max(len(words), 1), count).astype(int) - 1
    return tuple(dict.fromkeys(words[place] for place in places if place < len(words)))
