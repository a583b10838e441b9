"""Characters drawn from fonts under random nuisance: a synthetic domain with the labels of digits.

Training on such drawings for use on real images is domain randomisation (Tobin et al. 2017,
arXiv:1703.06907); `nuisance` says how much of it.
"""

import dataclasses
import functools
import hashlib
import logging
import math
from pathlib import Path

import numpy as np
import PIL
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFilter
import PIL.ImageFont

from tl_jax.data.files import path_of
from tl_jax.data.images import fingerprint
from tl_jax.data.splits import divide
from tl_jax.data.task import Task
from tl_jax.data.tasks.arrays import unweighted
from tl_jax.errors import UserError, takes, takes_type, takes_whole

logger = logging.getLogger(__name__)

MOST = 1_000_000  # images
SIDES = 8, 512  # pixels
# Of the fonts that matplotlib ships, those in which every letter and digit looks like itself; its
# fonts of symbols have other signs in their places.
SHIPPED = ("DejaVuSans*.ttf", "DejaVuSerif*.ttf", "STIXGeneral*.ttf", "cmr10.ttf", "cmss10.ttf",
           "cmtt10.ttf", "cmb10.ttf")  # fmt: skip


def rendered(
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    characters: str = "0123456789",
    count: int = 2000,
    size: int = 28,
    nuisance: float = 0.5,
    fonts: str = "",
) -> Task:
    """Grey images (`size`, `size`) of single characters, bright on dark; a class each.

    `nuisance`: from 0, plain characters in the middle, to 1, at which size, place, rotation, shear,
    blur, noise, background and contrast vary as widely as a character can be read, and half of the
    characters are dark on bright. `fonts`: a folder of .ttf and .otf files, searched as a whole;
    empty: those that matplotlib ships. Of `count` images each character and each font have the
    same share, one more or less.

    An image depends on its number, the options and Pillow's version; `seed` draws the splits alone.
    UserError for a font folder in which no font has all characters, and for more plain images than
    there are different ones.
    """
    takes_whole(count, "count=", 1, MOST)
    takes_whole(size, "size=", *SIDES)
    takes_type("nuisance=", float, nuisance)
    takes(0 <= nuisance <= 1, "nuisance=", "a number from 0 to 1", nuisance)
    takes_type("characters=", str, characters)
    several = 2 <= len(characters) == len(set(characters))
    takes(several, "characters=", "two or more, each once", characters)
    files = _usable(fonts, characters)
    different = len(files) * len(characters)
    if nuisance == 0 and count > different:
        raise UserError(
            f"without nuisance {len(files)} fonts give {different} different images: take "
            f"count={different}, or nuisance= above 0"
        )
    how = _How(size, float(nuisance))
    labels = np.arange(count) % len(characters)
    chosen = [files[row // len(characters) % len(files)] for row in range(count)]
    ids = tuple(
        f"{row}_{characters[label]}_{font.stem}"
        for row, (label, font) in enumerate(zip(labels, chosen, strict=True))
    )
    names = np.array(list(characters))[labels]
    options = {"seed": seed, "val": val, "test": test, "per_class": per_class}
    contents = {font: hashlib.sha256(font.read_bytes()).digest() for font in files}
    drawn = repr((how, PIL.__version__)).encode()
    return Task(
        name="rendered",
        classes=tuple(characters),
        ids=ids,
        open=lambda row: how.drawn(characters[labels[row]], chosen[row], row),
        truth=unweighted(labels, len(characters)),
        splits=divide({"train": np.arange(count)}, names, **options),
        fingerprint=fingerprint(ids, (contents[font] + drawn for font in chosen)),
        channels=1,
    )


@dataclasses.dataclass(frozen=True)
class _How:
    """How characters are drawn."""

    side: int  # pixels
    nuisance: float  # 0 to 1

    def drawn(self, character: str, font: Path, number: int) -> PIL.Image.Image:
        """Return the image of a character; all that is random in it depends on its number."""
        rng, much = np.random.default_rng(number), self.nuisance
        # Drawn in the same order whatever the nuisance, so that more of it is more of the same.
        size, x, y, turn, shear = rng.uniform(-1, 1, 5) * much
        blur, grain, haze, fade, level = rng.uniform(0, 1, 5) * much
        inverted = rng.uniform() < much / 2
        ink = _ink(character, font, self.side, 0.85 * (1 + 0.3 * size))
        shift = 0.14 * self.side * np.array([x, y])
        ink = _moved(ink, shift, math.radians(30 * turn), 0.4 * shear)
        ink = ink.filter(PIL.ImageFilter.GaussianBlur(float(self.side / 18 * blur)))
        strokes = np.asarray(ink, np.float32) / 255
        ground = 0.35 * level + 0.35 * haze * (_clouds(rng, self.side) - 0.5)
        contrast = (1 - 0.35 * level) * (1 - 0.5 * fade)
        seen = ground + contrast * strokes
        seen = 1 - seen if inverted else seen
        seen = seen + 0.15 * grain * rng.standard_normal(strokes.shape)
        return PIL.Image.fromarray(np.rint(255 * seen.clip(0, 1)).astype(np.uint8))


def _ink(character: str, font: Path, side: int, size: float) -> PIL.Image.Image:
    """The character in the middle of a square, 255 on 0; `size`: of an em, in sides."""
    canvas = PIL.Image.new("L", (side, side))
    loaded = PIL.ImageFont.truetype(str(font), max(1, round(size * side)))
    left, top, right, bottom = loaded.getbbox(character)
    corner = (side - left - right) / 2, (side - top - bottom) / 2
    PIL.ImageDraw.Draw(canvas).text(corner, character, fill=255, font=loaded)
    return canvas


def _moved(image: PIL.Image.Image, shift: np.ndarray, turn: float, shear: float) -> PIL.Image.Image:
    """The image sheared, turned about its middle (radians), and shifted (pixels)."""
    forward = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    backward = np.linalg.inv(forward @ [[1, shear], [0, 1]])
    middle = np.full(2, image.width / 2)  # pixels are squares, whose corners have whole numbers
    offset = middle - backward @ (middle + shift)
    rows = np.hstack([backward, offset[:, None]]).ravel().tolist()
    bicubic = PIL.Image.Resampling.BICUBIC
    return image.transform(image.size, PIL.Image.Transform.AFFINE, rows, bicubic)


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth random shades (side, side), 0 to 1."""
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (4, 4)).astype(np.uint8))
    return np.asarray(coarse.resize((side, side), PIL.Image.Resampling.BICUBIC)) / 255


@functools.cache
def _usable(folder: str, characters: str) -> tuple[Path, ...]:
    """The font files that have a picture of its own for each character, in order."""
    found = _files(folder)
    usable = [font for font in found if _has(font, characters)]
    if not usable:
        where = repr(folder) if folder else "matplotlib's folder"
        raise UserError(
            f"none of the {len(found)} fonts (.ttf, .otf) in {where} has all of {characters!r}: "
            "give other fonts= or characters="
        )
    if folder and len(usable) < len(found):
        lacking = [font.name for font in found if font not in usable]
        logger.warning("fonts without all characters are left out: %s", ", ".join(lacking))
    return tuple(usable)


def _files(folder: str) -> list[Path]:
    if folder:
        if not path_of(folder).is_dir():
            raise UserError(f"fonts={folder} is no folder")
        every = sorted(path_of(folder).rglob("*"))
        return [path for path in every if path.suffix.lower() in (".ttf", ".otf")]
    try:
        import matplotlib
    except ImportError:
        line = "the task 'rendered' draws with matplotlib's fonts: pip install tl_jax[report]"
        raise UserError(f"{line}, or give a folder of your own as fonts=") from None
    shipped = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return sorted(path for pattern in SHIPPED for path in shipped.glob(pattern))


def _has(font: Path, characters: str) -> bool:
    """Whether no two characters, and none and a missing one, look the same in the font."""
    try:
        pictures = {_ink(one, font, 32, 0.85).tobytes() for one in (*characters, "\U0010fffd")}
        return len(pictures) == len(characters) + 1
    except OSError:  # FreeType cannot read it
        return False
