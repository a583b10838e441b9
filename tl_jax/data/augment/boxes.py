"""What happens to the boxes of a batch where its images are changed; with JAX."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from tl_jax.data.boxes import windows
from tl_jax.data.boxes.truth import NONE


def mirrored(batch: dict[str, Any], across: Array, down: Array, size: tuple[int, ...]) -> dict:
    """Return the boxes (B, M, 4) of images (H, W) mirrored left to right, or top to bottom, where
    `across` or `down` (B,) is true.
    """
    height, width = size
    x1, y1, x2, y2 = jnp.moveaxis(jnp.asarray(batch["boxes"]), -1, 0)
    across, down = across[:, None], down[:, None]
    turned = [
        jnp.where(across, width - x2, x1),
        jnp.where(down, height - y2, y1),
        jnp.where(across, width - x1, x2),
        jnp.where(down, height - y1, y2),
    ]
    there = jnp.asarray(batch["classes"])[..., None] != NONE
    return {"boxes": jnp.where(there, jnp.stack(turned, -1), 0.0)}


def cropped(batch: dict[str, Any], places: tuple[Array, ...], size: tuple[int, ...]) -> dict:
    """Return boxes, classes and `ignored` in rectangles that become the whole images (H, W).

    places: top, left, height and width (B,) of the rectangles (`tl_jax.data.boxes.windows`).
    """
    top, left, tall, wide = places
    window = jnp.stack([left, top, left + wide, top + tall], -1)
    boxes, classes, ignored = (jnp.asarray(batch[n]) for n in ("boxes", "classes", "ignored"))
    boxes, classes, ignored = windows.seen(boxes, classes, ignored, window)
    height, width = size
    grown = jnp.stack([width / wide, height / tall] * 2, -1)[:, None]
    return {"boxes": boxes * grown, "classes": classes, "ignored": ignored}
