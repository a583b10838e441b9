"""Vectors of words, learnt from a corpus by one of the `METHODS`, an epoch at a time."""

import logging
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from tl_jax import registry
from tl_jax.errors import UserError, takes, takes_types, takes_whole, unknown
from tl_jax.vectors.corpus import Corpus
from tl_jax.vectors.fasttext import FastText
from tl_jax.vectors.glove import GloVe
from tl_jax.vectors.skip_gram import SkipGram
from tl_jax.weights.reading import reading
from tl_jax.weights.vectors_file import WIDEST, Vectors
from tl_jax.whole import whole

logger = logging.getLogger(__name__)

# A method is a value: its settings, and functions that prepare a corpus, begin, learn for an epoch
# and give the vectors.
METHODS: dict[str, Any] = {"skip_gram": SkipGram, "glove": GloVe, "fasttext": FastText}


def method(name: str, settings: dict[str, Any]) -> Any:
    """The method of this name with these settings; UserError for what is none."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    registry.require_options(f"method {name!r}", settings, registry.parameters(METHODS[name]))
    found = METHODS[name](**settings)
    takes_types(found)
    most = {"dim": WIDEST, "window": 1000, "negative": 1000, "epochs": 10_000, "blocks": 2**12}
    most |= {"most": 100, "buckets": 2**31}
    for setting, value in settings.items():
        if setting in most:
            takes_whole(value, f"{name}.{setting}=", 1, most[setting])
        elif setting != "sample":
            takes(0 < value < np.inf, f"{name}.{setting}=", "a number above 0", value)
    if isinstance(found, FastText) and found.least > found.most:
        raise UserError(f"fasttext.least={found.least} is more than most={found.most}")
    return found


def learnt(how: Any, corpus: Corpus, *, seed: int, folder: pathlib.Path) -> tuple[Vectors, list]:
    """The vectors of the corpus's words, and the mean loss of each epoch.

    Each epoch is kept in `folder`, so that the same call after an interruption goes on from there,
    to the same numbers; at the end the folder is removed.
    """
    material = how.prepare(corpus)
    fresh = how.begin(corpus, material, seed)
    tables, losses = _kept(folder, fresh) or (fresh, [])
    for epoch in range(len(losses), how.epochs):
        tables, loss = how.epoch(corpus, material, tables, epoch, seed)
        if not np.isfinite(loss):
            raise UserError(f"the loss is {loss} in epoch {epoch + 1}: take a smaller rate=")
        losses.append(loss)
        logger.info("epoch %d of %d: loss %.4f", epoch + 1, how.epochs, loss)
        _keep(folder, tables, losses)
    vectors = Vectors(corpus.words, how.vectors(corpus, material, tables))
    shutil.rmtree(folder, ignore_errors=True)
    return vectors, losses


def _keep(folder: pathlib.Path, tables: dict[str, Any], losses: list[float]) -> None:
    """Write the state after an epoch, whole or not at all; then the one before can go."""
    folder.mkdir(parents=True, exist_ok=True)
    before = list(folder.glob("*"))
    path = folder / f"words_step{len(losses)}.npz"
    arrays: dict[str, Any] = {name: np.asarray(table) for name, table in tables.items()}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, losses=losses, **arrays)
    for old in before:
        old.unlink(missing_ok=True)


def _kept(
    folder: pathlib.Path, fresh: Mapping[str, Any]
) -> tuple[dict[str, Any], list[float]] | None:
    """The newest state that was kept, if there is one; UserError if it is not such as the `fresh`
    tables.
    """
    named = [path.stem.removeprefix("words_step") for path in folder.glob("words_step*.npz")]
    steps = [int(number) for number in named if number.isdecimal()]
    if not steps:
        return None
    path = folder / f"words_step{max(steps)}.npz"
    with reading(path, cure="delete it to begin anew"), np.load(path) as found:
        arrays = dict(found)
        losses = arrays.pop("losses").astype(float).reshape(max(steps)).tolist()
        shapes = [{n: (t.shape, t.dtype) for n, t in own.items()} for own in (arrays, fresh)]
        if shapes[0] != shapes[1]:
            raise ValueError("it holds other tables")
        tables = {name: jnp.asarray(table) for name, table in arrays.items()}
    logger.info("going on after epoch %d", len(losses))
    return tables, losses
