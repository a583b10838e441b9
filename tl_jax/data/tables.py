"""Rows of tables, one at a time: CSV, tab-separated values, JSON lines, Parquet."""

import contextlib
import csv
import functools
import json
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from tl_jax.data.files import shown
from tl_jax.errors import UserError, unknown

LONGEST = 2**26  # bytes of a line, characters of a field: ten million words
csv.field_size_limit(LONGEST)  # of the whole process; csv's own is 131,072

PARQUET, BATCH = ".parquet", 1024  # rows that are read at once
Rows = Iterator[tuple[int, Mapping[str, Any]]]


def rows(file: IO[bytes], name: str, *, errors: str = "strict") -> Rows:
    """Yield the line at which each row begins, from 1, and the row's values by column.

    The suffix of `name` says how the file is read (`FORMATS`). `errors`: 'strict' refuses bytes
    that are no UTF-8, 'replace' puts U+FFFD for them. UserError, with the line, for what is wrong.
    """
    if suffix(name) == PARQUET:
        yield from _parquet(file, name)
    else:
        yield from FORMATS[suffix(name)](lines(file, name, errors), name)


def suffix(name: str) -> str:
    """Return the suffix of a table's name, one of `FORMATS` or Parquet's; UserError for another."""
    found = Path(name).suffix.lower()
    if found not in SUFFIXES:
        raise UserError(f"{shown(name)} is no table; its name ends in one of {', '.join(SUFFIXES)}")
    return found


def lines(file: IO[bytes], name: str, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a text file, whole but without a byte order mark; errors as for `rows`."""
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise UserError(f"{name}, line {number}, has more than {LONGEST:,} bytes")
        try:
            text = line.decode(errors=errors)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}, line {number}, byte {error.start + 1}: {line[error.start]:#04x} is no "
                "UTF-8; save the file as UTF-8"
            ) from None
        yield text.removeprefix("\ufeff") if number == 1 else text


def _separated(lines: Iterator[str], name: str, *, header: bool = True, **dialect: Any) -> Rows:
    reader, columns, begins = csv.reader(lines, strict=True, **dialect), [], 1
    try:
        for values in reader:
            line, begins = begins, reader.line_num + 1
            if values and not columns:
                columns = values if header else [str(n) for n in range(1, len(values) + 1)]
                named = Counter(filter(None, columns))
                if twice := next((column for column, n in named.items() if n > 1), ""):
                    raise UserError(f"{name} has several columns called {twice!r:.80}")
                if header:
                    continue
            if len(values) not in (0, len(columns)):
                raise UserError(
                    f"{name}, line {line}, has {len(values)} fields instead of {len(columns)}; put "
                    "quotes around a field with a separator in it"
                )
            if values:
                yield line, dict(zip(columns, values, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{name}, line {begins}: {error}; perhaps a quote opens there and does not close"
        ) from None


def _json(lines: Iterator[str], name: str) -> Rows:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            example = '{"text": "...", "label": "..."}'
            raise UserError(
                f"{name}, line {number}, is no JSON object; each line is one: {example}"
            )
        yield number, row


def _parquet(file: IO[bytes], name: str) -> Rows:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError(f"{name} needs pyarrow: pip install 'tl_jax[studies]'") from None
    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        why = " ".join(str(error).split())  # of several lines
        raise UserError(f"{name} is damaged or no Parquet file: {why:.200}") from None


# Between tabs, quotes are part of a text, as in the registered format text/tab-separated-values.
_TABS = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
# How to read a file, by its suffix. A .txt has no header: its columns are called 1, 2, ...
FORMATS: dict[str, Callable[[Iterator[str], str], Rows]] = {
    ".csv": _separated,
    ".tsv": functools.partial(_separated, **_TABS),
    ".txt": functools.partial(_separated, header=False, **_TABS),
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
}
SUFFIXES = (*FORMATS, PARQUET)


def cells(
    path: Path, columns: Mapping[str, str], *, joined: str = ""
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and, by what it is, the cell of each column; of a column called "", none.

    Of "labels.3" it is said that labels= may name another column. A list of texts, as JSON has it,
    becomes one with `joined` between them; without, it is refused.
    """
    suffix(path.name)
    with opened(path) as file:
        for line, row in rows(file, path.name):
            found = {}
            for what, column in columns.items():
                if column and column not in row:
                    near = unknown(f"column of {path.name}, line {line}:", column, map(str, row))
                    raise UserError(f"{near}; say {what.partition('.')[0]}=")
                where = f"{path.name}, line {line}"
                found[what] = _text(where, row[column], joined) if column else ""
            yield line, found


def _text(where: str, value: Any, joined: str) -> str:
    """Return a cell as text, in which halves of surrogate pairs, as JSON may have, are replaced."""
    if isinstance(value, list) and joined and not any(isinstance(v, list | dict) for v in value):
        value = joined.join(map(str, value))
    if isinstance(value, list | dict):
        raise UserError(f"{where}: {value!r:.40} is no text; give one for each text and each label")
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise UserError(f"{where}: {value!r:.40} is no UTF-8, and so no text") from None
    if value is None or value != value:  # NaN, by which JSON and Parquet mean an empty cell, too
        return ""
    return str(value).encode(errors="replace").decode()


@contextlib.contextmanager
def opened(path: Path) -> Generator[IO[bytes]]:
    """Give an ordinary file to read; UserError for one that is none, or cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise UserError(f"{str(path)!r} is no file; give a table, or a folder with one a split")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
