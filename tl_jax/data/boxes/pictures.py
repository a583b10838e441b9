"""A task of boxes from the images that a file lists: what is cut, left out and said of them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tl_jax.data import duplicates as same
from tl_jax.data.boxes.splits import divided
from tl_jax.data.boxes.truth import LIMIT, MOST, Box, padded
from tl_jax.data.files import listed
from tl_jax.data.images import fingerprint, open_image, size_at
from tl_jax.data.task import Task
from tl_jax.data.tasks.folder import readable
from tl_jax.errors import UserError

logger = logging.getLogger(__name__)


class Picture(NamedTuple):
    """An image that a file lists, and its boxes as the file has them."""

    boxes: list[Box]
    size: tuple[int, int] | None = None  # width and height, as the file says
    split: str = ""  # of the data's own
    group: str = ""


def task_of(
    name: str,
    root: Path,
    pictures: Mapping[str, Picture],
    classes: Sequence[str],
    *,
    seed: int,
    val: float,
    test: float,
    labelled: int = 0,
    most: int = MOST,
    large: bool = False,
    **how: Any,
) -> Task:
    """Return the task of these images, by their paths below `root`.

    All are decoded once now (`tl_jax.data.tasks.folder.readable`, whose options are `how`).
    Boxes are cut off at the edges of their images; those outside and those without area are left
    out, and a line says so.
    """
    if not pictures:
        raise UserError(f"{name} lists no images")
    group_of = {file: (one.split or "train", repr(one.boxes)) for file, one in pictures.items()}
    digests, known = readable(root, group_of, large=large, **how)
    ids = tuple(digests)
    found = [pictures[id_] for id_ in ids]
    sizes = np.array([_size(root / id_, pictures[id_].size) for id_ in ids])
    boxes = _within([one.boxes for one in found], sizes, ids, name)
    truth = padded(boxes, sizes, ids, LIMIT if large else most)  # tiles have fewer
    splits = divided(
        truth,
        len(classes),
        own=[one.split for one in found],
        groups=[one.group for one in found],
        **{"seed": seed, "val": val, "test": test, "labelled": labelled},
    )
    same.warn(name, list(digests.values()), splits, "; leave them out with duplicates=drop")
    place = root.absolute()  # wherever the program goes meanwhile
    return Task(
        name=name,
        asks="boxes",
        classes=tuple(classes),
        ids=ids,
        open=lambda index: open_image(place / ids[index], known["grey_range"], large=large),
        truth=truth,
        groups=tuple(one.group for one in found) if any(one.group for one in found) else (),
        splits=splits,
        fingerprint=fingerprint(ids, digests.values()),
        folder=str(place),
        **known,
    )


def _size(path: Path, said: tuple[int, int] | None) -> tuple[int, int]:
    """Width and height of an image; UserError if the boxes are said to be of another size."""
    width, height = size_at(path)
    if said and said != (width, height):
        turned = " (turned, as its EXIF says)" if said == (height, width) else ""
        raise UserError(
            f"{str(path)!r} is {width} x {height}{turned}, and its boxes are of an image of "
            f"{said[0]} x {said[1]}: put the image that was marked in its place"
        )
    return width, height


def _within(
    boxes: Sequence[list[Box]], sizes: np.ndarray, ids: Sequence[str], name: str
) -> list[list[Box]]:
    """Return the boxes cut off at the edges of their images, without those of which nothing is
    left; say how many were cut, and left out, and that there are images without boxes.
    """
    kept, cut, out, empty = [], [], [], []
    for own, size, id_ in zip(boxes, sizes.tolist(), ids, strict=True):
        inside = []
        for box in own:
            ends = zip(box.edges, size * 2, strict=True)
            x1, y1, x2, y2 = (min(max(edge, 0.0), end) for edge, end in ends)
            if min(x2 - x1, y2 - y1) <= 0:
                out.append(id_)
                continue
            if (x1, y1, x2, y2) != box.edges:
                cut.append(id_)
            inside.append(box._replace(edges=(x1, y1, x2, y2)))
        kept.append(inside)
        empty += [] if inside else [id_]
    for what, names in (
        ("boxes reach beyond their image and are cut off at its edge", cut),
        ("boxes have no area in their image and are left out", out),
        ("images have no boxes and are kept as background", empty),
    ):
        if names:
            logger.warning("%s: %d %s: %s", name, len(names), what, listed(sorted(set(names))))
    return kept
