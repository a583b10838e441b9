"""Image files as plain pixels, whatever wrote them."""

import contextlib
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Iterable
from typing import Any, BinaryIO, NamedTuple

import numpy as np
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
RARE = 1e-3  # share of an image's pixels at either end, such as hot ones; one at least
DEEP = "tl_jax_levels"  # in an image's `info`: `Levels`, where it had 16 bits a channel
_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class Levels(NamedTuple):
    """How an image of 16 bits a channel used its 65,536 levels."""

    whole: Range  # the least and the greatest
    common: Range  # without the `RARE` darkest and brightest
    usual: int  # from the 1st to the 99th percentile, of about a thousand pixels


def open_file(path: str | os.PathLike, grey_range: Range | None = None) -> PIL.Image.Image:
    """`open_image` for a path that a user names; UserError unless an ordinary file is there."""
    if not os.path.isfile(path):  # nothing, or a pipe, which one would wait on
        raise UserError(f"no such image: {path}")
    return open_image(path, grey_range)


def open_image(
    source: str | os.PathLike | BinaryIO, grey_range: Range | None = None
) -> PIL.Image.Image:
    """The image in a file as a person sees it, of mode 'L' (any grey, any bit depth) or 'RGB'.

    The orientation in EXIF is applied, transparency is laid on white, 16 bits a channel are scaled
    to 8, from `grey_range` (None: all 65,536 levels); of an animation the first frame is taken.
    Colour profiles are not applied. UserError names a file that cannot be read, one with bands that
    are neither colour nor declared as alpha, and one with more than `PIL.Image.MAX_IMAGE_PIXELS`
    pixels, of which none is decoded. Thread-safe.
    """
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
            file.seek(0)
            with _identified(file) as image:
                _refuse_bomb(image)
                tiles = _other_bytes(image)
                image.load()
                if not tiles:
                    return _plain(image, grey_range)
                with _identified(file) as lower:
                    lower.tile = tiles  # pyrefly: ignore[missing-attribute]
                    lower.load()
                    return _deep_colours(image, lower, grey_range)
    except Exception as error:  # decoders raise nearly anything at damaged files
        raise UserError(f"cannot read {os.fspath(name)!r}: {_reason(error)}") from error


def file_kind(path: str | os.PathLike) -> tuple[str, str]:
    """Format and Pillow's mode of an image file, from its header; UserError if it has none."""
    _quieten_pillow()
    try:
        with open(path, "rb") as file, _identified(file) as image:
            return image.format or "unknown", image.mode
    except Exception as error:
        raise UserError(f"cannot read {os.fspath(path)!r}: {_reason(error)}") from error


def plain(image: PIL.Image.Image, grey_range: Range | None = None) -> PIL.Image.Image:
    """An image in memory as `open_image` gives those in files; UserError if that cannot be."""
    try:
        return _plain(image.copy(), grey_range)
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
    try:
        image = PIL.Image.open(file, formats=FORMATS)
    except PIL.UnidentifiedImageError:
        if _is_heic(file):
            return _heic(file)
        bands.require_known(file, None)
        file.seek(0)
        if begun := _begins_as(file.read(16)):
            what = f"it begins as a {begun} file, but is damaged or of a kind that Pillow lacks"
            raise ValueError(what) from None
        raise
    if image.format in ("TIFF", "JPEG2000"):
        place = file.tell()
        bands.require_known(file, image)
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


def _refuse_bomb(image: PIL.Image.Image) -> None:
    limit = PIL.Image.MAX_IMAGE_PIXELS  # Pillow itself raises only from twice as many on
    if limit is not None and image.width * image.height > limit:
        raise ValueError(f"{image.width} x {image.height} pixels are more than {limit}")


def _plain(image: PIL.Image.Image, grey_range: Range | None) -> PIL.Image.Image:
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
    return image.convert(mode)


def _to_8_bits(image: PIL.Image.Image, grey_range: Range) -> PIL.Image.Image:
    """16-bit grey to 8 bits; Pillow's own `convert` clips at 255 instead of scaling."""
    pixels = np.asarray(image).astype(np.int64)
    levels = _levels(pixels)
    if levels.whole[0] < FULL[0] or levels.whole[1] > FULL[1]:
        raise ValueError("32-bit pixels have no fixed range; save it with 8 or 16 bits a channel")
    scaled = _scaled(pixels, grey_range)
    scaled[pixels == image.info.get("transparency")] = 255
    grey = PIL.Image.fromarray(scaled)
    grey.info[DEEP] = levels
    return grey


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


def _deep_colours(
    upper: PIL.Image.Image, lower: PIL.Image.Image, grey_range: Range | None
) -> PIL.Image.Image:
    """Colours of 16 bits in 8, from the upper and the lower byte of each; `upper` alone, as other
    libraries read it, where no range is given.
    """
    high, low = (np.asarray(half)[..., :3].astype(np.int64) for half in (upper, lower))
    pixels = 256 * high + low
    if grey_range is not None:
        scaled = PIL.Image.fromarray(_scaled(pixels, grey_range))
        if upper.mode == "RGBA":
            scaled.putalpha(upper.getchannel("A"))
        upper.paste(scaled)
    seen = _plain(upper, grey_range)
    seen.info[DEEP] = _levels(pixels)
    return seen


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
