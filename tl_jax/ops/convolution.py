"""Convolution: on the CPU in the form that is fastest there for its shape."""

import functools
import math

import jax
import jax.numpy as jnp

from tl_jax.ops import winograd
from tl_jax.ops.windows import (
    NO_PADDING,
    Padding,
    joined_phases,
    pads,
    phase_lengths,
    spread,
)


def conv(x, kernel, *, stride: int = 1, padding: Padding = "SAME"):
    """Convolution of `x` (N, H, W, C) with `kernel` (kh, kw, C, D)."""
    return _conv(x, kernel, stride, pads(padding, x.shape[1:3], kernel.shape[:2], stride))


def stock_conv(x, kernel, *, stride=1, padding=NO_PADDING, groups=1):
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# What a convolution must cost, in floating-point operations, for Winograd's form to be worth the
# second or two that each of its three passes takes to compile.
TRAINED_FLOPS = 1e10


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, stride, padding):
    return _forward(x, kernel, stride, padding, _suits_winograd(x, kernel, stride, padding))


def _forward(x, kernel, stride, padding, by_winograd):
    stock = functools.partial(stock_conv, stride=stride, padding=padding)
    if _is_pointwise(kernel, padding):
        cpu = functools.partial(_product, stride=stride)
    elif by_winograd:
        cpu = functools.partial(winograd.forward, padding=padding)
    else:
        return stock(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=cpu, default=stock)


def _conv_fwd(x, kernel, stride, padding):
    by_winograd = _trains_by_winograd(x, kernel, stride, padding)
    return _forward(x, kernel, stride, padding, by_winograd), (x, kernel)


def _conv_bwd(stride, padding, saved, g):
    x, kernel = saved

    def stock(x, kernel, g):
        f = functools.partial(stock_conv, stride=stride, padding=padding)
        return jax.vjp(f, x, kernel)[1](g)

    def cpu(x, kernel, g):
        if _is_pointwise(kernel, padding):
            return _product_gradients(x, kernel, g, stride=stride)
        if _trains_by_winograd(x, kernel, stride, padding):
            dx = winograd.input_gradient(g, kernel, padding)
            return dx, winograd.kernel_gradient(x, g, padding)
        dx, dkernel = stock(x, kernel, g)
        if stride > 1:
            dx = _gradient_by_phases(g, kernel, x.shape, stride, padding)
        return dx, dkernel

    return jax.lax.platform_dependent(x, kernel, g, cpu=cpu, default=stock)


_conv.defvjp(_conv_fwd, _conv_bwd)


def _trains_by_winograd(x, kernel, stride, padding):
    flops = 2 * x.size * math.prod(kernel.shape[:2]) * kernel.shape[3]
    return flops >= TRAINED_FLOPS and _suits_winograd(x, kernel, stride, padding)


def _is_pointwise(kernel, padding):
    return kernel.shape[:2] == (1, 1) and padding == NO_PADDING


def _suits_winograd(x, kernel, stride, padding):
    return (
        kernel.shape[:2] == (3, 3)
        and stride == 1
        and max(max(edge) for edge in padding) <= 2
        and min(kernel.shape[2:]) >= 64  # with fewer the transforms cost more than they save
        and x.shape[1] * x.shape[2] <= 128**2  # beyond, an image's tiles leave the cache
        and x.dtype in (jnp.float32, jnp.float64)
    )


def _product(x, kernel, *, stride):
    x = x[:, ::stride, ::stride]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)


def _product_gradients(x, kernel, g, *, stride):
    seen = x[:, ::stride, ::stride]
    rows = g.reshape(-1, g.shape[-1])
    dkernel = seen.reshape(-1, x.shape[-1]).T @ rows
    dx = (rows @ kernel[0, 0].T).reshape(seen.shape)
    return spread(dx, x.shape, (1, 1), stride, NO_PADDING), dkernel[None, None]


def _gradient_by_phases(g, kernel, shape, stride, padding):
    """Gradient by the input (N, H, W, C) of a strided convolution, from `g` (N, H', W', D).

    Input rows (and columns) that lie `stride` apart see the same taps of the kernel: each phase is
    a convolution of `g` itself by those, without the zeros that the transposed one works on.
    """
    counts = phase_lengths(shape, padding, stride)

    def phase(i, j):
        part = kernel[i::stride, j::stride][::-1, ::-1].swapaxes(2, 3)
        if 0 in part.shape:  # the kernel is shorter than the stride
            return jnp.zeros((shape[0], *counts, shape[3]), g.dtype)
        edges = [
            (length - 1, count - out)
            for length, count, out in zip(part.shape[:2], counts, g.shape[1:3], strict=True)
        ]
        return stock_conv(g, part, padding=edges)

    phases = [[phase(i, j) for j in range(stride)] for i in range(stride)]
    return joined_phases(phases, shape, padding)
