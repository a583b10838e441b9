"""A task from a table of images: a class, several labels, or numbers for each file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tl_jax import interrupt
from tl_jax.data import duplicates as same
from tl_jax.data import tables
from tl_jax.data.files import listed, path_of
from tl_jax.data.images import fingerprint, open_image
from tl_jax.data.layout import SPLIT_NAMES, normal
from tl_jax.data.splits import divide
from tl_jax.data.strata import by_number, by_rarest
from tl_jax.data.task import SPLITS, Task, Truth
from tl_jax.data.tasks import folder
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.data.truths import one_hot
from tl_jax.errors import UserError, takes, unknown

MOST_CLASSES = 10_000
YES, NO, UNKNOWN = ("1", "true", "yes"), ("0", "false", "no"), ("", "-1", "nan")


class Row(NamedTuple):
    """A file of a table, and what is known of it."""

    line: int
    image: str
    truth: tuple[str, ...]  # the cells of the columns that are asked for
    further: tuple[str, ...]  # classes in other columns
    group: str
    split: str


def table(
    path: str | os.PathLike,
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    image: str = "image",
    label: str = "label",
    labels: Sequence[str] | str = (),
    numbers: Sequence[str] | str = (),
    separator: str = ";",
    order: Sequence[str] = (),
    further: Sequence[str] | str = (),
    group: str = "",
    split: str = "",
    root: str = "",
    on_unreadable: str = "stop",
    duplicates: str = "keep",
    large: bool = False,
) -> Task:
    """A task from a CSV, TSV, JSON lines or Parquet file with a row for each image: `image` is the
    column of the files, relative to `root` or to the table's own folder.

    What is asked (`Task.asks`): the class in the column `label`, in the given `order` or sorted; or
    any of several `labels`: one column of names with `separator` between them, or a column for each
    with 1, 0 or, where nobody knows, nothing; or one or several `numbers`, or nothing. `further`
    are columns of other classes, for several tasks at once (`truths=`). `group` is a column of what
    must stay in one split, such as patients; `split` one of train, val and test: without it, `val`
    and `test` are shares that are split off at random.

    Every file is decoded once now (see `folder`; `large` as there). UserError, with the line, for
    what is wrong.
    """
    asks, wanted = _asked(label, labels, numbers, per_class)
    place, others = path_of(path), _names("further=", further)
    where, base = str(place), path_of(root) if root else place.parent
    columns = {"image": image, "group": group, "split": split, **wanted}
    columns |= {f"further.{number}": name for number, name in enumerate(others)}
    rows = _rows(place, columns, joined=separator if asks == "labels" else "")
    kept, known = _kept(base, rows, on_unreadable=on_unreadable, duplicates=duplicates, large=large)
    found, names = [rows[id_] for id_ in kept], tuple(wanted.values())
    classes, truth, strata = _truth(where, found, asks, names, separator, tuple(order))
    splits = _divided(found, strata, seed=seed, val=val, test=test, per_class=per_class)
    same.warn(where, list(kept.values()), splits, "; leave them out with duplicates=drop")
    ids, around = tuple(kept), base.absolute()  # wherever the program goes meanwhile
    return Task(
        name=place.stem,
        classes=classes,
        ids=ids,
        open=lambda index: open_image(around / ids[index], known["grey_range"], large=large),
        truth=truth,
        asks=asks,
        further={name: _further(found, number) for number, name in enumerate(others)},
        groups=tuple(one.group for one in found) if group else (),
        splits=splits,
        fingerprint=fingerprint(ids, kept.values()),
        folder=str(around),
        **known,
    )


def _divided(rows: list[Row], strata: list[str], **options: Any) -> dict[str, np.ndarray]:
    """The splits that the rows say, and those that are missing (`divide`)."""
    split_of = np.array([one.split or "train" for one in rows])
    given = {name: np.flatnonzero(split_of == name) for name in SPLITS if name in split_of}
    groups = np.array([one.group for one in rows]) if rows[0].group else None
    return divide(given, np.array(strata), groups=groups, **options)


def _kept(
    base: Path, rows: dict[str, Row], **how: Any
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The rows' files that can be read, with their digests: see `folder.readable`."""
    group_of = {id_: (row.split or "train", repr(row.truth)) for id_, row in rows.items()}
    return folder.readable(base, group_of, **how)


def _asked(label: str, labels: Any, numbers: Any, per_class: int) -> tuple[str, dict[str, str]]:
    """What is asked, and the columns that answer it, by option and number."""
    labels, numbers = _names("labels=", labels), _names("numbers=", numbers)
    takes(not (labels and numbers), "labels=", "without numbers=: a task asks for one", labels)
    asks, option, names = "classes", "label", (label,)
    if labels or numbers:
        asks = option = "labels" if labels else "numbers"
        names = labels or numbers
        takes(not per_class, "per_class=", f"no budget of {asks}", per_class)
    return asks, {f"{option}.{number}": name for number, name in enumerate(names)}


def _names(option: str, names: Sequence[str] | str) -> tuple[str, ...]:
    """The names of columns, once each."""
    takes(isinstance(names, str | list | tuple), option, "the name of a column, or several", names)
    names = (names,) if isinstance(names, str) else tuple(names)
    names = tuple(filter(None, names))
    takes(len(set(names)) == len(names), option, "each column once", names)
    return names


def _rows(path: Path, columns: dict[str, str], joined: str) -> dict[str, Row]:
    """The rows by image; UserError for one without an image, and for an image in two."""
    found: dict[str, Row] = {}
    for line, cells in tables.cells(path, columns, joined=joined):
        interrupt.check()
        where = f"{path.name}, line {line}"
        image, group, split = (cells.pop(name).strip() for name in ("image", "group", "split"))
        if not image:
            raise UserError(f"{where} names no image")
        if image in found:
            raise UserError(
                f"{where}: {image!r} is in line {found[image].line} too; an image with several "
                "labels has them in one row (labels=)"
            )
        split = placed(where, image, group, split, columns)
        own, further = (
            tuple(c.strip() for name, c in cells.items() if name.startswith("further") is other)
            for other in (False, True)
        )
        found[image] = Row(line, image, own, further, group, split)
    if not found:
        raise UserError(f"{str(path)!r} has no rows")
    return found


def placed(where: str, image: str, group: str, split: str, columns: Mapping[str, str]) -> str:
    """The split that a row says, by its usual name; UserError where a row lacks it, or its group,
    and there are such `columns`.
    """
    if columns["group"] and not group:
        raise UserError(f"{where}: {image!r} is in no group; give one to each")
    if not columns["split"]:
        return split
    if split.lower() not in SPLIT_NAMES:
        raise unknown(f"split in {where}:", split, SPLIT_NAMES)
    return SPLIT_NAMES[split.lower()]


def _further(rows: list[Row], number: int) -> Truth:
    """The classes of another column; an empty cell is no label."""
    names = [normal(row.further[number]) for row in rows]
    classes = sorted({*names} - {""})
    if not classes:
        raise UserError(f"further= names a column (number {number + 1}) that is empty in every row")
    return one_hot(np.array([classes.index(n) if n else -1 for n in names]), classes)


def _truth(
    where: str,
    rows: list[Row],
    asks: str,
    columns: tuple[str, ...],
    separator: str,
    order: tuple[str, ...],
) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[str]]:
    """Classes, or names of labels or numbers; the truth; and what splits are spread over (N,)."""
    if asks == "classes":
        return _classes(where, rows, order)
    if asks == "numbers":
        cells = [[_number(where, row, cell) for cell in row.truth] for row in rows]
        names, targets = columns, np.array(cells, np.float32)
        strata = by_number(targets[:, 0])
    else:
        names, targets = _labels(where, rows, columns, separator)
        strata = by_rarest(targets)
    empty = np.isnan(targets).all(0)
    if empty.any():
        raise UserError(f"{where}: nothing is known of {names[int(empty.argmax())]!r} in any row")
    return names, {"targets": targets, "weights": np.ones(len(rows), np.float32)}, strata


def _classes(where: str, rows: list[Row], order: tuple[str, ...]):
    names = [normal(row.truth[0]) for row in rows]
    if "" in names:
        raise UserError(f"{where}, line {rows[names.index('')].line}, has no label")
    found = sorted(set(names), key=float if all(map(_is_number, names)) else None)
    if len(found) < 2:
        raise UserError(f"{where}: a task needs at least 2 classes; got {listed(found)}")
    if len(found) > MOST_CLASSES:
        raise UserError(
            f"{where} has {len(found):,} classes ({listed(found)}); are they numbers=, or is "
            "label= another column?"
        )
    if order:
        if sorted(order) != sorted(found):
            raise UserError(f"order= names {listed(order)}, and the classes are {listed(found)}")
        found = list(order)
    numbers = {name: number for number, name in enumerate(found)}
    return tuple(found), unweighted([numbers[name] for name in names], len(found)), names


def _labels(where: str, rows: list[Row], columns: tuple[str, ...], separator: str):
    """The names of labels, and targets (N, C): 1, 0 or NaN."""
    if len(columns) > 1:
        targets = [[_flag(where, row, cell) for cell in row.truth] for row in rows]
        return columns, np.array(targets, np.float32)
    takes(separator != "", "separator=", "what is between two labels", separator)
    parts = [[part.strip() for part in row.truth[0].split(separator)] for row in rows]
    own = [{normal(part) for part in each if part} for each in parts]
    names = tuple(sorted(set().union(*own)))
    if len(names) < 2:
        raise UserError(
            f"{where}: {columns[0]!r} has {listed(names) or 'no label'} alone; is separator= what "
            f"is between labels? It is {separator!r}"
        )
    if len(names) > MOST_CLASSES:
        raise UserError(f"{where} has {len(names):,} labels ({listed(names)}): too many")
    return names, np.array([[name in each for name in names] for each in own], np.float32)


def _flag(where: str, row: Row, cell: str) -> float:
    for value, known in ((1.0, YES), (0.0, NO), (np.nan, UNKNOWN)):
        if cell.lower().removesuffix(".0") in known:
            return value
    raise UserError(
        f"{where}, line {row.line}: {cell!r:.40} is neither 1 nor 0; for names in one column give "
        "that column alone as labels="
    )


def _number(where: str, row: Row, cell: str) -> float:
    if cell.lower() in ("", "nan"):
        return np.nan
    if not _is_number(cell):
        raise UserError(f"{where}, line {row.line}: {cell!r:.40} is no number")
    return float(cell)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
