"""Vectors of words in files: word2vec's text and binary forms, GloVe's text, wink's JSON."""

import itertools
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from tl_jax.data import tables
from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN, reading
from tl_jax.whole import whole

logger = logging.getLogger(__name__)

MOST_NUMBERS = 2**31  # of a file's vectors together: 8 GiB
MOST_WORDS = 10_000_000
WIDEST = 10_000  # numbers of a vector
LONGEST = 2**12  # bytes of a word
CHUNK = 2**20  # bytes of JSON that are read at once
MOST_BUFFERED = 2**26  # bytes of it without the end of a vector
GZIP, FASTTEXT = b"\x1f\x8b", (793712314).to_bytes(4, "little")  # what such files begin with

# One word of wink's JSON: its vector, then the vector's length and the word's number
_ENTRY = re.compile(r'"((?:[^"\\]|\\.)*)":\[([^\[\]"]*)\],?')
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")

Rows = Iterator[tuple[str, np.ndarray]]


class Vectors(NamedTuple):
    """Words and a vector for each."""

    words: tuple[str, ...]  # (V,), as a rule the most frequent first
    rows: np.ndarray  # (V, D) float32


def read(path: str | Path) -> Vectors:
    """The words and vectors of a file: word2vec's text (a first line with their numbers), GloVe's
    (without one), fastText's `.vec`, word2vec's binary form (`.bin`) or wink's JSON (`.json`).

    Of a word that comes twice the first vector is kept, with a line in the log. UserError for any
    other file, one that does not hold what it says, and vectors that are not finite.
    """
    path = Path(path)
    with reading(path), path.open("rb") as file:
        head = file.read(2**10)
        file.seek(0)
        _require_readable(head)
        if path.suffix.lower() == ".json":
            return _of_wink(file)
        header = _HEADER.fullmatch(head.split(b"\n")[0])
        size = os.fstat(file.fileno()).st_size
        if path.suffix.lower() == ".bin":
            return _of_binary(file, header, size)
        return _of_text(file, header, size)


def write(path: str | Path, vectors: Vectors) -> None:
    """Write word2vec's text form, whole or not at all."""
    path = Path(path)
    with whole(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(f"{len(vectors.words)} {vectors.rows.shape[1]}\n")
        for word, row in zip(vectors.words, vectors.rows, strict=True):
            file.write(f"{word} {' '.join(format(x, '.6g') for x in row.tolist())}\n")


def _require_readable(head: bytes) -> None:
    if not head.strip():
        raise UserError(f"is empty; {AGAIN}")
    if head.startswith((GZIP, b"PK\x03\x04")):
        raise UserError("is compressed; unpack it first")
    if head.startswith(FASTTEXT):
        raise UserError("is a whole model of fastText's; take the .vec file that lies beside it")
    if head.lstrip().startswith(b"<") and b"html" in head.lower():
        raise UserError("is a web page; fetch the file that the page offers")


def _require_size(count: int, width: int) -> None:
    """UserError for more words, or wider vectors, than memory is taken for."""
    if not (0 < count <= MOST_WORDS and 0 < width <= WIDEST and count * width <= MOST_NUMBERS):
        raise UserError(
            f"says that it has {count:,} words of {width:,} numbers each; at most {MOST_WORDS:,} "
            f"words, {WIDEST:,} numbers each and {MOST_NUMBERS:,} in all are read"
        )


def _promised(header: re.Match, size: int, least: int) -> tuple[int, int]:
    """The numbers in the first line, if a file of this size can hold them: with `least` bytes a
    number.
    """
    count, width = int(header[1]), int(header[2])
    _require_size(count, width)
    if count * (width * least + 1) > size:
        raise UserError(
            f"says that it has {count:,} words of {width:,} numbers each, which {size:,} bytes "
            f"cannot hold; {AGAIN}"
        )
    return count, width


def _of_text(file: IO[bytes], header: re.Match | None, size: int) -> Vectors:
    lines = tables.lines(file, "it")
    first = next(lines)
    if header:
        count, width = _promised(header, size, 2)
        return _collected(_text_rows(lines, 2, width), width, count)
    fields = first.split()
    if len(fields) < 3 or _numbers(fields[1:]) is None:
        raise UserError("is no file of vectors: its lines have a word, then its numbers")
    width = len(fields) - 1
    _require_size(1, width)
    return _collected(_text_rows(itertools.chain([first], lines), 1, width), width)


def _text_rows(lines: Iterable[str], first: int, width: int) -> Rows:
    for number, line in enumerate(lines, first):
        fields = line.rstrip(" \t\r\n").rsplit(" ", width)  # GloVe has words with a space in them
        values = _numbers(fields[1:])
        if len(fields) != width + 1 or not fields[0] or values is None:
            raise UserError(f"line {number} has no word with {width} numbers; {AGAIN}")
        yield fields[0], values


def _numbers(fields: list[str]) -> np.ndarray | None:
    try:
        return np.array(fields, np.float32)
    except ValueError:
        return None


def _of_binary(file: IO[bytes], header: re.Match | None, size: int) -> Vectors:
    if not header:
        raise UserError("is no binary file of vectors: its first line has two whole numbers")
    count, width = _promised(header, size, 4)
    file.readline()
    return _collected(_binary_rows(file, count, width), width, count)


def _binary_rows(file: IO[bytes], count: int, width: int) -> Rows:
    for number in range(1, count + 1):
        word = bytearray()
        while (byte := file.read(1)) != b" ":
            word += byte
            if not byte or len(word) > LONGEST:
                raise UserError(f"word {number:,} does not end; {AGAIN}")
        content = file.read(4 * width)
        if len(content) < 4 * width:
            raise UserError(f"ends within word {number:,} of {count:,}; {AGAIN}")
        yield word.lstrip(b"\n").decode(), np.frombuffer(content, "<f4")


def _of_wink(file: IO[bytes]) -> Vectors:
    """The vectors of wink-nlp's JSON, which is too large to be read at once: 1 MiB is at a time.

    Its object "vectors" has for each word its vector, the vector's length and the word's number.
    """
    chunks = iter(lambda: file.read(CHUNK), b"")
    head = b""
    while b'"vectors":{' not in head:
        chunk = next(chunks, b"")
        head += chunk
        if not chunk or len(head) > MOST_BUFFERED:
            raise UserError("is no JSON of wink's vectors: it has no object 'vectors'")
    about, _, rest = head.partition(b'"vectors":{')
    described = json.loads(about.rstrip(b", \n") + b"}")
    words, width = described["words"], described["dimensions"]
    if type(width) is not int or not all(isinstance(word, str) for word in words):
        raise UserError("is no JSON of wink's vectors: 'words' and 'dimensions' are not such")
    _require_size(len(words), width)
    found = _collected(_json_rows(itertools.chain([rest], chunks), width), width)
    number = {word: place for place, word in enumerate(found.words)}
    if len(number) != len(words) or number.keys() != set(words):
        raise UserError(f"has {len(number):,} vectors for {len(words):,} words; {AGAIN}")
    return Vectors(tuple(words), found.rows[[number[word] for word in words]])


def _json_rows(chunks: Iterable[bytes], width: int) -> Rows:
    left = b""
    for chunk in chunks:
        # A chunk may end within a character: what is behind its last bracket comes again.
        whole, bracket, left = (left + chunk).rpartition(b"],")
        if len(left) > MOST_BUFFERED:
            break
        yield from _json_entries((whole + bracket).decode(), width)
    last, end, _ = left.partition(b"]}")
    if not end:
        raise UserError(f"ends within a word; {AGAIN}")
    yield from _json_entries(last.decode() + "]", width)


def _json_entries(text: str, width: int) -> Rows:
    place = 0
    for match in _ENTRY.finditer(text):
        values = _numbers(match[2].split(","))
        if match.start() != place or values is None or len(values) < width:
            break
        place = match.end()
        yield json.loads(f'"{match[1]}"'), values[:width]
    if text[place:].strip():
        raise UserError(
            f"has no word with {width} numbers at {text[place : place + 40]!r}; {AGAIN}"
        )


def _collected(rows: Rows, width: int, promised: int = 0) -> Vectors:
    """The words and vectors, each word once. Memory grows with what is there, not with what was
    promised; UserError if that is another number of words.
    """
    words, parts, part, repeated = {}, [], [], []
    for word, values in rows:
        if word in words:
            repeated.append(word)
            continue
        words[word] = None
        part.append(values)
        if len(part) == 2**12:
            _require_size(len(words), width)
            parts.append(_finite(words, part))
            part = []
    if part:
        parts.append(_finite(words, part))
    there = len(words) + len(repeated)
    if not there or promised not in (0, there):
        raise UserError(f"has {there:,} words, not the {promised:,} that it says; {AGAIN}")
    if repeated:
        logger.warning(
            "%d words come again, such as %r: their first vectors count", len(repeated), repeated[0]
        )
    return Vectors(tuple(words), np.concatenate(parts))


def _finite(words: Iterable[str], part: list[np.ndarray]) -> np.ndarray:
    """The vectors of the last of these words, stacked; UserError if a length is not finite."""
    rows = np.stack(part)
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.einsum("nd,nd->n", rows, rows)
    for number in np.flatnonzero(~np.isfinite(lengths)):
        word = list(words)[number - len(part)]
        raise UserError(f"the vector of {word!r:.80} is not finite, or far too long; {AGAIN}")
    return rows
