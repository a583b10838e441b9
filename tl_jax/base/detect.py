"""What a detector finds in photographs, in pixels of these."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from tl_jax.chain import answers
from tl_jax.chain.detectors import PROPOSALS
from tl_jax.chain.places import IMAGE, Known
from tl_jax.chain.programs import forward_program
from tl_jax.data import proposals
from tl_jax.data.boxes import letterbox
from tl_jax.data.boxes.found import Found
from tl_jax.data.images import size_of
from tl_jax.errors import UserError

if TYPE_CHECKING:
    from tl_jax.base.base import Base

BATCH = 8  # images that run at once


def found_in(base: "Base", images: Sequence[Any]) -> list[Found]:
    """What the base finds in each image, of whatever size, or in the file of this path.

    UserError for a base that is no detector, and for a file that cannot be read.
    """
    kind, expects = answers.make(base.answers), base.of_images
    if not isinstance(kind, answers.Boxes):
        raise UserError(f"this {base.name} answers with {kind.asks} and finds no boxes: predict")
    forward = forward_program(base.chain, None, None).of(base.variables)
    said = jax.jit(kind)
    found = []
    for first in range(0, len(images), BATCH):
        opened = [expects.opened(image) for image in images[first : first + BATCH]]
        rows = expects.fitted(opened)
        padded = np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows), 0)])
        known: dict[str, Any] = {IMAGE: expects.normalise(padded)}
        if kind.proposals:
            propose = proposals.make(kind.proposals)
            boxes = proposals.padded([propose(row) for row in padded], expects.size)
            # One program for all: compiled for the most boxes that there can be.
            room = ((0, 0), (0, proposals.MOST - boxes.shape[1]), (0, 0))
            known[PROPOSALS] = np.pad(boxes, room)
        answer = jax.tree.map(np.asarray, said(forward(Known(known))))
        sizes = np.array([size_of(image) for image in opened])
        boxes = letterbox.back(answer["boxes"][: len(rows)] * expects.size, sizes, expects.size)
        for own, scores, classes in zip(boxes, answer["scores"], answer["classes"], strict=False):
            there = classes >= 0
            found.append(Found(own[there], scores[there], classes[there]))
    return found
