"""Pictures with boxes drawn on them."""

from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from tl_jax.data.images import Image, seen

SIDE = 480  # pixels of the longer side
TRUE, RIGHT, WRONG, ASIDE = "#ffffff", "#2f6db3", "#d8661f", "#8b929c"


def canvas(image: Image, side: int = SIDE) -> tuple[PIL.Image.Image, float]:
    """Return the image in RGB, at most `side` pixels long, and by how much it was scaled."""
    picture = seen(image).convert("RGB")
    scale = min(1.0, side / max(picture.size))
    size = [max(1, round(length * scale)) for length in picture.size]
    return picture.resize((size[0], size[1]), PIL.Image.Resampling.LANCZOS), scale


def draw(
    picture: PIL.Image.Image,
    boxes: np.ndarray,
    *,
    colour: str,
    labels: Sequence[str] = (),
    scale: float = 1.0,
    width: int = 2,
) -> None:
    """Draw boxes (K, 4), in pixels before scaling, onto the picture, each with its label.

    Dark lines beside the coloured ones keep them visible on whatever there is.
    """
    pen, font = PIL.ImageDraw.Draw(picture), PIL.ImageFont.load_default(11)
    for number, box in enumerate(np.asarray(boxes, float) * scale):
        x1, y1, x2, y2 = (round(value) for value in box.tolist())
        x2, y2 = max(x1, x2 - 1), max(y1, y2 - 1)
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="#000000", width=width + 2)
        pen.rectangle((x1, y1, x2, y2), outline=colour, width=width)
        if labels:
            _write(pen, font, labels[number], (x1, y1), colour, picture.size)


def _write(pen, font, label: str, corner: tuple[int, int], colour: str, size: tuple[int, int]):
    """Write a label above a box, or below its upper edge where there is no room."""
    wide, high = round(font.getlength(label)) + 4, 14
    left = max(0, min(corner[0], size[0] - wide))
    top = corner[1] - high if corner[1] >= high else corner[1]
    pen.rectangle((left, top, left + wide, top + high), fill=colour)
    pen.text((left + 2, top + 1), label, "#000000" if colour == TRUE else "#ffffff", font)
