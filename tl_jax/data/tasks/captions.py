"""A task of images with captions, from a table with one in each row."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph

from tl_jax import interrupt
from tl_jax.data import duplicates as same
from tl_jax.data import tables
from tl_jax.data.files import path_of
from tl_jax.data.images import Image, fingerprint, open_image
from tl_jax.data.splits import complete
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.tasks import folder
from tl_jax.data.tasks.table import placed
from tl_jax.data.texts.captions import numbered, vocabulary, words_in
from tl_jax.errors import UserError, takes, takes_whole, unknown

logger = logging.getLogger(__name__)

APART, MIXED = "apart", "mixed"
MOST_WORDS = 100_000


class Captioned(NamedTuple):
    """What is known of an image."""

    captions: tuple[str, ...]
    group: str = ""
    split: str = ""


def captions(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    image: str = "image",
    caption: str = "caption",
    group: str = "",
    split: str = "",
    root: str = "",
    shared: str = APART,
    least: int = 2,
    most: int = 10_000,
    longest: int = 20,
    on_unreadable: str = "stop",
    duplicates: str = "keep",
) -> Task:
    """A task from a CSV, TSV, JSON lines or Parquet file with a row for each caption: `image` is
    the column of the files, relative to `root` or to the table's own folder, and an image may have
    several rows. `group` is a column of what must stay in one split, `split` one of train, val and
    test.

    Examples are images. With `shared` "apart" images that share a caption, word for word, are in
    one split; "mixed" lets them fall anywhere. Classes are the words that occur `least` times in
    the captions of train, `most` at most, after `SPECIALS`; of a caption `longest` words are kept.

    UserError, with the line, for what is wrong.
    """
    place = path_of(path)
    base = path_of(root) if root else place.parent
    rows = _rows(place, {"image": image, "caption": caption, "group": group, "split": split})
    kept, known = folder.readable(
        base,
        {id_: (row.split or "train", repr(row.captions)) for id_, row in rows.items()},
        on_unreadable=on_unreadable,
        duplicates=duplicates,
        large=False,
    )
    ids, around = tuple(kept), base.absolute()  # wherever the program goes meanwhile
    how: dict[str, Any] = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    how |= {"shared": shared, "least": least, "most": most, "longest": longest}
    return from_captions(
        place.stem,
        {id_: rows[id_] for id_ in ids},
        lambda index: open_image(around / ids[index], known["grey_range"]),
        list(kept.values()),
        **how,
        about={"folder": str(around), **known},
    )


def from_captions(
    name: str,
    examples: Mapping[str, Captioned],
    open_: Callable[[int], Image],
    digests: Sequence[bytes],
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    shared: str = APART,
    least: int = 2,
    most: int = 10_000,
    longest: int = 20,
    about: Mapping[str, Any] = {},
) -> Task:
    """A task of these images by id, of which `open_` gives the pixels and `digests` are hashes.

    `about` are further fields of the task. Options are those of `captions`.
    """
    takes(not per_class, "per_class=", "no budget of captions, which have no classes", per_class)
    takes_whole(least, "least=", 1, 2**31)
    takes_whole(most, "most=", 8, MOST_WORDS)
    takes_whole(longest, "longest=", 1, 1000)
    if shared not in (APART, MIXED):
        raise unknown("value of shared", shared, (APART, MIXED))
    rows, ids = list(examples.values()), tuple(examples)
    parsed = [tuple(map(words_in, row.captions)) for row in rows]
    for id_, own in zip(ids, parsed, strict=True):
        if not all(own):
            raise UserError(f"{name}: a caption of {id_!r} has no words; leave it out")
    splits = _divided(name, rows, parsed, shared, seed=seed, val=val, test=test)
    same.warn(name, digests, splits, "; leave them out with duplicates=drop")
    of_train = (caption for row in splits["train"] for caption in parsed[row])
    words = vocabulary(of_train, least=least, most=most)
    numbers = numbered(parsed, words, longest=longest)
    return Task(
        name=name,
        classes=words,
        ids=ids,
        open=open_,
        arrays={"words": numbers},
        truth={"words": numbers, "same": _same(parsed)},
        asks="captions",
        captions=tuple(row.captions for row in rows),
        groups=tuple(row.group for row in rows) if rows[0].group else (),
        splits=splits,
        fingerprint=fingerprint(ids, digests),
        **about,
    )


def _rows(path: Path, columns: dict[str, str]) -> dict[str, Captioned]:
    """What is known of each image, in the order of their first rows."""
    found: dict[str, Captioned] = {}
    for line, cells in tables.cells(path, columns):
        interrupt.check()
        where = f"{path.name}, line {line}"
        image, caption, group, split = (cells[name].strip() for name in columns)
        if not image:
            raise UserError(f"{where} names no image")
        if not words_in(caption):
            told = "has no words; add some, or leave the row out"
            raise UserError(f"{where}: the caption of {image!r} {told}")
        split = placed(where, image, group, split, columns)
        before = found.get(image, Captioned((), group, split))
        if (before.group, before.split) != (group, split):
            raise UserError(f"{where}: {image!r} has another group or split than in its first row")
        found[image] = Captioned((*before.captions, caption), group, split)
    if not found:
        raise UserError(f"{str(path)!r} has no rows")
    return found


def _divided(
    name: str,
    rows: list[Captioned],
    parsed: Sequence[Sequence[tuple[str, ...]]],
    shared: str,
    **how: Any,
) -> dict[str, np.ndarray]:
    """The splits that the rows say, and those that are missing."""
    split_of = np.array([row.split or "train" for row in rows])
    given = {split: np.flatnonzero(split_of == split) for split in SPLITS if split in split_of}
    together = [[f"group {row.group}"] if row.group else [] for row in rows]
    if shared == APART:  # in what is still to be divided
        to_come = split_of == "train"
        together = [
            [*mine, *own] if free else mine
            for mine, own, free in zip(together, parsed, to_come, strict=True)
        ]
    if len(rows) < 3:
        raise UserError(f"{name!r} has {len(rows)} images, and three splits need three")
    splits = complete(given, np.zeros(len(rows), int), groups=_components(together), **how)
    _tell_shared(name, parsed, splits)
    return splits


def _components(keys: Sequence[Sequence[Any]]) -> np.ndarray:
    """The number (N,) of each example's component, if those with a key in common are joined."""
    number = {key: place for place, key in enumerate({key for own in keys for key in own})}
    pairs = [(row, len(keys) + number[key]) for row, own in enumerate(keys) for key in own]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    side = len(keys) + len(number)
    graph = scipy.sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(side, side))
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1][: len(keys)]


def _same(parsed: Sequence[Sequence[tuple[str, ...]]]) -> np.ndarray:
    """Numbers int32 (N, K) of captions: the same for those that are the same word for word; -1
    where an image has fewer than K.
    """
    number: dict[tuple[str, ...], int] = {}
    found = np.full((len(parsed), max(map(len, parsed))), -1, np.int32)
    for row, own in zip(found, parsed, strict=True):
        row[: len(own)] = [number.setdefault(caption, len(number)) for caption in own]
    return found


def _tell_shared(name: str, parsed: Sequence, splits: Mapping[str, np.ndarray]) -> None:
    """Log how many images of test have a caption that is in train as well, if any."""
    seen = {caption for row in splits["train"] for caption in parsed[row]}
    known = sum(any(caption in seen for caption in parsed[row]) for row in splits["test"])
    if known:
        logger.warning(
            "%s: %d of %d images of test have a caption that an image of train has word for word",
            name, known, len(splits["test"]),
        )  # fmt: skip
