"""A reader, with numpy alone, of the part of HDF5 that Keras's weight files use.

It reads what h5py writes by default: groups with a symbol table, texts as attributes, and arrays of
numbers that are contiguous in the file. It refuses everything else: links, other files,
compression, objects.
Format: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html

Why not h5py: the HDF5 library trusts its files. Its version 2.0 (h5py 3.16), given files of 15 kB
with one to six bytes changed, took all memory, or never returned, or crashed. This reader counts
every number it reads, and allocates no array that is larger than the file.
"""

import math
import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tl_jax.errors import UserError
from tl_jax.weights.reading import AGAIN

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST = 2**21  # numbers that may be read; ResNet101 needs 70 000
_LONGEST = 1000  # bytes in a name
_RESAVE = "save the weights again with Keras or h5py, in the usual way"

# kinds of message in an object's header
_SPACE, _TYPE, _EXTERNAL, _LAYOUT, _FILTERS = 0x01, 0x03, 0x07, 0x08, 0x0B
_ATTRIBUTE, _CONTINUATION, _SYMBOLS = 0x0C, 0x10, 0x11
_NEWER = (0x02, 0x06, 0x0A)  # a group of the newer kind, which can link to other files

# Bits: offset, count; offset and count of the exponent's, then of the mantissa's; exponent bias.
_FLOATS = {
    struct.pack("<2H4BI", *bits): np.dtype(dtype)
    for bits, dtype in (
        ((0, 16, 10, 5, 0, 10, 15), "<f2"),
        ((0, 16, 7, 8, 0, 7, 127), ml_dtypes.bfloat16),
        ((0, 32, 23, 8, 0, 23, 127), "<f4"),
        ((0, 64, 52, 11, 0, 52, 1023), "<f8"),
    )
}


class File:
    """The bytes of a file, and how many numbers may still be read, so that every loop ends."""

    def __init__(self, raw: mmap.mmap):
        self.raw = raw
        self._left = _MOST

    def number(self, at: int, size: int) -> int:
        """Return the unsigned number of `size` bytes at that address."""
        self._left -= 1
        if self._left < 0:
            raise UserError("has too many groups and arrays; give a file of weights alone")
        return int.from_bytes(self.read(at, size), "little")

    def read(self, at: int, size: int) -> bytes:
        """Return `size` bytes at that address."""
        if at + size > len(self.raw):
            raise UserError(f"refers to bytes beyond its end; {AGAIN}")
        return self.raw[at : at + size]

    def string(self, at: int) -> str:
        """Return the text at that address, which ends with a zero byte."""
        end = self.raw.find(b"\0", at, at + _LONGEST)
        if end < 0:
            raise UserError(f"has a name longer than {_LONGEST} bytes; {AGAIN}")
        return self.raw[at:end].decode()


class Object(NamedTuple):
    """A group or an array: the messages of its header, each (kind, address of the body)."""

    file: File
    messages: list[tuple[int, int]]

    @property
    def is_group(self) -> bool:
        return self.body(_SYMBOLS) is not None

    def body(self, kind: int) -> int | None:
        """Return the address of the first message of that kind, or None."""
        return next((at for k, at in self.messages if k == kind), None)


def root(raw: mmap.mmap) -> Object:
    """Return the outermost group of a file."""
    file = File(raw)
    sizes = file.read(13, 2)
    if raw[:8] != SIGNATURE or raw[8] != 0 or sizes != b"\x08\x08" or file.number(24, 8):
        raise UserError(f"is not an HDF5 file, or one of an unusual kind; {_RESAVE}")
    if file.number(40, 8) > len(raw):
        raise UserError(f"is truncated; {AGAIN}")
    return _object(file, file.number(64, 8))


def _object(file: File, at: int) -> Object:
    if file.number(at, 1) != 1:
        raise UserError(f"has groups or arrays of an unusual kind; {_RESAVE}")
    messages, blocks = [], [(at + 16, file.number(at + 8, 4))]
    for start, size in blocks:
        at = start
        while at + 8 <= start + size:
            kind, length, flags = (file.number(at + i, n) for i, n in ((0, 2), (2, 2), (4, 1)))
            if kind == _CONTINUATION:
                blocks.append((file.number(at + 8, 8), file.number(at + 16, 8)))
            elif kind in _NEWER or flags & 2:  # the message's body is elsewhere
                raise UserError(f"has links, or groups or arrays of an unusual kind; {_RESAVE}")
            messages.append((kind, at + 8))
            at += 8 + length
    return Object(file, messages)


def members(group: Object) -> Iterator[tuple[str, Object]]:
    """Yield the name of each member of the group, and the member."""
    file, at = group.file, group.body(_SYMBOLS)
    if at is None:
        raise UserError(f"has a damaged group; {AGAIN}")
    nodes, heap = [file.number(at, 8)], file.number(at + 8, 8)
    names = file.number(heap + 24, 8)
    for node in nodes:
        count = file.number(node + 6, 2)
        match file.read(node, 4):
            case b"TREE":
                nodes += [file.number(node + 32 + 16 * i, 8) for i in range(count)]
            case b"SNOD":
                for entry in range(node + 8, node + 8 + 40 * count, 40):
                    name = file.string(names + file.number(entry, 8))
                    if file.number(entry + 16, 4) == 2:
                        raise UserError(f"has a link instead of {name!r:.80}; {_RESAVE}")
                    yield name, _object(file, file.number(entry + 8, 8))
            case _:
                raise UserError(f"has a damaged group; {AGAIN}")


def attributes(thing: Object) -> dict[str, int]:
    """Return the attributes' addresses by name."""
    addresses = [at for kind, at in thing.messages if kind == _ATTRIBUTE]
    start = {1: 8, 2: 8, 3: 9}  # of the name, by version
    return {thing.file.string(at + start[thing.file.number(at, 1)]): at for at in addresses}


def text(file: File, at: int) -> str | None:
    """Return the text of the attribute at that address; None if it is no variable-length text."""
    name, kind, space = (-(-file.number(at + i, 2) // 8) * 8 for i in (2, 4, 6))
    kind, space, value = at + 8 + name, at + 8 + name + kind, at + 8 + name + kind + space
    variable, texts, rank = (file.number(i, 1) for i in (kind, kind + 1, space + 1))
    if file.number(at, 1) != 1 or variable & 15 != 9 or texts & 15 != 1 or rank:
        return None
    length, heap = file.number(value, 4), file.number(value + 4, 8)
    number = file.number(value + 12, 4)
    if length > _LONGEST or file.read(heap, 4) != b"GCOL":
        return None
    at, end = heap + 16, heap + file.number(heap + 8, 8)
    while at < end:
        index, size = file.number(at, 2), file.number(at + 8, 8)
        if index == number:
            return file.read(at + 16, length).decode() if size == length else None
        at += 16 + -(-size // 8) * 8
    return None


def array(thing: Object, room: int) -> np.ndarray:
    """Return the array, read-only; UserError unless it is contiguous, of at most `room` bytes."""
    file, space, kind, layout = (thing.file, *map(thing.body, (_SPACE, _TYPE, _LAYOUT)))
    if space is None or kind is None or layout is None:
        raise UserError(f"is not an array; {AGAIN}")
    version, storage = file.number(layout, 1), file.number(layout + 1, 1)
    elsewhere = thing.body(_EXTERNAL) is not None or thing.body(_FILTERS) is not None
    if version not in (3, 4) or storage > 1 or elsewhere:
        raise UserError(f"is compressed, in pieces or in another file; {_RESAVE}")
    shape, dtype = _shape(file, space), _dtype(file, kind)
    if shape is None or dtype is None:
        raise UserError(f"is not an array of numbers; {_RESAVE}")
    size = math.prod(shape) * dtype.itemsize
    if size > room:
        raise UserError(f"claims more bytes than the file has; {AGAIN}")
    if storage == 0:  # compact: the numbers are in the header
        at, stored = layout + 4, file.number(layout + 2, 2)
    else:
        at, stored = file.number(layout + 2, 8), file.number(layout + 10, 8)
    if stored != size:
        raise UserError(f"is incomplete; {AGAIN}")
    return np.frombuffer(file.read(at, size) if size else b"", dtype).reshape(shape)


def _shape(file: File, at: int) -> tuple[int, ...] | None:
    version, rank = file.number(at, 1), file.number(at + 1, 1)
    if version == 2 and file.number(at + 3, 1) == 2:  # an empty dataspace, which is not a scalar
        return None
    start = at + {1: 8, 2: 4}[version]
    return tuple(file.number(start + 8 * i, 8) for i in range(rank))


def _dtype(file: File, at: int) -> np.dtype | None:
    kind, bits, sign, size = (file.number(at + i, n) for i, n in ((0, 1), (1, 1), (2, 1), (4, 4)))
    order = ">" if bits & 1 else "<"
    match kind & 15:
        case 0 if size in (1, 2, 4, 8) and file.read(at + 8, 4) == struct.pack("<2H", 0, 8 * size):
            return np.dtype(f"{order}{'ui'[bits >> 3 & 1]}{size}")
        case 1 if bits & 0xFE == 0x20 and sign == 8 * size - 1:
            dtype = _FLOATS.get(file.read(at + 8, 12))
            return dtype and dtype.newbyteorder(order)
        case 5 if size == 2:  # untyped bytes, as Keras writes bfloat16
            return np.dtype(ml_dtypes.bfloat16)
    return None
