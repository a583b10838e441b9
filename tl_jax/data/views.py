"""Augmentation as a numbered, finite set of views of an image, so that each can be stored."""

import numpy as np

from tl_jax.errors import unknown

COUNTS = {"none": 1, "flip": 2, "dihedral": 8}


def count(views: str) -> int:
    """How many views the augmentation has; view 0 is the image itself."""
    if views not in COUNTS:
        raise unknown("views", views, COUNTS)
    return COUNTS[views]


def view(images: np.ndarray, number: int) -> np.ndarray:
    """View `number` of square `images` (..., S, S, C).

    Odd numbers are mirrored left to right; number // 2 is how many quarter turns follow.
    """
    if number % 2:
        images = images[..., ::-1, :]
    return np.rot90(images, number // 2, axes=(-3, -2))
