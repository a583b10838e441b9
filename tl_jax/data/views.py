"""Augmentation as a numbered, finite set of views of an image, so that each can be stored."""

import numpy as np

from tl_jax.errors import unknown

# Each set begins with the ones before it: what is stored for one serves the smaller ones.
COUNTS = {"none": 1, "flip": 2, "flips": 4, "dihedral": 8}


def count(views: str) -> int:
    """How many views the augmentation has; view 0 is the image itself."""
    if views not in COUNTS:
        raise unknown("views", views, COUNTS)
    return COUNTS[views]


def view(images: np.ndarray, number: int) -> np.ndarray:
    """View `number` of square `images` (..., S, S, C): of its three bits the first mirrors left to
    right, the second top to bottom, and the third gives a quarter turn.
    """
    if number & 1:
        images = images[..., :, ::-1, :]
    if number & 2:
        images = images[..., ::-1, :, :]
    return np.rot90(images, axes=(-3, -2)) if number & 4 else images
