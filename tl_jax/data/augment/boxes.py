"""What happens to the boxes of a batch where its images are changed; with JAX."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from tl_jax.data.boxes import mirrors, windows


def mirrored(batch: dict[str, Any], across: Array, down: Array, size: tuple[int, ...]) -> dict:
    """Return the boxes (B, M, 4) of images (H, W), mirrored where `across` or `down` (B,) is true.
    """
    boxes, classes = (jnp.asarray(batch[name]) for name in ("boxes", "classes"))
    return {"boxes": mirrors.mirrored(boxes, classes, across, down, size)}


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
