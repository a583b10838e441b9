"""What a detector finds in photographs, in pixels of these."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tl_jax import ops
from tl_jax.chain import answers
from tl_jax.chain.detectors import PROPOSALS
from tl_jax.chain.places import IMAGE, Known
from tl_jax.chain.programs import KEPT, forward_program
from tl_jax.data import proposals, tiles
from tl_jax.data.boxes import letterbox
from tl_jax.data.boxes.found import Found
from tl_jax.data.images import Image, size_of
from tl_jax.errors import UserError

if TYPE_CHECKING:
    from tl_jax.base.base import Base

BATCH = 8  # images that run at once


def found_in(base: "Base", images: Sequence[Any]) -> list[Found]:
    """What the base finds in each image, of whatever size, or in the file of this path.

    A base that was trained on tiles (`Preprocessing.tile`) looks at an image's tiles, and what it
    finds in all of them is suppressed once more: `most` are those of the whole image. UserError for
    a base that is no detector, and for a file that cannot be read.
    """
    kind, expects = answers.make(base.answers), base.of_images
    if not isinstance(kind, answers.Boxes):
        raise UserError(f"this {base.name} answers with {kind.asks} and finds no boxes: predict")
    opened = (expects.opened(image) for image in images)
    if not expects.tile:
        return _found(base, kind, opened)
    return [_joined(base, kind, image) for image in opened]


def _joined(base: "Base", kind: answers.Boxes, image: Image) -> Found:
    """What the base finds in the tiles of an image, in pixels of the image."""
    side = base.of_images.tile
    corners = tiles.corners(size_of(image), side)
    parts = _found(base, kind, tiles.cut(image, side))
    moved = [one.boxes + np.tile(at, 2) for one, at in zip(parts, corners, strict=True)]
    _, scores, classes = map(np.concatenate, zip(*parts, strict=True))
    best = np.argsort(-scores, kind="stable")[: answers.CANDIDATES]
    every = Found(np.concatenate(moved).astype(np.float32)[best], scores[best], classes[best])
    room = answers.CANDIDATES - len(best)  # one program for all images
    stays = _suppression(kind.overlap)(
        np.pad(every.boxes, ((0, room), (0, 0))),
        np.pad(every.scores, (0, room), constant_values=-np.inf),
        np.pad(every.classes, (0, room)),
    )
    stays = np.flatnonzero(stays)[: kind.most]
    return Found(*(array[stays] for array in every))


def _found(base: "Base", kind: answers.Boxes, opened: Iterable[Image]) -> list[Found]:
    """What the base finds in each image, looked at as a whole."""
    opened, found = iter(opened), []
    while batch := list(itertools.islice(opened, BATCH)):
        found += _of_batch(base, kind, batch)
    return found


def _of_batch(base: "Base", kind: answers.Boxes, opened: Sequence[Image]) -> list[Found]:
    """What the base finds in `BATCH` images or fewer."""
    expects = base.of_images
    rows = expects.fitted(opened)
    known: dict[str, Any] = {IMAGE: expects.normalise(_filled(rows))}
    if kind.proposals:
        known[PROPOSALS] = _filled(proposals.found_in(rows, proposals.make(kind.proposals)))
    forward = forward_program(base.chain, None, None).of(base.variables)
    answer = jax.tree.map(np.asarray, _detections(kind)(forward(Known(known))))
    sizes = np.array([size_of(image) for image in opened])
    boxes = letterbox.back(answer["boxes"][: len(rows)] * expects.size, sizes, expects.size)
    found = []
    for own, scores, classes in zip(boxes, answer["scores"], answer["classes"], strict=False):
        there = classes >= 0
        found.append(Found(own[there], scores[there], classes[there]))
    return found


def _filled(rows: np.ndarray) -> np.ndarray:
    """Rows (N, ...) with the first of them again, up to `BATCH`: one program for all batches."""
    return np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows), 0)])


@functools.lru_cache(maxsize=KEPT)
def _detections(kind: answers.Boxes) -> Callable[[Any], dict[str, jax.Array]]:
    return jax.jit(kind)


@functools.lru_cache(maxsize=KEPT)
def _suppression(overlap: float) -> Callable[..., jax.Array]:
    return jax.jit(functools.partial(ops.nms, threshold=overlap))
