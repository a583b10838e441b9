"""Values of maps in boxes: RoI align and RoI pooling. Both are separable.

Rows and columns of a box's grid are chosen independently of each other, so that a box costs two
small matrix products, or two maxima; their gradients need no scatter.
"""

import jax
import jax.numpy as jnp


def region_align(maps, boxes, *, size: int, scale: float = 1.0, samples: int = 2, aligned=True):
    """Return the mean of `samples` x `samples` bilinear samples in each of `size` x `size` bins of
    boxes: maps (B, H, W, C) and boxes (B, R, 4) to (B, R, size, size, C).

    `scale`: pixels of the map in one unit of the boxes; a number, or one by axis (x, y). He et al.
    2017, Mask R-CNN (arXiv:1703.06870), section 3. `aligned`: a pixel's value is at its centre,
    (i + 1/2); False is the original form, half a pixel off, in which sides are at least 1. Samples
    more than a pixel outside the map are 0. No gradient flows to the boxes.
    """
    low, sides = _on_map(jax.lax.stop_gradient(boxes), scale, 0.5 if aligned else 0.0)
    if not aligned:
        sides = jnp.maximum(sides, 1)
    steps = (jnp.arange(size * samples) + 0.5) / (size * samples)
    at = low[..., None] + sides[..., None] * steps  # (B, R, 2, size * samples)
    rows = _weights(at[..., 1, :], maps.shape[1], samples).astype(maps.dtype)
    columns = _weights(at[..., 0, :], maps.shape[2], samples).astype(maps.dtype)
    return jnp.einsum("brpy,brqx,byxc->brpqc", rows, columns, maps, optimize=[(0, 2), (0, 1)])


def region_max(maps, boxes, *, size: int, scale: float = 1.0):
    """Return the maximum in each of `size` x `size` bins of boxes, rounded to pixels: maps (B, H,
    W, C) and boxes (B, R, 4) to (B, R, size, size, C); 0 where a bin is empty.

    Girshick 2015, Fast R-CNN (arXiv:1504.08083), section 2.1. A box ends with the pixel that its
    last corner is in. `scale` as in `region_align`; no gradient flows to the boxes.
    """
    corners = jnp.stack([*_corners(jax.lax.stop_gradient(boxes), scale)], -2)
    low, high = jnp.moveaxis(jnp.sign(corners) * jnp.floor(jnp.abs(corners) + 0.5), -2, 0)
    low, high = low.astype(jnp.int32)[..., None], high.astype(jnp.int32)[..., None]
    bins, sides = jnp.arange(size), jnp.maximum(high - low + 1, 1)
    first = low + bins * sides // size
    last = low - (bins + 1) * -sides // size

    def inside(axis, length):
        pixels = jnp.arange(length)
        begins, ends = first[..., axis, :, None], last[..., axis, :, None]
        return (pixels >= begins) & (pixels < ends)  # (B, R, size, length)

    rows, columns = inside(1, maps.shape[1]), inside(0, maps.shape[2])
    lowest = jnp.finfo(maps.dtype).min
    of_rows = jnp.where(rows[..., None, None], maps[:, None, None], lowest).max(3)
    found = jnp.where(columns[:, :, None, :, :, None], of_rows[:, :, :, None], lowest).max(4)
    some = rows.any(-1)[..., :, None] & columns.any(-1)[..., None, :]
    return jnp.where(some[..., None], found, 0)


def _corners(boxes, scale):
    """Return the first and the last corner (..., 2) on the map."""
    scale = jnp.asarray(scale, boxes.dtype)
    return boxes[..., :2] * scale, boxes[..., 2:] * scale


def _on_map(boxes, scale, shift):
    """Return the first corner and the sides (..., 2) on the map."""
    low, high = _corners(boxes, scale)
    return low - shift, high - low


def _weights(at, length: int, samples: int):
    """Return what each of `length` pixels counts in the mean of each bin's samples: (B, R, size,
    length), for positions (B, R, size * samples).
    """
    inside = (at >= -1) & (at <= length)
    near = jnp.clip(at, 0, length - 1)[..., None] - jnp.arange(length)
    hats = jnp.maximum(1 - jnp.abs(near), 0) * inside[..., None]
    return hats.reshape(*at.shape[:-1], -1, samples, length).mean(-2)
