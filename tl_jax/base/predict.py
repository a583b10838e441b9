"""What a base says of image files, or of lines of text, and how one writes that."""

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tl_jax.base.base import Base
from tl_jax.base.captions import Caption
from tl_jax.chain import answers
from tl_jax.data.boxes.found import Found
from tl_jax.data.files import walk
from tl_jax.data.images import Image, bands_of, open_file
from tl_jax.data.preprocessing import Preprocessing
from tl_jax.errors import UserError

BATCH = 16  # files that are open at once
LINES = 256  # that are read at once


def files_at(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The file itself, or every file below a folder in sorted order, as a folder task finds them
    (`tl_jax.data.files.walk`).
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():  # nothing there, or a pipe, which one would wait on
        raise UserError(f"no such image or folder: {path}")
    inside = sorted(path / name for name in walk(path).files)
    if not inside:
        raise UserError(f"no images in {path}")
    yield from inside


def of_files(
    base: Base, files: Sequence[pathlib.Path]
) -> Iterator[tuple[pathlib.Path, Image | None, np.ndarray | Caption | Found | UserError]]:
    """Each file, its image, and a row of `Base.predict` (C,) or, of a base that tells captions,
    one, of a detector what it finds; or None and what is wrong with the file.
    """
    others = {"captions": base.captions, "boxes": base.detect}
    say = others.get(answers.make(base.answers).asks, base.predict)
    size = 1 if base.of_images.tile else BATCH  # an image of many tiles may be large
    for first in range(0, len(files), size):
        batch = files[first : first + size]
        read = [_opened(file, base.of_images) for file in batch]
        images = [image for image in read if not isinstance(image, UserError)]
        rows = iter(say(images) if images else ())
        for file, image in zip(batch, read, strict=True):
            if isinstance(image, UserError):
                yield file, None, image
            else:
                yield file, image, next(rows)


def of_lines(base: Base, path: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
    """Each line of a file of texts with a row of `Base.predict` (C,); empty lines are left out.

    UserError for a file that is not there, and for what is not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"no such file of texts, one a line: {path}")
    with path.open(encoding="utf-8-sig") as file:
        try:
            lines = (stripped for line in file if (stripped := line.strip()))
            while batch := list(itertools.islice(lines, LINES)):
                yield from zip(batch, base.predict(batch), strict=True)
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not UTF-8 ({error.reason}): save it as UTF-8") from None


def said(base: Base, row: np.ndarray | Caption | Found) -> dict[str, Any]:
    """What a row (C,) of `Base.predict` says, as JSON-able data: the "class" and its "probability",
    or the "labels" that are given, beside all "probabilities"; or the "numbers". Of a caption, the
    "caption" and its "log_p"; of a detector the "objects", each with "class", "score" and "box"
    (x1, y1, x2, y2) in pixels.
    """
    if isinstance(row, Caption):
        return {"caption": row.text, "log_p": round(row.log_p, 6)}
    if isinstance(row, Found):
        return {"objects": [_object(base, *one) for one in zip(*row, strict=True)]}
    kind, names = answers.make(base.answers), base.classes or tuple(map(str, range(len(row))))
    every = {name: round(float(p), 6) for name, p in zip(names, row, strict=True)}
    if kind.asks == "numbers":
        return {"numbers": every}
    if isinstance(kind, answers.Labels):
        least = kind.thresholds or (0.5,) * len(row)
        given = [name for name, p, t in zip(every, row, least, strict=True) if p >= t]
        return {"labels": given, "probabilities": every}
    best = int(row.argmax())
    told = {"class": names[best], "probability": every[names[best]]}
    return told | {"probabilities": every}


def _object(base: Base, box: np.ndarray, score: float, number: int) -> dict[str, Any]:
    name = base.classes[number] if base.classes else str(number)
    pixels = [round(float(x), 1) for x in box]
    return {"class": name, "score": round(float(score), 4), "box": pixels}


def _opened(file: pathlib.Path, expects: Preprocessing) -> Image | UserError:
    try:
        image = open_file(file, expects.grey_range, large=expects.tile > 0)
        expects.require_channels(bands_of(image), f"{file}: images")
        return image
    except UserError as error:
        return error
