"""Image files whose bands are not colours: which they are, and how they are read.

Those are arrays in NumPy's own format, `.npy`, and TIFFs with more bands than colours and alpha.
"""

import importlib.util
import math
import os
import struct
import threading
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.TiffImagePlugin

# Of TIFF's PhotometricInterpretation: how many bands are colour. TIFF 6.0, pages 37 and 31 for
# ExtraSamples, where 1 and 2 say alpha; Corel writes 999 for it.
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
ALPHA = (1, 2, 999)
SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins; 40 bytes on, the number of bands
HEAD = 1 << 16  # bytes in which that stands
NPY = b"\x93NUMPY"
MOST = 256  # bands
DEFLATE = (8, 32946)
PLAIN = (1, *DEFLATE, 32773)  # compressions that tifffile decodes by itself: none, zlib, PackBits
INSTALL = "pip install tl_jax[tiff]"
VALUES = 2**30  # of an image, in all bands
# NumPy reads headers with Python's own parser, of which two threads disturb each other up to Python
# 3.11 where a callback of the garbage collector, such as JAX's, comes between (CPython, gh-106905).
_PARSER = threading.Lock()


class Header(NamedTuple):
    """What a file of bands says of itself."""

    kind: str  # "NPY" or "TIFF"
    shape: tuple[int, ...]  # (height, width) or (height, width, bands)


def header(file: BinaryIO) -> Header | None:
    """What a file of bands says of itself; None for any other file.

    ValueError for a damaged array, and for a shape that no image has. The file's position is left
    anywhere.
    """
    file.seek(0)
    if file.read(len(NPY)) == NPY:
        found = Header("NPY", _npy_header(file)[0])
    else:
        tags = _tiff_tags(file)
        count, more = _tiff_bands(tags)
        if not more:
            return None
        found = Header("TIFF", (int(tags.get(257, 0)), int(tags.get(256, 0)), count))
    _require_shape(found.shape)
    return found


def read(file: BinaryIO, found: Header) -> np.ndarray:
    """The array (H, W) or (H, W, C), uint8 or uint16, in a file that has this `header`.

    ValueError for one that is damaged, has another type or shape, or is too large, before memory is
    taken. A TIFF takes the package tifffile.
    """
    return _npy(file) if found.kind == "NPY" else _tiff(file, math.prod(found.shape))


def _npy(file: BinaryIO) -> np.ndarray:
    shape, in_columns, dtype = _npy_header(file)
    _require_last(shape)
    _require_type(dtype)
    start = file.tell()
    there = file.seek(0, os.SEEK_END) - start
    if there < (needed := math.prod(shape) * dtype.itemsize):
        raise ValueError(f"it is truncated: {there:,} bytes of the {needed:,} of its {shape}")
    file.seek(start)
    values = np.frombuffer(file.read(needed), dtype)
    return values.reshape(shape, order="F" if in_columns else "C")


def require(shape: tuple[int, ...]) -> None:
    """ValueError unless an array of this shape is an image (H, W) or (H, W, C)."""
    _require_shape(shape)
    _require_last(shape)


def _require_shape(shape: tuple[int, ...]) -> None:
    """ValueError unless this is the shape of an image that memory holds: (H, W) or (H, W, C)."""
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(f"an image is an array (height, width, bands); this one is {shape}")
    if shape[2:] > (MOST,):
        raise ValueError(f"{shape[2]} bands are more than {MOST}; bands come last: it is {shape}")
    if math.prod(shape) > VALUES:
        raise ValueError(f"{' x '.join(map(str, shape))} values are more than {VALUES}")


def _require_last(shape: tuple[int, ...]) -> None:
    """ValueError for bands that come first, which an array does not say of itself."""
    if len(shape) == 3 and shape[0] < min(shape[1:]):
        raise ValueError(
            f"bands come last, (height, width, bands), and it is {shape}: np.moveaxis(it, 0, -1) "
            "puts the first axis there"
        )


def _require_type(dtype: Any) -> None:
    if (dtype.kind, dtype.itemsize) not in (("u", 1), ("u", 2)):
        raise ValueError(f"bands are uint8 or uint16, and these are {dtype}: scale and convert")


def _npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether columns lie together, and type, from behind the file's signature on."""
    file.seek(0)
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"version {version} of .npy is for records, and not for images")
    try:
        with _PARSER:
            return readers[version](file)
    except Exception as error:  # NumPy reads it with Python's own parser
        raise ValueError("it begins as an .npy file, but its header is damaged") from error


def _tiff(file: BinaryIO, size: int) -> np.ndarray:
    """The bands (H, W, C) of the first image of a TIFF, so many values."""
    try:
        import tifffile
    except ModuleNotFoundError:
        raise ValueError(f"TIFFs of many bands need tifffile: {INSTALL}") from None
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    with tifffile.TiffFile(file) as opened:
        page: Any = opened.pages.first
        _require_type(page.dtype)
        if page.size != size:
            raise ValueError(f"it has more dimensions than an image's three: {page.shape}")
        # tifffile puts zeros where bytes are missing.
        parts = zip(page.dataoffsets, page.databytecounts, strict=True)
        if not page.dataoffsets or any(start + size > end for start, size in parts):
            raise ValueError("it is truncated")
        if page.compression not in PLAIN and importlib.util.find_spec("imagecodecs") is None:
            name = page.compression.name
            raise ValueError(f"{name} in TIFFs of many bands needs imagecodecs: {INSTALL}")
        if page.compression in DEFLATE:
            _require_no_more(file, page)
        pixels = page.asarray()
        return np.moveaxis(pixels, 0, -1) if page.axes.startswith("S") else pixels


def _require_no_more(file: BinaryIO, page: Any) -> None:
    """ValueError for compressed parts that hold more than their pixels: some inflate a thousand
    times, and tifffile would let them.
    """
    room = math.prod(page.chunks) * page.dtype.itemsize
    for start, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(start)
        if len(zlib.decompressobj().decompress(file.read(count), room + 1)) > room:
            raise ValueError("a part of it holds more than its pixels")


def _tiff_tags(file: BinaryIO) -> Mapping[int, Any]:
    """The first directory of a TIFF; {} of other files and of damaged ones."""
    file.seek(0)
    header = file.read(8)
    header += file.read(8) if header[2:3] == b"+" else b""  # BigTIFF
    try:
        tags = PIL.TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(tags.next)
        tags.load(file)
    except (SyntaxError, LookupError, OSError, ValueError, struct.error):
        return {}
    return tags


def _tiff_bands(tags: Mapping[int, Any]) -> tuple[int, bool]:
    """How many bands there are, and whether some are neither colour nor alpha, as the file says."""
    bands, extra = tags.get(277, 1), tags.get(338, ())
    colours = COLOURS.get(tags.get(262, 1), bands)
    more = bands - colours
    return bands, more > 1 or more == 1 and extra[:1] not in [(kind,) for kind in ALPHA]


def require_colours(file: BinaryIO) -> None:
    """ValueError that counts the bands of a JPEG 2000 image if some are neither colour nor, as the
    file says, alpha. ISO 15444-1: A.5.1 for the number, I.5.3.6 for the box that says what they
    are.
    """
    file.seek(0)
    head = file.read(HEAD)
    if SIZ not in head:
        return
    start = head.index(SIZ)
    bands = int.from_bytes(head[start + 40 : start + 42])
    more = bands - (1 if bands < 3 else 3)
    if more > 1 or more == 1 and b"cdef" not in head[:start]:
        raise ValueError(
            f"it has {bands} bands, {more} more than its colours, and does not say that this is "
            "alpha; save all as .npy or TIFF, or the 1 or 3 to be used as grey or RGB"
        )
