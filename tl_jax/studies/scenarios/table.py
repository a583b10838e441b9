"""The table of a study: a row a cell, as CSV and as Parquet, to be read again by others."""

import csv
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from tl_jax.errors import UserError, unknown
from tl_jax.studies.scenarios.cells import Cell, cells

VERSION = 1  # of the columns and of what they mean
SHARED = ("settings", "draws", "metric", "least_steps")  # what all cells of a config depend on
OF_TYPE: dict[str, Any] = {
    **dict.fromkeys(
        (
            "seed",
            "budget",
            "n_train",
            "n_val",
            "n_test",
            "n_all",
            "n_classes",
            "trained_parameters",
        ),
        int,
    ),
    **dict.fromkeys(("val", "test", "test_weighted", "seconds"), float),
    **dict.fromkeys(("chosen", "tried"), json.loads),
}
OWN = ("version", "given")  # columns that rows get here
COLUMNS = (*OWN, *Cell._fields, *OF_TYPE, "test_split", "error")


def write(workdir: pathlib.Path, rows: Sequence[dict], config: Mapping[str, Any]) -> None:
    """Write cells.csv and, where pyarrow is installed, cells.parquet; settings are JSON in both.

    `given` is a hash of all that the config says of the cell.
    """
    named = {name: None for name in (*COLUMNS, *(name for row in rows for name in row))}
    lines = [{**named, **_line(row, config)} for row in rows]
    with open(workdir / "cells.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(named), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        return
    parquet.write_table(pyarrow.Table.from_pylist(lines), workdir / "cells.parquet")


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """Return the rows of a table; UserError for a file that is none, or of another version."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table of scenarios: {error}") from None
    if not lines or any(name not in lines[0] for name in COLUMNS):
        raise UserError(f"{path} is no table of scenarios: it is cells.csv in a results folder")
    versions = {line["version"] for line in lines}
    if versions != {str(VERSION)}:
        other = ", ".join(sorted(versions - {str(VERSION)}))
        raise UserError(
            f"{path} is a table of version {other}, and this reads version {VERSION}: run the "
            "study again"
        )
    return [_typed(path, number, line) for number, line in enumerate(lines, 2)]


def read_of(path: pathlib.Path, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a table of this config; UserError, naming a cell, for one that is not of
    its grid and settings, and for one that is there twice.
    """
    rows, grid, seen = read(path), set(cells(config)), set()
    for row in rows:
        cell = Cell(*(row[name] for name in Cell._fields))
        if cell.plan not in config["plans"]:
            raise unknown(f"plan in {path}", cell.plan, config["plans"])
        if cell in seen:
            raise UserError(f"{path} has a cell twice: {cell.described()}")
        another = f"{path} is a table of another config"
        if cell not in grid:
            raise UserError(f"{another}, which has the cell {cell.described()}")
        if row["given"] != given(config, cell):
            raise UserError(f"{another}: other settings of {cell.described()}")
        seen.add(cell)
    return rows


def given(config: Mapping[str, Any], cell: Cell) -> str:
    """Return a hash of all that the config says of a cell."""
    of_cell = [config[f"{part}s"][getattr(cell, part)] for part in ("task", "base", "plan")]
    shared = [config[name] for name in SHARED]
    return hashlib.sha256(json.dumps([of_cell, shared], sort_keys=True).encode()).hexdigest()[:16]


def _line(row: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    cell = Cell(*(row[name] for name in Cell._fields))
    plain = {k: json.dumps(v) if isinstance(v, dict | list) else v for k, v in row.items()}
    return {"version": VERSION, "given": given(config, cell), **plain}


def _typed(path: pathlib.Path, number: int, line: Mapping[str, str]) -> dict[str, Any]:
    try:
        return {k: OF_TYPE.get(k, str)(v) if v else None for k, v in line.items()}
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}, line {number}: {error}") from None
