"""Depthwise convolution: on the CPU as shifted multiply-adds, image by image."""

import functools

import jax
import jax.numpy as jnp

from tl_jax.ops.convolution import stock_conv
from tl_jax.ops.windows import NO_PADDING, Padding, pads, spread, taps


def depthwise_conv(x, kernel, *, stride: int = 1, padding: Padding = "SAME"):
    """Each channel of `x` (N, H, W, C) with its own filter of `kernel` (kh, kw, 1, C)."""
    return _depthwise(x, kernel, stride, pads(padding, x.shape[1:3], kernel.shape[:2], stride))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, stride, padding):
    fused = functools.partial(_depthwise_shifted, stride=stride, padding=padding)
    stock = functools.partial(_depthwise_stock, stride=stride, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=fused, default=stock)


def _depthwise_fwd(x, kernel, stride, padding):
    # Where a backward pass follows, the sum over taps has two consumers: hence a loop.
    def by_image(x, kernel):
        f = functools.partial(_depthwise_shifted, stride=stride, padding=padding)
        return jax.lax.map(lambda image: f(image, kernel), x)

    stock = functools.partial(_depthwise_stock, stride=stride, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=by_image, default=stock), (x, kernel)


def _depthwise_bwd(stride, padding, saved, g):
    by_image = functools.partial(_depthwise_grads, stride=stride, padding=padding)

    def stock(x, kernel, g):
        f = functools.partial(_depthwise_stock, stride=stride, padding=padding)
        return jax.vjp(f, x, kernel)[1](g)

    return jax.lax.platform_dependent(*saved, g, cpu=by_image, default=stock)


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


def _depthwise_stock(x, kernel, *, stride, padding):
    return stock_conv(x, kernel, stride=stride, padding=padding, groups=x.shape[-1])


def _depthwise_shifted(x, kernel, *, stride, padding):
    # kh * kw shifted multiply-adds, which XLA fuses into one pass over the output.
    return sum(part * kernel[i, j, 0] for i, j, part in taps(x, kernel.shape[:2], stride, padding))


def _depthwise_grads(x, kernel, g, *, stride, padding):
    # Summing rows first keeps the kernel's gradient elementwise along (W, C).
    wide = jnp.promote_types(g.dtype, jnp.float32)
    turned = kernel[::-1, ::-1]

    def add_image(total, image_and_g):
        image, g = image_and_g
        sums = [
            (part * g).sum(0, wide) for _, _, part in taps(image, kernel.shape[:2], stride, padding)
        ]
        widened = spread(g, image.shape, kernel.shape[:2], stride, padding)
        dx = _depthwise_shifted(widened, turned, stride=1, padding=NO_PADDING)
        return total + jnp.stack(sums), dx

    zero = jnp.zeros((kernel.shape[0] * kernel.shape[1], *g.shape[2:]), wide)
    total, dx = jax.lax.scan(add_image, zero, (x, g))
    return dx, total.sum(1).reshape(kernel.shape).astype(kernel.dtype)
