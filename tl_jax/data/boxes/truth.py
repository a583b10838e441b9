"""The truth of a task of boxes, as arrays: at most M boxes an image, and a mask for the others.

A box is x1, y1, x2, y2 in pixels: the edges of the rectangle, so that its width is x2 - x1 and a
whole image of width W reaches from 0 to W.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from tl_jax.errors import UserError, takes_whole

NONE = -1  # the class where there is no box
MOST, LIMIT = 100, 10_000  # boxes of an image: by default, and at all
Truth = dict[str, np.ndarray]


class Box(NamedTuple):
    """One box of an image, in the image's own pixels."""

    edges: tuple[float, float, float, float]
    label: int  # number of the class
    ignored: bool = False  # a crowd, or difficult: neither to be found nor wrong to find
    area: float | None = None  # pixels of the thing itself, where that is known


def padded(
    boxes: Sequence[Sequence[Box]], sizes: np.ndarray, names: Sequence[str], most: int
) -> Truth:
    """Return the truth of N images from their boxes and `sizes` (N, 2), width and height:

    "boxes" (N, M, 4) float32, "classes" (N, M) int32 or `NONE`, "ignored" (N, M) bool, "areas"
    (N, M) float32 in pixels of the image, and "sizes" (N, 2) int32. M is the most boxes that an
    image has. UserError, with its name, for an image of more boxes than `most`.
    """
    takes_whole(most, "most=", 1, LIMIT)
    counts = [len(own) for own in boxes]
    width = max(1, max(counts, default=0))
    if width > most:
        raise UserError(
            f"{names[int(np.argmax(counts))]} has {width:,} boxes, and most={most}: set most="
            f"{width}, or cut the images into tiles, as tile=400"
        )
    truth = empty(len(boxes), width) | {"sizes": np.asarray(sizes, np.int32).reshape(-1, 2)}
    for row, own in enumerate(boxes):
        if not own:
            continue
        edges = np.array([box.edges for box in own], np.float32)
        truth["boxes"][row, : len(own)] = edges
        truth["classes"][row, : len(own)] = [box.label for box in own]
        truth["ignored"][row, : len(own)] = [box.ignored for box in own]
        areas = [box.area for box in own]
        truth["areas"][row, : len(own)] = np.where(
            [area is None for area in areas], area_of(edges), [area or 0 for area in areas]
        )
    return truth


def empty(count: int, width: int) -> Truth:
    """Return the truth of `count` images without boxes, in arrays `width` wide, without sizes."""
    return {
        "boxes": np.zeros((count, width, 4), np.float32),
        "classes": np.full((count, width), NONE, np.int32),
        "ignored": np.zeros((count, width), bool),
        "areas": np.zeros((count, width), np.float32),
    }


def area_of(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (...) of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def counted(truth: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return (N, M) whether there is a box that a detector must find."""
    return (truth["classes"] != NONE) & ~truth["ignored"]


def presence(truth: Mapping[str, np.ndarray], classes: int) -> np.ndarray:
    """Return (N, C) 1 or 0: whether a box of the class is in the image."""
    found = np.zeros((len(truth["classes"]), classes), np.float32)
    rows, columns = np.nonzero(truth["classes"] != NONE)
    found[rows, truth["classes"][rows, columns]] = 1
    return found


def joined(parts: Sequence[Truth]) -> Truth:
    """Return the truth of the images of all parts, as wide as the widest part."""
    counts = [len(part["classes"]) for part in parts]
    boxes = empty(sum(counts), max(part["classes"].shape[1] for part in parts))
    for last, count, part in zip(np.cumsum(counts), counts, parts, strict=True):
        for name, array in boxes.items():
            array[last - count : last, : part[name].shape[1]] = part[name]
    others = parts[0].keys() - boxes.keys()
    return boxes | {name: np.concatenate([part[name] for part in parts]) for name in others}


def kept(truth: Truth, keep: np.ndarray) -> Truth:
    """Return the truth with the boxes of `keep` (N, M) alone, as narrow as those allow."""
    order = np.argsort(~keep, axis=1, kind="stable")[:, : max(1, int(keep.sum(1).max(initial=0)))]
    there = np.take_along_axis(keep, order, 1)
    none = empty(len(keep), order.shape[1])
    found = {}
    for name, nothing in none.items():
        index = order[..., None] if name == "boxes" else order
        mask = there[..., None] if name == "boxes" else there
        found[name] = np.where(mask, np.take_along_axis(truth[name], index, 1), nothing)
    return {**truth, **found}
