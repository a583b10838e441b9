"""Image files with more bands than colours: which of them say that a band is alpha."""

import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import PIL.Image
import PIL.TiffImagePlugin

# Of TIFF's PhotometricInterpretation: how many bands are colour. TIFF 6.0, pages 37 and 31 for
# ExtraSamples, where 1 and 2 say alpha; Corel writes 999 for it.
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
ALPHA = (1, 2, 999)
SIZ = b"\xff\x4f\xff\x51"  # how a JPEG 2000 codestream begins; 40 bytes on, the number of bands
HEAD = 1 << 16  # bytes in which that stands


def require_known(file: BinaryIO, image: PIL.Image.Image | None) -> None:
    """ValueError that counts the bands if some are neither colour nor, as the file says, alpha.

    image: as Pillow opened the file, None where it could not. The file's position is left anywhere.
    """
    file.seek(0)
    head = file.read(HEAD)
    if image is not None and image.format == "TIFF":
        _require_tiff(getattr(image, "tag_v2", {}))
    elif image is None:
        _require_tiff(_tiff_tags(file))
    if SIZ in head and (image is None or image.format == "JPEG2000" and image.mode != "CMYK"):
        _require_jpeg2000(head)


def _tiff_tags(file: BinaryIO) -> Mapping[int, Any]:
    """The first directory of a TIFF of a kind that Pillow does not decode; {} of other files."""
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


def _require_tiff(tags: Mapping[int, Any]) -> None:
    bands, extra = tags.get(277, 1), tags.get(338, ())
    colours = COLOURS.get(tags.get(262, 1), bands)
    _require(bands, colours, alpha=extra[:1] in [(kind,) for kind in ALPHA])


def _require_jpeg2000(head: bytes) -> None:
    """ISO 15444-1: A.5.1 for the number of bands, I.5.3.6 for the box that says what they are."""
    start = head.index(SIZ)
    bands = int.from_bytes(head[start + 40 : start + 42])
    _require(bands, 1 if bands < 3 else 3, alpha=b"cdef" in head[:start])


def _require(bands: int, colours: int, *, alpha: bool) -> None:
    more = bands - colours
    if more > 1 or more == 1 and not alpha:
        raise ValueError(
            f"it has {bands} bands, {more} more than its colours, and does not say that this is "
            "alpha; save the 1 or 3 bands to be used as grey or RGB"
        )
