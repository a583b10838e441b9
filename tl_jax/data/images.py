"""Image files as plain pixels, whatever wrote them."""

import contextlib
import hashlib
import os
import re
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from tl_jax.data import bands
from tl_jax.errors import UserError

# Raster formats with a signature. Named, because Pillow would also open formats that start another
# program (EPS starts Ghostscript) or that match nearly any file.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
GREY = ("1", "L", "LA")
FULL = (0, 65535)
Range = tuple[int, int]
# Of mode 'L' or 'RGB'; of another number of bands than 1 and 3 an array (H, W, C), uint8
Image = PIL.Image.Image | np.ndarray
# Pixels of an image that is cut into tiles, at the most: 0.8 GB of RGB, twice that while decoded
LARGE = 2**28
RARE = 1e-3  # share of an image's pixels at either end, such as hot ones; one at least
ACROSS = range(5, 9)  # EXIF orientations that turn an image by a quarter
_ONE = threading.Lock()  # held while a large image is decoded
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class Levels(NamedTuple):
    """How an image of 16 bits a band used its 65,536 levels."""

    whole: Range  # the least and the greatest
    common: Range  # without the `RARE` darkest and brightest
    usual: int  # from the 1st to the 99th percentile, of about a thousand pixels


class Read(NamedTuple):
    """An image, and what its file had that it has not."""

    image: Image
    levels: Levels | None = None  # where it had 16 bits a band


def open_file(
    path: str | os.PathLike, grey_range: Range | None = None, *, large: bool = False
) -> Image:
    """`open_image` for a path that a user names; UserError unless an ordinary file is there."""
    if not os.path.isfile(path):  # nothing, or a pipe, which one would wait on
        raise UserError(f"no such image: {path}")
    return open_image(path, grey_range, large=large)


def open_image(
    source: str | os.PathLike | BinaryIO, grey_range: Range | None = None, *, large: bool = False
) -> Image:
    """The image in a file as a person sees it, of mode 'L' (any grey, any bit depth) or 'RGB'; of
    another number of bands, in an array (`.npy`) or a TIFF, as uint8 (H, W, C).

    The orientation in EXIF is applied, transparency is laid on white, 16 bits a band are scaled
    to 8, from `grey_range` (None: all 65,536 levels); of an animation the first frame is taken.
    Colour profiles are not applied. UserError names a file that cannot be read and one with more
    than `PIL.Image.MAX_IMAGE_PIXELS` pixels, of which none is decoded; with `large` up to `LARGE`
    of them are, of one such image at a time. Thread-safe.
    """
    return read_image(source, grey_range, large=large).image


def read_image(
    source: str | os.PathLike | BinaryIO, grey_range: Range | None = None, *, large: bool = False
) -> Read:
    """`open_image`, with the levels of an image of 16 bits a band."""
    _quieten_pillow()
    name = source if isinstance(source, str | os.PathLike) else getattr(source, "name", "image")
    try:
        with (
            open(source, "rb")
            if isinstance(source, str | os.PathLike)
            else contextlib.nullcontext(source)
        ) as file:
            if not file.read(1):
                raise ValueError("the file is empty")
            return _decoded(file, grey_range, large=large)
    except Exception as error:  # decoders raise nearly anything at damaged files
        raise UserError(f"cannot read {os.fspath(name)!r}: {_reason(error)}") from error


def _decoded(file: BinaryIO, grey_range: Range | None, *, large: bool) -> Read:
    if found := bands.header(file):
        with _room(found.shape[1::-1], large=large):
            return _of_bands(bands.read(file, found), grey_range)
    with _identified(file) as image, _room(image.size, large=large):
        tiles = _other_bytes(image)
        image.load()
        if not tiles:
            return _plain(image, grey_range)
        with _identified(file) as lower:
            lower.tile = tiles  # pyrefly: ignore[missing-attribute]
            lower.load()
            return _deep_colours(image, lower, grey_range)


def open_colours(source: str | os.PathLike | BinaryIO) -> PIL.Image.Image:
    """`open_image`; UserError for one that is neither grey nor RGB."""
    image = open_image(source)
    if isinstance(image, np.ndarray):
        name = getattr(source, "name", source)
        raise UserError(f"{name} has {image.shape[2]} bands, and this takes grey and RGB images")
    return image


def file_kind(path: str | os.PathLike) -> tuple[str, str]:
    """Format and Pillow's mode, or the number of bands, of an image file, from its header;
    UserError if it has none.
    """
    _quieten_pillow()
    try:
        with open(path, "rb") as file:
            if found := bands.header(file):
                return found.kind, f"{(*found.shape, 1)[2]} bands"
            with _identified(file) as image:
                return image.format or "unknown", image.mode
    except Exception as error:
        raise UserError(f"cannot read {os.fspath(path)!r}: {_reason(error)}") from error


def size_at(path: str | os.PathLike) -> tuple[int, int]:
    """Width and height of the image in a file, as `open_image` turns it, from its header; UserError
    if it has none.
    """
    _quieten_pillow()
    try:
        with open(path, "rb") as file:
            if found := bands.header(file):
                return found.shape[1], found.shape[0]
            with _identified(file) as image:
                turned = _orientation(image) in ACROSS
                return image.size[::-1] if turned else image.size
    except Exception as error:
        raise UserError(f"cannot read {os.fspath(path)!r}: {_reason(error)}") from error


def _orientation(image: PIL.Image.Image) -> int | None:
    """EXIF's, if it stands before the pixels; behind them, in a PNG, it would cost to decode it."""
    if image.format == "PNG" and "exif" not in image.info:
        return None
    with contextlib.suppress(Exception):  # damaged EXIF, which says nothing
        return image.getexif().get(PIL.ExifTags.Base.Orientation)


def plain(image: PIL.Image.Image, grey_range: Range | None = None) -> Image:
    """An image in memory as `open_image` gives those in files; UserError if that cannot be."""
    try:
        return _plain(image.copy(), grey_range).image
    except Exception as error:  # a file that was opened is decoded only now
        raise UserError(f"an image of mode {image.mode}: {_reason(error)}") from error


def _quieten_pillow() -> None:
    """Pillow's warnings are of metadata, which is no matter here, and of sizes, checked below.

    `warnings.catch_warnings` swaps the filters of all threads at once, so a loader's threads cannot
    use it. This filter stays instead, in front, and touches no other package's warnings.
    """
    if warnings.filters[:1] != [_QUIET]:
        warnings.filterwarnings("ignore", module=_QUIET[3].pattern)


def _identified(file: BinaryIO) -> PIL.Image.Image:
    file.seek(0)
    try:
        image = PIL.Image.open(file, formats=FORMATS)
    except PIL.Image.DecompressionBombError:  # `_room` says what is too large
        file.seek(0)
        factory, _ = PIL.Image.OPEN[_begins_as(file.read(16)) or FORMATS[0]]
        file.seek(0)
        image = factory(file, "")
    except PIL.UnidentifiedImageError:
        if _is_heic(file):
            return _heic(file)
        bands.require_colours(file)
        file.seek(0)
        if begun := _begins_as(file.read(16)):
            what = f"it begins as a {begun} file, but is damaged or of a kind that Pillow lacks"
            raise ValueError(what) from None
        raise
    if image.format == "JPEG2000" and image.mode != "CMYK":
        place = file.tell()
        bands.require_colours(file)
        file.seek(place)
    return image


def _is_heic(file: BinaryIO) -> bool:
    """Whether the file says so: the brands of ISO/IEC 23008-12, annex B and 10.2."""
    file.seek(0)
    head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in HEIC


def _heic(file: BinaryIO) -> PIL.Image.Image:
    """Pillow's own libraries lack the codec of phones' photographs (H.265), so another has it."""
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise ValueError("HEIC images need pillow-heif: pip install tl_jax[heic]") from None
    pillow_heif.register_heif_opener()
    file.seek(0)
    return PIL.Image.open(file, formats=("HEIF",))


def _begins_as(head: bytes) -> str | None:
    """The format of `FORMATS` whose signature a file begins with."""
    accepts = {name: PIL.Image.OPEN[name][1] for name in FORMATS}
    return next((name for name, accept in accepts.items() if accept and accept(head)), None)


def _room(size: Sequence[int], *, large: bool) -> AbstractContextManager:
    """Return the context in which an image of this size is decoded, a large one alone; ValueError
    if it is larger than Pillow's limit, from twice which on Pillow itself raises.
    """
    pixels, usual = size[0] * size[1], PIL.Image.MAX_IMAGE_PIXELS or sys.maxsize
    limit = max(LARGE, usual) if large else usual
    if pixels > limit:
        cure = "" if large else "; a task of tiles (tile=256) takes it" * (pixels <= LARGE)
        raise ValueError(f"{size[0]} x {size[1]} pixels are more than {limit}{cure}")
    return _ONE if pixels > usual else contextlib.nullcontext()


def _plain(image: PIL.Image.Image, grey_range: Range | None) -> Read:
    # In place, so that what fails afterwards, as Pillow writes damaged EXIF back, costs no pixels.
    with contextlib.suppress(Exception):
        PIL.ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F":
        raise ValueError("float pixels have no fixed range; save it with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return _to_8_bits(image, grey_range or FULL)
    mode = "L" if image.mode in GREY else "RGB"
    if image.has_transparency_data:
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image.convert("RGBA"))
    return Read(image.convert(mode))


def _to_8_bits(image: PIL.Image.Image, grey_range: Range) -> Read:
    """16-bit grey to 8 bits; Pillow's own `convert` clips at 255 instead of scaling."""
    pixels = np.asarray(image).astype(np.int32)
    levels = _levels(pixels)
    if levels.whole[0] < FULL[0] or levels.whole[1] > FULL[1]:
        raise ValueError("32-bit pixels have no fixed range; save it with 8 or 16 bits a channel")
    scaled = _scaled(pixels, grey_range)
    scaled[pixels == image.info.get("transparency")] = 255
    return Read(PIL.Image.fromarray(scaled), levels)


def _other_bytes(image: PIL.Image.Image) -> list:
    """Of an image with 16 bits a colour, which Pillow cuts to the upper 8: how it would read the
    lower ones, as if the file had the other byte order. Empty for all other images.
    """
    tiles = getattr(image, "tile", ())
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}

    def swapped(arguments: Any) -> Any:
        mode, *more = (arguments,) if isinstance(arguments, str) else arguments
        mode = re.sub("(?<=;16)[BLN]$", lambda order: other[order[0]], mode)
        return (mode, *more) if more else mode

    if image.mode not in ("RGB", "RGBA") or ";16" not in str([tile.args for tile in tiles]):
        return []
    return [tile._replace(args=swapped(tile.args)) for tile in tiles]


def _deep_colours(upper: PIL.Image.Image, lower: PIL.Image.Image, grey_range: Range | None) -> Read:
    """Colours of 16 bits in 8, from the upper and the lower byte of each; `upper` alone, as other
    libraries read it, where no range is given.
    """
    high, low = (np.asarray(half)[..., :3].astype(np.int32) for half in (upper, lower))
    pixels = 256 * high + low
    if grey_range is not None:
        scaled = PIL.Image.fromarray(_scaled(pixels, grey_range))
        if upper.mode == "RGBA":
            scaled.putalpha(upper.getchannel("A"))
        upper.paste(scaled)
    return _plain(upper, grey_range)._replace(levels=_levels(pixels))


def _of_bands(array: np.ndarray, grey_range: Range | None) -> Read:
    """An array (H, W) or (H, W, C), uint8 or uint16; several bands of 16 bits as `_deep_colours`,
    one as `_to_8_bits`.
    """
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype == np.uint8:
        return Read(image_of(array))
    deep = array.astype(np.int32)
    if grey_range is None and array.shape[2] > 1:
        return Read(image_of((array >> 8).astype(np.uint8)), _levels(deep))
    return Read(image_of(_scaled(deep, grey_range or FULL)), _levels(deep))


def image_of(pixels: np.ndarray) -> Image:
    """The image of pixels (H, W, C), uint8."""
    if pixels.shape[2] not in (1, 3):
        return np.ascontiguousarray(pixels)
    return PIL.Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def bands_of(image: Image) -> int:
    """How many bands an image has."""
    return image.shape[2] if isinstance(image, np.ndarray) else len(image.getbands())


def size_of(image: Image) -> tuple[int, int]:
    """Width and height."""
    return image.shape[1::-1] if isinstance(image, np.ndarray) else image.size


def seen(image: Image) -> PIL.Image.Image:
    """What a person can see of an image: of an array the first three bands, or the first of two."""
    if not isinstance(image, np.ndarray):
        return image
    shown = image_of(image[..., : 3 if image.shape[2] > 2 else 1])
    assert not isinstance(shown, np.ndarray)
    return shown


def common_bands(bands_by_name: Mapping[str, int]) -> int:
    """The number of bands of all these images; 3 where each is grey or RGB, as grey is repeated.

    UserError that names an image with another number than most.
    """
    counts = Counter(bands_by_name.values())
    if counts.keys() <= {1, 3}:
        return 3
    ((most, _),) = counts.most_common(1)
    other = next((name for name, count in bands_by_name.items() if count != most), None)
    if other is not None:
        raise UserError(
            f"images of a task have the same number of bands; {other!r} has "
            f"{bands_by_name[other]}, and {counts[most]} of {counts.total()} have {most}"
        )
    return most


def _scaled(pixels: np.ndarray, levels: Range) -> np.ndarray:
    """uint8 of the same shape: those levels become 0 to 255, rounded; others are clipped."""
    least, span = levels[0], levels[1] - levels[0]
    return np.clip((510 * (pixels - least) + span) // (2 * span), 0, 255).astype(np.uint8)


def _levels(pixels: np.ndarray) -> Levels:
    down, across = (1 + side // 32 for side in pixels.shape[:2])
    some = np.percentile(pixels[::down, ::across], (1, 99))
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    rare = max(1, int(RARE * pixels.size / channels)) * channels
    rare = min(rare, (pixels.size - 1) // 2)
    order = np.partition(pixels, (rare, pixels.size - 1 - rare), axis=None)
    common = int(order[rare]), int(order[-1 - rare])
    return Levels((int(pixels.min()), int(pixels.max())), common, int(some[1] - some[0]))


def _reason(error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return f"not an image of a known format ({', '.join(FORMATS)})"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]


def digest(path: str | os.PathLike) -> bytes:
    """SHA-256 of a file's bytes; UserError if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UserError(f"cannot read {os.fspath(path)!r}: {_reason(error)}") from error


def fingerprint(ids: Iterable[str], digests: Iterable[bytes]) -> str:
    """A hash of N images, in their order, from the id and the hash of each."""
    whole = hashlib.sha256()
    for name, content in zip(ids, digests, strict=True):
        whole.update(hashlib.sha256(os.fsencode(name)).digest() + content)
    return whole.hexdigest()
