"""Depthwise convolution for the CPU, as shifted multiply-adds; `kernel` is (kh, kw, 1, C)."""

import functools

import jax
import jax.numpy as jnp

from tl_jax.ops.windows import NO_PADDING, spread, taps


def shifted(x, kernel, *, stride, padding):
    """Convolve `x` (..., H, W, C) by kh * kw multiply-adds, which XLA fuses into one pass."""
    return sum(part * kernel[i, j, 0] for i, j, part in taps(x, kernel.shape[:2], stride, padding))


def by_image(x, kernel, *, stride, padding):
    """Convolve `x` (N, H, W, C) one image at a time, so that XLA cannot fuse it into consumers."""
    f = functools.partial(shifted, stride=stride, padding=padding)
    return jax.lax.map(lambda image: f(image, kernel), x)


def gradients(x, kernel, g, *, stride, padding):
    """Return the gradients of `x` (N, H, W, C) and of the kernel, from `g` (N, H', W', C)."""
    # Summing rows first keeps the kernel's gradient elementwise along (W, C).
    wide = jnp.promote_types(g.dtype, jnp.float32)
    flipped = kernel[::-1, ::-1]

    def add_image(total, image_and_g):
        image, g = image_and_g
        sums = [
            (part * g).sum(0, wide) for _, _, part in taps(image, kernel.shape[:2], stride, padding)
        ]
        dilated = spread(g, image.shape, kernel.shape[:2], stride, padding)
        dx = shifted(dilated, flipped, stride=1, padding=NO_PADDING)
        return total + jnp.stack(sums), dx

    zero = jnp.zeros((kernel.shape[0] * kernel.shape[1], *g.shape[2:]), wide)
    total, dx = jax.lax.scan(add_image, zero, (x, g))
    return dx, total.sum(1).reshape(kernel.shape).astype(kernel.dtype)
