"""Class probabilities of images, by a base as it is."""

from typing import TYPE_CHECKING

import jax
import numpy as np

from tl_jax.chain.programs import forward_program
from tl_jax.data import views
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
