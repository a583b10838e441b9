"""Tasks from texts: tables, and folders in which each file is a document."""

import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tl_jax import interrupt
from tl_jax.data import duplicates as same
from tl_jax.data import tables
from tl_jax.data.files import is_leftover, listed, path_of
from tl_jax.data.images import fingerprint
from tl_jax.data.layout import SPLIT_NAMES, folder_name, grouped, normal
from tl_jax.data.splits import divide
from tl_jax.data.task import SPLITS, Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError, unknown

logger = logging.getLogger(__name__)

MOST = 2**31  # characters of a task's texts, which memory holds
MOST_CLASSES = 10_000
LONGEST_NAME = 200  # characters of a class or document: more are a text
DROP = "duplicates=drop"


class Example(NamedTuple):
    """A text, and what is known of it."""

    id: str
    text: str
    label: str
    split: str = "train"
    document: str = ""  # which it is a part of; "": it is a document by itself


def text(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    text: str = "text",
    label: str = "label",
    document: str = "",
    duplicates: str = "keep",
) -> Task:
    """A task from a table: CSV, tab-separated values or JSON lines, as its suffix says
    (`tl_jax.data.tables`); or from a folder with a table for each split, called train, val and test
    or the like. Then `val` and `test`, where there is no such table, are fractions of train.

    `text` and `label` are columns; so is `document`, if the texts are parts of longer ones: no two
    splits share a document. A .txt has no header, so its columns are '1', '2', and so on. Rows
    without a text are left out and listed in `Task.skipped`; duplicates='drop' leaves out texts
    that are the same as another. Files are read row by row; of a row only these columns are kept.
    """
    root, columns = path_of(path), {"text": text, "label": label, "document": document}
    files = _split_tables(root) if root.is_dir() else {"train": root}
    examples = (
        Example(f"{file.name}:{line}" if root.is_dir() else str(line), split=split, **cells)
        for split, file in files.items()
        for line, cells in tables.cells(file, columns)
    )
    name = folder_name(root) if root.is_dir() else root.stem
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    return from_texts(name, examples, where=str(root), duplicates=duplicates, **options)


def text_folder(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    duplicates: str = "keep",
) -> Task:
    """A task of the documents below `path`: files in UTF-8, in one sub-folder a class, or in splits
    with one a class, as for images (`tl_jax.data.tasks.folder`).

    Files without a text are left out and listed in `Task.skipped`.
    """
    root = path_of(path)
    groups = grouped(root)
    for (split, label), ids in groups.items():
        if not ids:
            raise UserError(f"class {label!r} has no file in {split} of {str(root)!r}; add some")
    group_of = dict(sorted((id_, group) for group, ids in groups.items() for id_ in ids))
    examples = (
        Example(id_, _document(root / id_), label, split)
        for id_, (split, label) in group_of.items()
    )
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    place = str(root.absolute())
    return from_texts(
        folder_name(root), examples, where=str(root), folder=place, duplicates=duplicates, **options
    )


def from_texts(
    name: str,
    examples: Iterable[Example],
    *,
    where: str = "",
    folder: str = "",
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    duplicates: str = "keep",
) -> Task:
    """A task of these texts, with different ids. `where` they are from is what messages name.

    Classes are the labels in sorted order. UserError for examples that make no classification.
    """
    where = where or name
    if duplicates not in ("keep", "drop"):
        raise unknown("value of duplicates", duplicates, ("keep", "drop"))
    kept, empty = _filled(where, examples)
    if duplicates == "drop":
        kept = _distinct(where, kept)
    ids = tuple(one.id for one in kept)
    names = np.array([one.label for one in kept])
    classes = _classes(where, kept)
    split_of = np.array([one.split for one in kept])
    given = {split: np.flatnonzero(split_of == split) for split in SPLITS if split in split_of}
    groups = tuple(one.document for one in kept) if kept[0].document else ()
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    splits = divide(given, names, groups=np.array(groups) if groups else None, **options)
    digests = [digest(one.text) for one in kept]
    same.warn(where, digests, splits, f"; leave them out with {DROP}", noun="texts")
    return Task(
        name=name,
        classes=classes,
        ids=ids,
        texts=tuple(one.text for one in kept),
        truth=unweighted(np.searchsorted(classes, names), len(classes)),
        splits=splits,
        groups=groups,
        fingerprint=fingerprint(ids, digests),
        folder=folder,
        skipped=empty,
    )


def _filled(where: str, examples: Iterable[Example]) -> tuple[list[Example], tuple[str, ...]]:
    """Return the examples that have a text, and the ids of the others.

    UserError for more than `MOST` characters, names that are none, and texts that are numbers.
    """
    kept, empty, size = [], [], 0
    for one in examples:
        interrupt.check()
        size += len(one.text)
        if size > MOST:
            raise UserError(f"{where}: its texts have more than {MOST:,} characters; take a part")
        one = one._replace(label=normal(one.label.strip()), document=one.document.strip())
        if not one.text.strip():
            empty.append(one.id)
            continue
        if not one.label:
            raise UserError(f"{where}: {one.id!r} has no label; add it, or leave the text out")
        for what, value in (("label", one.label), ("document", one.document)):
            if len(value) > LONGEST_NAME:
                raise UserError(
                    f"{where}: the {what} of {one.id!r} has {len(value):,} characters; is "
                    f"{what}= another column?"
                )
        kept.append(one)
    if empty:
        found = f"{len(empty):,} of {len(kept) + len(empty):,}"
        logger.warning("%s: %s have no text and are left out: %s", where, found, listed(empty))
    if not kept:
        raise UserError(f"{where} has no texts")
    if all(_is_number(one.text) for one in kept):
        raise UserError(f"{where}: its texts are numbers ({kept[0].text!r:.40}); is text= another?")
    if lacking := [one.id for one in kept if bool(one.document) != bool(kept[0].document)]:
        raise UserError(f"{where}: some texts have a document and others none ({lacking[0]!r})")
    return kept, tuple(empty)


def _classes(where: str, examples: list[Example]) -> tuple[str, ...]:
    """Return the labels, sorted; UserError unless they are those of every split, and several."""
    labels: dict[str, set[str]] = {}
    for one in examples:
        labels.setdefault(one.split, set()).add(one.label)
    own = labels.setdefault("train", set())
    for split in labels.keys() - {"train"}:
        told = [
            f"only {one} has {listed(sorted(more))}"
            for one, more in (("train", own - labels[split]), (split, labels[split] - own))
            if more
        ]
        if told:
            told = "; ".join(told)
            raise UserError(f"{where}: the classes of train and {split} differ: {told}")
    if len(own) < 2:
        got = listed(sorted(own)) or "none"
        raise UserError(f"{where}: a task needs at least 2 classes; got {got}")
    if len(own) > MOST_CLASSES:
        raise UserError(
            f"{where} has {len(own):,} classes ({listed(sorted(own))}); at most {MOST_CLASSES:,} "
            "make a task: is label= another column?"
        )
    return tuple(sorted(own))


def _distinct(where: str, examples: list[Example]) -> list[Example]:
    by_id = {one.id: one for one in examples}
    kept, left_out = same.distinct(
        {id_: digest(one.text) for id_, one in by_id.items()},
        {id_: (one.split, one.label) for id_, one in by_id.items()},
    )
    if left_out:
        count, some = len(left_out), listed(left_out)
        logger.warning("%s: %d duplicates are left out: %s", where, count, some)
    return [by_id[id_] for id_ in kept]


def _split_tables(root: Path) -> dict[str, Path]:
    """Return the table of each split that the folder has one for."""
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        stem, suffix, *_ = [*path.name.lower().split("."), ""]
        split = SPLIT_NAMES.get(stem)
        if not split or f".{suffix}" not in tables.SUFFIXES or is_leftover(path.name):
            continue
        # UserError of test.csv.gz: a split that is not read would be drawn from train.
        tables.suffix(path.name)
        if split in found:
            both = f"{found[split].name} and {path.name}"
            raise UserError(f"{str(root)!r} has two tables of {split}: {both}; leave one there")
        found[split] = path
    if "train" not in found:
        raise UserError(
            f"{str(root)!r} has no table of train (train.csv, for example); for a folder with a "
            "sub-folder of documents a class, say text_folder:<path>"
        )
    return found


def _document(path: Path) -> str:
    with tables.opened(path) as file:
        if os.fstat(file.fileno()).st_size > tables.LONGEST:
            raise UserError(f"{path} has more than {tables.LONGEST:,} bytes; divide it")
        return "".join(tables.lines(file, str(path)))


def digest(text: str) -> bytes:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).digest()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
