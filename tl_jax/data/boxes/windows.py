"""What is left of boxes in a window of their image, such as a tile or a random crop.

A box whose centre lies outside is no longer to be found. What can still be seen of it is ignored:
to find it is neither right nor wrong.
"""

from typing import Any

import numpy as np

from tl_jax.data.boxes.truth import NONE, Truth, area_of, kept

LEAST = 1.0  # pixels of a side, or nothing is seen


def seen(boxes: Any, classes: Any, ignored: Any, window: Any) -> tuple[Any, Any, Any]:
    """Return boxes (..., M, 4) with their classes and `ignored` (..., M) in a window (..., 4) of
    the image, in pixels from the window's corner; NumPy's arrays or JAX's.
    """
    xp = boxes.__array_namespace__()
    first, last = window[..., None, None, :2], window[..., None, None, 2:]
    corners = boxes.reshape(*boxes.shape[:-1], 2, 2)
    centre = corners.mean(-2, keepdims=True)
    inside = ((centre >= first) & (centre < last)).all((-2, -1))
    cut = xp.clip(corners, first, last)
    there = (classes != NONE) & (cut[..., 1, :] - cut[..., 0, :] >= LEAST).all(-1)
    moved = (cut - first).reshape(boxes.shape)
    return (
        xp.where(there[..., None], moved, 0.0).astype(boxes.dtype),
        xp.where(there, classes, NONE).astype(classes.dtype),
        there & (ignored | ~inside),
    )


def cut(truth: Truth, corners: np.ndarray, side: int) -> Truth:
    """Return the truth of windows of N images, one each, of this side where the image goes on so
    far; `corners` (N, 2) are their left and upper edges. Areas shrink as their boxes do.
    """
    last = np.minimum(corners + side, truth["sizes"])
    window = np.concatenate([corners, last], 1).astype(np.float32)
    boxes, classes, ignored = seen(truth["boxes"], truth["classes"], truth["ignored"], window)
    whole = area_of(truth["boxes"])
    share = np.divide(area_of(boxes), whole, out=np.zeros_like(whole), where=whole > 0)
    found = {"boxes": boxes, "classes": classes, "ignored": ignored}
    found |= {"areas": truth["areas"] * share, "sizes": (last - corners).astype(np.int32)}
    return kept({**truth, **found}, classes != NONE)
