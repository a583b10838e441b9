"""Convolution, with bias, residual and activation."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import dispatch
from tl_jax.ops.norm import channel_sums
from tl_jax.ops.windows import Padding, pads

# Activations that a convolution can include, with their derivative as a function of the output.
SLOPES: dict[Callable, Callable] = {
    jax.nn.relu: lambda y: y > 0,
    jax.nn.relu6: lambda y: (y > 0) & (y < 6),
}


class Window(NamedTuple):
    """Stride and padding of a convolution, and its activation: None or one of `SLOPES`."""

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
    """Convolve `x` (N, H, W, C) with `kernel` (kh, kw, C, D), add `bias` (D,) and `residual`
    (N, H', W', D), apply `activation`, and return the result (N, H', W', D).

    A `kernel` (kh, kw, 1, C) is depthwise: one filter for each channel.
    """
    edges = pads(padding, x.shape[1:3], kernel.shape[:2], stride)
    included = activation if activation in SLOPES else None
    convolve = _forward if dispatch.weights_are_constant() else _conv
    y = convolve(x, kernel, bias, residual, Window(stride, edges, included))
    return y if activation is None or activation is included else activation(y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _conv(x, kernel, bias, residual, window):
    return _forward(x, kernel, bias, residual, window)


def _forward(x, kernel, bias, residual, window, differentiated=False):
    def neutral(x, kernel, bias, residual):
        y = plain.conv(x, kernel, stride=window.stride, padding=window.padding)
        return plain.finish(y, bias, residual, window.activation)

    settings = {**window._asdict(), "differentiated": differentiated}
    return dispatch.by_platform("conv", neutral, x, kernel, bias, residual, **settings)


def _conv_fwd(x, kernel, bias, residual, window):
    y = _forward(x, kernel, bias, residual, window, differentiated=True)
    added = bias is not None, residual is not None
    return y, (x, kernel, added, y if window.activation else None)


def _conv_bwd(window, saved, g):
    stride, padding, activation = window
    x, kernel, (biased, added), y = saved
    if activation:
        g = jnp.where(SLOPES[activation](y), g, 0)

    def neutral(x, kernel, g):
        convolve = functools.partial(plain.conv, stride=stride, padding=padding)
        dx, dkernel = jax.vjp(convolve, x, kernel)[1](g)
        dbias = channel_sums(lambda g: (g,), g)[0].astype(g.dtype) if biased else None
        return dx, dkernel, dbias

    settings = {"stride": stride, "padding": padding, "biased": biased}
    gradients = dispatch.by_platform("conv_gradients", neutral, x, kernel, g, **settings)
    return *gradients, g if added else None


_conv.defvjp(_conv_fwd, _conv_bwd)
