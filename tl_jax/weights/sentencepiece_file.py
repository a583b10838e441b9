"""A reader of SentencePiece's `.model` files, which are protocol buffers.

The library `sentencepiece` is not needed, and nothing in the file is executed. Format:
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
"""

import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN, reading

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # types of pieces
KINDS = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
_MAX_BYTES = 2**24  # a model of 250,000 pieces has 5 MB


class Piece(NamedTuple):
    """A piece, by whose place in the list a text is numbered."""

    text: str
    score: float  # log-probability, of normal ones
    type: int


class SentencePiece(NamedTuple):
    """What a file says of its model."""

    pieces: tuple[Piece, ...]
    charsmap: bytes  # compiled rules of which characters replace which; empty: none
    prefix: bool  # whether a text begins with a space that is not there
    squeeze: bool  # whether spaces around a text go, and several in it are one
    byte_fallback: bool  # whether unknown characters are their bytes


def read(path: Path) -> SentencePiece:
    """Return the unigram model in a file; UserError if it has another, or is damaged."""
    with reading(path), path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise UserError(f"is longer than {_MAX_BYTES} bytes, and so no model of SentencePiece")
        pieces, parts = [], {2: {}, 3: {}}
        for number, value in _fields(content):
            if number == 1:
                pieces.append(_piece(dict(_fields(value))))
            elif number in parts:
                parts[number] |= dict(_fields(value))
        training, normalising = parts[2], parts[3]
        _require_unigram(pieces, training)
        charsmap = normalising.get(2, b"")
        if not isinstance(charsmap, bytes):
            raise TypeError(f"rules of the type {type(charsmap)}")
        prefix, squeeze = (bool(normalising.get(number, 1)) for number in (3, 4))
        return SentencePiece(tuple(pieces), charsmap, prefix, squeeze, bool(training.get(35, 0)))


def _fields(content: Any) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field: a whole number, or bytes."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(content, place)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if kind == 2:
                size, place = _varint(content, place)
            if size is None or place + size > len(content):
                raise UserError(f"is truncated, or no model of SentencePiece; {AGAIN}")
            value, place = content[place : place + size], place + size
        yield key >> 3, value


def _varint(content: Any, place: int) -> tuple[int, int]:
    """Return the number at a place, seven bits a byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place + shift // 7]  # IndexError, which `reading` knows, where it is cut
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place + shift // 7 + 1
    raise ValueError("a number of more than ten bytes")


def _piece(fields: dict[int, Any]) -> Piece:
    (score,) = struct.unpack("<f", fields.get(2, bytes(4)))
    return Piece(fields[1].decode(), score, fields.get(3, NORMAL))


def _require_unigram(pieces: Sequence[Piece], training: dict[int, Any]) -> None:
    """UserError for another kind of model, and for what a text cannot be made of."""
    if (kind := training.get(3, 1)) != 1:
        raise UserError(
            f"is of the kind {KINDS.get(kind, kind)}, and only unigram models are read: take the "
            "tokenizer.json that Hugging Face's libraries make of it"
        )
    if training.get(24, 0):
        raise UserError("its pieces end with a space instead of beginning with one: retrain it")
    if any(piece.type == UNUSED for piece in pieces):
        raise UserError("has pieces that are switched off: retrain it without them")
    unknown = sum(piece.type == UNKNOWN for piece in pieces)
    distinct = len({piece.text for piece in pieces}) == len(pieces)
    finite = all(math.isfinite(piece.score) for piece in pieces)
    if unknown != 1 or not distinct or not finite or len(pieces) < 2:
        raise UserError(f"has no list of pieces with one for all that is unknown; {AGAIN}")
