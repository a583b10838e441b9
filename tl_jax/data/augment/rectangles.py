"""Random rectangles in images, and what is done with them."""

import jax
import jax.numpy as jnp
from jax import Array


def draws(keys: Array, count: int) -> Array:
    """(B, count) uniform numbers in 0 to 1, of a key each."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)


def rectangles(
    keys: Array, size: tuple[int, ...], least: float, most: float, ratio: float
) -> tuple[Array, Array, Array, Array]:
    """Top, left, height and width, (B,) each, of random rectangles in images of `size`, in pixels.

    Area and place are uniform, width to height log-uniform between what `ratio` allows and what
    fits. torchvision draws again until one fits, which makes large areas rarer.
    """
    height, width = size
    area, shape, top, left = draws(keys, 4).T
    area = (least + (most - least) * area) * height * width
    fits = area / height**2, width**2 / area
    low, high = (jnp.log(jnp.clip(limit, *fits)) for limit in (ratio, 1 / ratio))
    shape = jnp.exp(low + (high - low) * shape)
    tall = jnp.minimum(jnp.sqrt(area / shape), height)
    wide = jnp.minimum(jnp.sqrt(area * shape), width)
    return top * (height - tall), left * (width - wide), tall, wide


def whole(size: tuple[int, ...], top: Array, left: Array, tall: Array, wide: Array) -> list[Array]:
    """The rectangle in whole pixels, one at least, inside an image of `size`."""
    sides = [jnp.maximum(jnp.round(side), 1) for side in (tall, wide)]
    firsts = zip((top, left), size, sides, strict=True)
    return [jnp.minimum(jnp.round(first), most - side) for first, most, side in firsts] + sides


def within(size: tuple[int, ...], top: Array, left: Array, tall: Array, wide: Array) -> Array:
    """(H, W) whether a pixel lies in the rectangle, which has whole numbers."""
    rows, columns = jnp.arange(size[0])[:, None], jnp.arange(size[1])
    inside = (rows >= top) & (rows < top + tall)
    return inside & (columns >= left) & (columns < left + wide)


def stretched(image: Array, top: Array, left: Array, tall: Array, wide: Array) -> Array:
    """The rectangle of `image` (H, W, C) in the image's own size, by linear interpolation.

    Two passes of gathers, which on a CPU take much less than the matrix products of
    `jax.image.scale_and_translate`. Crops only grow, so there is nothing to smooth.
    """
    for axis, first, length in ((0, top, tall), (1, left, wide)):
        size = image.shape[axis]
        at = first + (jnp.arange(size) + 0.5) * length / size - 0.5
        at = jnp.clip(at, 0, size - 1)
        before = jnp.floor(at).astype(jnp.int32)
        share = jnp.expand_dims(at - before, [1 - axis, 2])
        after = jnp.minimum(before + 1, size - 1)
        below, above = (jnp.take(image, i, axis=axis, mode="clip") for i in (before, after))
        image = below + share * (above - below)
    return image


def noise(words: Array, like: Array) -> Array:
    """Random whole numbers 0 to 255 in the shape of `like` (B, ...): of one random word (B,) each.

    Appleby's finalizer of MurmurHash3 on the number of each value: without visible pattern, and a
    small part of what threefry costs on a CPU.
    """
    values = jax.lax.broadcasted_iota(jnp.uint32, (len(like), like[0].size), 1)
    values = values * jnp.uint32(0x9E3779B9) + words.astype(jnp.uint32)[:, None]
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        values = (values ^ (values >> shift)) * jnp.uint32(factor)
    return ((values ^ (values >> 16)) >> 24).astype(jnp.float32).reshape(like.shape)
