"""Tiles of a task's images, each an example of its own with its image's label and split."""

import dataclasses
import functools
import hashlib
import pathlib
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tl_jax.data.boxes import windows
from tl_jax.data.boxes.truth import Truth, joined
from tl_jax.data.images import Image, size_at, size_of
from tl_jax.data.task import Task
from tl_jax.errors import UserError, takes, takes_whole

LEAST, MOST = 8, 4096  # pixels of a tile's side
COUNT = 1 << 22  # tiles of a task


def tiled(task: Task, side: int) -> Task:
    """Return the task of the tiles of this side of every image, called `big.png#512,256` by their
    left and upper edges; an image that is smaller is one tile.

    All tiles of an image are in its split and have its truth; `Task.wholes` names it. Images are
    decoded whole, one at a time, and the last one is kept: read in order, each is decoded once.
    UserError for a task without images and for more than `COUNT` tiles.
    """
    takes_whole(side, "tile=", LEAST, MOST)
    task.image(0)  # UserError for texts
    takes(not task.captions, "tile=", "none for captions, which are of whole images", side)
    sizes = [_size(task, number) for number in range(len(task.ids))]
    of_images = [corners(size, side) for size in sizes]
    counts = [len(own) for own in of_images]
    if sum(counts) > COUNT:
        raise UserError(f"tile={side} gives {sum(counts):,} tiles, and {COUNT:,} are the most")
    owners = np.repeat(np.arange(len(counts)), counts)
    every = [corner for own in of_images for corner in own]
    whole = _last(task, sizes)
    wholes = tuple(task.ids[owner] for owner in owners)
    return dataclasses.replace(
        task,
        ids=tuple(f"{name}#{left},{top}" for name, (left, top) in zip(wholes, every, strict=True)),
        open=lambda index: _cut(whole(int(owners[index])), every[index], side),
        wholes=wholes,
        groups=tuple(task.groups[owner] for owner in owners) if task.groups else wholes,
        tile=side,
        truth=_truth(task, owners, of_images, side),
        further={n: t._replace(rows=t.rows[owners]) for n, t in task.further.items()},
        arrays={name: array[owners] for name, array in task.arrays.items()},
        splits={name: np.flatnonzero(np.isin(owners, rows)) for name, rows in task.splits.items()},
        fingerprint=hashlib.sha256(repr((task.fingerprint, side)).encode()).hexdigest(),
    )


def _truth(task: Task, owners: np.ndarray, of_images: Sequence[Sequence], side: int) -> Truth:
    """What is true of the tiles: the same as of their images, but for boxes, which are cut.

    One image at a time: all tiles of all images with room for the most boxes may be much.
    """
    if task.asks != "boxes":
        return {name: array[owners] for name, array in task.truth.items()}
    cut_out = []
    for number, own in enumerate(of_images):
        whole = {name: array[[number] * len(own)] for name, array in task.truth.items()}
        cut_out.append(windows.cut(whole, np.array(own), side))
    return joined(cut_out)


def cut(image: Image, side: int) -> Iterator[Image]:
    """Yield the tiles of an image, a PIL image or an array (H, W, ...), row by row."""
    for corner in corners(size_of(image), side):
        yield _cut(image, corner, side)


def corners(size: tuple[int, int], side: int) -> list[tuple[int, int]]:
    """Return left and upper edges of tiles that cover an image of this width and height, row by
    row; the last ones are moved inward.
    """
    lefts, tops = (
        sorted({min(start, max(0, length - side)) for start in range(0, length, side)})
        for length in size
    )
    return [(left, top) for top in tops for left in lefts]


def _cut(image: Image, corner: tuple[int, int], side: int) -> Image:
    (left, top), (width, height) = corner, size_of(image)
    right, bottom = min(left + side, width), min(top + side, height)
    if isinstance(image, np.ndarray):
        return image[top:bottom, left:right]
    return image.crop((left, top, right, bottom))


def _size(task: Task, number: int) -> tuple[int, int]:
    """Width and height of an image; of a file from its header."""
    if task.folder:
        return size_at(pathlib.Path(task.folder, task.ids[number]))
    return size_of(task.image(number))


def _last(task: Task, sizes: Sequence[tuple[int, int]]) -> Callable[[int], Image]:
    """Return a function from an image's number to the image, which keeps the last one.

    The function raises a UserError for an image of another size than in `sizes`.
    """

    @functools.lru_cache(maxsize=1)
    def whole(number: int) -> Image:
        image = task.image(number)
        if size_of(image) != sizes[number]:
            said = f"its header said {sizes[number]}, and it is {size_of(image)}: save it anew"
            raise UserError(f"{task.ids[number]} cannot be cut into tiles: {said}")
        return image

    lock = threading.Lock()

    def one(number: int) -> Image:
        with lock:  # not to decode it once for each thread
            return whole(number)

    return one
