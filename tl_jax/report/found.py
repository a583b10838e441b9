"""Photographs with what a detector finds in them."""

import hashlib
import os
import pathlib
from collections.abc import Sequence

import PIL.Image

from tl_jax.data.boxes.found import Found
from tl_jax.data.images import Image, seen
from tl_jax.errors import UserError
from tl_jax.report import boxes

COLOURS = ("#d8661f", "#1f6fd8", "#2a8f4f", "#8f2a86", "#b3930e", "#0e9db3", "#b30e2f", "#5b5b5b")
SURE = 0.3  # least score of a box that is drawn, where there are any


def keep(
    path: pathlib.Path, image: Image, classes: Sequence[str], found: Found, folder: pathlib.Path
) -> None:
    """Draw what was found in the photograph of a path into a PNG in `folder`.

    Its name has those of the photograph and of its folder, and a hash of the whole path, as these
    may be the same of several photographs. UserError for a folder that cannot be one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise UserError(f"{folder} is a file, or lies in one: name a folder") from None
    whole = os.path.abspath(path)
    digest = hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]
    # Cut: a file system takes 255 bytes of a name.
    name = f"{pathlib.Path(whole).parent.name[:24]}_{path.stem[:24]}_{digest}.png"
    drawn(image, classes, found).save(folder / name, "PNG")


def drawn(image: Image, classes: Sequence[str], found: Found) -> PIL.Image.Image:
    """Draw the boxes of a score from `SURE` on, the surest last; if there are none, the surest."""
    picture = seen(image).convert("RGB")
    least = min(SURE, float(found.scores.max(initial=0)))
    for box, score, number in reversed(list(zip(*found, strict=True))):
        if score >= least:
            name = classes[number] if classes else str(number)
            colour, label = COLOURS[number % len(COLOURS)], f"{name} {score:.2f}"
            boxes.draw(picture, box[None], colour=colour, labels=[label])
    return picture
