"""Boxes of images that are mirrored."""

from typing import Any

from tl_jax.data.boxes.truth import NONE


def mirrored(boxes: Any, classes: Any, across: Any, down: Any, size: tuple[int, ...]) -> Any:
    """Return boxes (B, M, 4) of images of `size`, height and width, that are mirrored left to right
    where `across` (B,) is true, and top to bottom where `down` (B,) is; NumPy's arrays or JAX's.
    """
    xp, (height, width) = boxes.__array_namespace__(), size
    x1, y1, x2, y2 = xp.moveaxis(boxes, -1, 0)
    across, down = across[:, None], down[:, None]
    turned = [
        xp.where(across, width - x2, x1),
        xp.where(down, height - y2, y1),
        xp.where(across, width - x1, x2),
        xp.where(down, height - y1, y2),
    ]
    return xp.where(classes[..., None] != NONE, xp.stack(turned, -1), 0.0).astype(boxes.dtype)
