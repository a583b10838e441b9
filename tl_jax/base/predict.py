"""Class probabilities of images, by a base as it is."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np

from tl_jax.chain.programs import forward_program
from tl_jax.data import views
from tl_jax.data.images import open_image
from tl_jax.errors import UserError

if TYPE_CHECKING:
    from tl_jax.base.base import Base

BATCH = 16


def probabilities(base: "Base", pixels: np.ndarray) -> np.ndarray:
    """(N, C) of fitted images (N, S, S, 1 or channels), uint8: the mean over the base's views.

    Batches are padded, so that one program serves any number of images. UserError for a base
    without a classifier.
    """
    if base.architecture.cut and not base.architecture.head:
        raise UserError(f"this {base.name} ends at {base.layers[-1]!r}: it has no classifier")
    forward = forward_program(base.chain, None, None).of(base.variables)
    found = [
        _of_batch(base, forward, pixels[first : first + BATCH])
        for first in range(0, len(pixels), BATCH)
    ]
    return np.concatenate(found)


def _of_batch(base: "Base", forward, pixels: np.ndarray) -> np.ndarray:
    padded = np.concatenate([pixels, np.repeat(pixels[:1], BATCH - len(pixels), 0)])
    seen = (views.view(padded, number) for number in range(views.count(base.views)))
    logits = [forward(base.preprocessing.normalise(view)) for view in seen]
    return np.mean([jax.nn.softmax(x) for x in logits], 0)[: len(pixels)]


def files_at(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """The file itself, or every file below a folder in sorted order, hidden ones aside."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():  # nothing there, or a pipe, which one would wait on
        raise UserError(f"no such image or folder: {path}")
    inside = [p for p in sorted(path.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    if not inside:
        raise UserError(f"no images in {path}")
    yield from inside


def of_files(
    base: "Base", files: Sequence[pathlib.Path]
) -> Iterator[tuple[pathlib.Path, np.ndarray | UserError]]:
    """Each image file with its class probabilities (C,), or with what is wrong with it."""
    for first in range(0, len(files), BATCH):
        batch = files[first : first + BATCH]
        read = [_opened(file) for file in batch]
        images = [image for image in read if not isinstance(image, UserError)]
        rows = iter(base.predict(images) if images else ())
        for file, image in zip(batch, read, strict=True):
            yield file, image if isinstance(image, UserError) else next(rows)


def _opened(file: pathlib.Path):
    try:
        return open_image(file)
    except UserError as error:
        return error
