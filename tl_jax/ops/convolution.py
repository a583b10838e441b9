"""Convolution, with bias and activation: on the CPU in the form that is fastest there."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import depthwise, frozen, onednn
from tl_jax.ops.norm import channel_sums
from tl_jax.ops.windows import (
    NO_PADDING,
    Padding,
    joined_phases,
    pads,
    phase_lengths,
    spread,
)

# Activations that a convolution takes along, with what their gradient is by what came out.
SLOPES: dict[Callable, tuple[str, Callable]] = {
    jax.nn.relu: ("relu", lambda y: y > 0),
    jax.nn.relu6: ("relu6", lambda y: (y > 0) & (y < 6)),
}


class Window(NamedTuple):
    """How a kernel goes over an image, and what follows: None or one of `SLOPES`."""

    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]
    activation: Callable | None


def conv(
    x,
    kernel,
    bias=None,
    residual=None,
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    activation: Callable | None = None,
):
    """`activation` of the convolution of `x` (N, H, W, C) with `kernel` (kh, kw, C, D), plus `bias`
    (D,), plus `residual` (N, H', W', D): (N, H', W', D).

    A `kernel` (kh, kw, 1, C) is depthwise, a filter for each channel.
    """
    edges = pads(padding, x.shape[1:3], kernel.shape[:2], stride)
    own = activation if activation in SLOPES else None
    convolve = functools.partial(_forward, trained=False) if frozen.active() else _conv
    y = convolve(x, kernel, bias, residual, Window(stride, edges, own))
    return y if activation is own else activation(y)


def stock_conv(x, kernel, *, stride=1, padding=NO_PADDING):
    """XLA's own convolution; `kernel` is (kh, kw, C / groups, D)."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def _finished(y, bias, residual, activation):
    y = y if bias is None else y + bias
    y = y if residual is None else y + residual
    return activation(y) if activation else y


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _conv(x, kernel, bias, residual, window):
    return _forward(x, kernel, bias, residual, window, trained=False)


def _forward(x, kernel, bias, residual, window, *, trained):
    stride, padding, activation = window
    bias = frozen.keep(bias) if bias is not None else None
    alone = {"stride": stride, "padding": padding}

    def stock(x, kernel, *added):
        return _finished(stock_conv(x, kernel, **alone), *added, activation)

    def cpu(x, kernel, *added):
        if onednn.takes_conv(x, kernel, stride, padding):
            name = activation and SLOPES[activation][0]
            return onednn.conv(x, kernel, *added, **alone, activation=name)
        if _is_depthwise(x, kernel):
            # Where a backward pass follows, the sum over taps has two consumers: hence a loop.
            form = depthwise.by_image if trained else depthwise.shifted
            return _finished(form(x, kernel, **alone), *added, activation)
        if _is_pointwise(kernel, padding):
            return _finished(_product(x, kernel, stride=stride), *added, activation)
        return stock(x, kernel, *added)

    if frozen.active():
        return cpu(x, kernel, bias, residual)
    return jax.lax.platform_dependent(x, kernel, bias, residual, cpu=cpu, default=stock)


def _conv_fwd(x, kernel, bias, residual, window):
    y = _forward(x, kernel, bias, residual, window, trained=True)
    given = bias is not None, residual is not None
    return y, (x, kernel, given, y if window.activation else None)


def _conv_bwd(window, saved, g):
    stride, padding, activation = window
    x, kernel, (biased, added), y = saved
    if activation:
        g = jnp.where(SLOPES[activation][1](y), g, 0)
    alone = {"stride": stride, "padding": padding}

    def bias_gradient(g):
        return channel_sums(lambda g: (g,), g)[0].astype(g.dtype) if biased else None

    def stock(x, kernel, g):
        dx, dkernel = jax.vjp(functools.partial(stock_conv, **alone), x, kernel)[1](g)
        return dx, dkernel, bias_gradient(g)

    def cpu(x, kernel, g):
        if onednn.takes_conv(x, kernel, stride, padding):
            dx = onednn.conv_input_gradient(g, kernel, x.shape, **alone)
            by = onednn.conv_kernel_gradient(x, g, kernel.shape, **alone, bias=biased)
            return dx, by[0], by[1] if biased else None
        if _is_depthwise(x, kernel):
            return *depthwise.gradients(x, kernel, g, **alone), bias_gradient(g)
        if _is_pointwise(kernel, padding):
            return *_product_gradients(x, kernel, g, stride=stride), bias_gradient(g)
        dx, dkernel, dbias = stock(x, kernel, g)
        if stride > 1:
            dx = _gradient_by_phases(g, kernel, x.shape, stride, padding)
        return dx, dkernel, dbias

    gradients = jax.lax.platform_dependent(x, kernel, g, cpu=cpu, default=stock)
    return *gradients, g if added else None


_conv.defvjp(_conv_fwd, _conv_bwd)


def _is_depthwise(x, kernel):
    return kernel.shape[2] == 1 and kernel.shape[3] == x.shape[3] > 1


def _is_pointwise(kernel, padding):
    return kernel.shape[:2] == (1, 1) and padding == NO_PADDING


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
