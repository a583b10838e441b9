"""Boxes of images that are fitted whole into a square: ratio kept, in the middle, padded."""

from collections.abc import Mapping

import numpy as np

from tl_jax.data.boxes.truth import NONE, Truth


def inner(sizes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where images of `sizes` (N, 2), width and height, lie in a square of `side` pixels:
    the sizes (N, 2) that they have there, and their left and upper edges (N, 2).

    The longer side is the square's; the shorter one is rounded to whole pixels, at least one.
    """
    sizes = np.asarray(sizes, np.int64)
    fitted = np.maximum(1, np.rint(sizes * (side / sizes.max(-1, keepdims=True)))).astype(np.int64)
    return fitted, (side - fitted) // 2


def forward(boxes: np.ndarray, sizes: np.ndarray, side: int) -> np.ndarray:
    """Return boxes (N, M, 4) of images of `sizes` (N, 2) as they are in the square, float32."""
    scale, corner = _moves(sizes, side)
    return (boxes * scale + corner).astype(np.float32)


def back(boxes: np.ndarray, sizes: np.ndarray, side: int) -> np.ndarray:
    """Return boxes (N, K, 4) in the square as they are in the images, cut off at their edges."""
    scale, corner = _moves(sizes, side)
    most = np.tile(np.asarray(sizes, np.float64), 2)[:, None]
    return np.clip((boxes - corner) / scale, 0, most).astype(np.float32)


def fitted(truth: Mapping[str, np.ndarray], side: int) -> Truth:
    """Return the truth with boxes moved into the square; areas stay those in the images."""
    return _moved(truth, forward(truth["boxes"], truth["sizes"], side))


def originals(truth: Mapping[str, np.ndarray], side: int) -> Truth:
    """Return the truth with boxes in pixels of the images again."""
    return _moved(truth, back(truth["boxes"], truth["sizes"], side))


def _moves(sizes: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """By how much boxes grow, and where they go then: (N, 1, 4) each."""
    size, corner = inner(sizes, side)
    scale = size / np.asarray(sizes, np.float64)
    return np.tile(scale, 2)[:, None], np.tile(corner, 2)[:, None]


def _moved(truth: Mapping[str, np.ndarray], boxes: np.ndarray) -> Truth:
    there = truth["classes"][..., None] != NONE
    return {**truth, "boxes": np.where(there, boxes, np.float32(0))}
