"""Pictures of two coloured digits with a sentence that says which, in what colours, and where."""

import functools
import hashlib
from typing import Any

import numpy as np
import PIL.Image

from tl_jax.data.task import Task
from tl_jax.data.tasks.captions import APART, Captioned, from_captions
from tl_jax.errors import takes_whole

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {
    "red": (255, 70, 60),
    "green": (70, 220, 80),
    "blue": (90, 130, 255),
    "yellow": (250, 220, 60),
}
# Where the first digit is, seen from the second: (rows, columns) of its place among 2 x 2
PLACES = {"above": (-1, 0), "below": (1, 0), "left of": (0, -1), "right of": (0, 1)}
SIDES = 16, 512
MOST = 100_000


def told_digits(
    *,
    seed: int,
    val: float = 0.1,
    test: float = 0.25,
    per_class: int = 0,
    shared: str = APART,
    count: int = 1500,
    size: int = 64,
) -> Task:
    """`count` pictures (`size`, `size`) of two of scikit-learn's digits on a dark ground, each with
    a caption such as "a red seven above a blue three".

    A picture depends on its number alone; `seed` draws the splits, and `shared` is as in
    `captions`.
    """
    takes_whole(count, "count=", 8, MOST)
    takes_whole(size, "size=", *SIDES)
    found = [_described(number) for number in range(count)]
    examples = {str(number): Captioned((caption,)) for number, (caption, _) in enumerate(found)}
    drawn = [hashlib.sha256(repr((size, number)).encode()).digest() for number in range(count)]
    how = {"seed": seed, "val": val, "test": test, "per_class": per_class, "shared": shared}
    return from_captions(
        "told_digits", examples, lambda row: _picture(found[row][1], size), drawn, **how, least=1
    )


def _described(number: int) -> tuple[str, dict[str, Any]]:
    """The caption of a picture, and what it shows."""
    rng, (_, labels) = np.random.default_rng(number), _digits()
    rows = rng.choice(len(labels), 2, replace=False)
    colours = rng.choice(list(COLOURS), 2)
    place = str(rng.choice(list(PLACES)))
    told = [f"a {colour} {NAMES[labels[row]]}" for colour, row in zip(colours, rows, strict=True)]
    shown = {"rows": rows, "colours": colours, "place": place, "shift": rng.uniform(0, 1, (2, 2))}
    return f"{told[0]} {place} {told[1]}", shown


def _picture(shown: dict[str, Any], size: int) -> PIL.Image.Image:
    """The picture: each digit is a quarter of its area, somewhere in its half."""
    images, _ = _digits()
    canvas, half = np.full((size, size, 3), 24, np.float32), size // 2
    for sign, row, colour, shift in zip((1, -1), *(shown[k] for k in ("rows", "colours", "shift")),
                                        strict=True):  # fmt: skip
        ink = PIL.Image.fromarray(images[row]).resize((half, half), PIL.Image.Resampling.BICUBIC)
        strokes = np.asarray(ink, np.float32)[..., None] / 255
        room = size - half
        # Along the axis that the caption is about it lies at an end, along the other anywhere.
        top, left = (
            round(room * (s if not d else (1 + sign * d) / 2))
            for d, s in zip(PLACES[shown["place"]], shift, strict=True)
        )
        under = canvas[top : top + half, left : left + half]
        under[:] = under * (1 - strokes) + strokes * np.array(COLOURS[str(colour)])
    return PIL.Image.fromarray(np.rint(canvas.clip(0, 255)).astype(np.uint8))


@functools.cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # seconds to import

    loaded: Any = load_digits(return_X_y=True)
    pixels, labels = loaded
    return np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8), labels
