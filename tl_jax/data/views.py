"""Augmentation as numbered, finite sets of views of an image, so that each view can be stored."""

from typing import Any

import numpy as np

from tl_jax.data.boxes import mirrors
from tl_jax.errors import UserError, unknown

# In every set view 0, the image itself, is the first one, and numbers ascend.
SETS = {
    "none": (0,),
    "flip": (0, 1),
    "flips": (0, 1, 2, 3),
    "dihedral": tuple(range(8)),
    "crops": (0, 1, *range(8, 16)),
}
WINDOW = 0.875  # of a side: AlexNet's 224 of 256 pixels


def numbers(views: str) -> tuple[int, ...]:
    """Return the numbers of a set's views; UserError, with the near miss, for an unknown set.

    >>> {name: len(numbers(name)) for name in SETS}
    {'none': 1, 'flip': 2, 'flips': 4, 'dihedral': 8, 'crops': 10}
    """
    if views not in tuple(SETS):  # a list has no hash
        raise unknown("views", views, SETS)
    return SETS[views]


def require_mirrors(views: str) -> None:
    """UserError for views that boxes do not follow: turns and windows."""
    if max(numbers(views)) > 3:
        raise UserError(f"views={views}: boxes follow none, flip and flips alone: take one")


def view(images: Any, number: int) -> Any:
    """Return view `number` of square uint8 `images` (..., S, S, C), NumPy's or JAX's, of the same
    shape.

    A number is four bits: 1 mirrors left to right, 2 top to bottom, and 4 gives a quarter turn.
    With 8 the view is a window at a corner, enlarged to S: 2 and 4 then say bottom and right.

    `crops` are the ten crops of Krizhevsky et al. 2012, section 4.1: four corners and the centre,
    each also mirrored. The image itself, which preprocessing cut out of the middle, is the centre.
    """
    if number & 8:
        images = _window(images, bottom=bool(number & 2), right=bool(number & 4))
        return images[..., ::-1, :] if number & 1 else images
    if number & 1:
        images = images[..., :, ::-1, :]
    if number & 2:
        images = images[..., ::-1, :, :]
    if number & 4:
        return images.__array_namespace__().rot90(images, axes=(-3, -2))
    return images


def of_boxes(truth: dict[str, Any], numbers: np.ndarray, side: int) -> dict[str, Any]:
    """Return the truth (B, ...) of a batch of images in views (B,): where square images of `side`
    pixels are mirrored, their boxes are as well.
    """
    across, down = (numbers & 1).astype(bool), (numbers & 2).astype(bool)
    boxes = mirrors.mirrored(truth["boxes"], truth["classes"], across, down, (side, side))
    return {**truth, "boxes": boxes}


def _window(images: Any, *, bottom: bool, right: bool) -> Any:
    """Return the window of side `WINDOW` * S at a corner, enlarged to S by linear interpolation."""
    xp, side = images.__array_namespace__(), images.shape[-2]
    window = round(WINDOW * side)
    # Pixels are squares: the centre of pixel i is i + 0.5. Beyond the outer centres nothing varies.
    at = np.clip((np.arange(side) + 0.5) * window / side - 0.5, 0, window - 1)
    low = np.minimum(at.astype(int), max(0, window - 2))
    share = (at - low).astype(np.float32)
    for axis, far in ((-3, bottom), (-2, right)):
        first = low + (side - window if far else 0)
        last = np.minimum(first + 1, side - 1)
        shares = share.reshape(-1, *[1] * (-axis - 1))
        near, next_ = (xp.take(images, rows, axis).astype(np.float32) for rows in (first, last))
        images = near + shares * (next_ - near)
    return xp.rint(images).astype(np.uint8)
