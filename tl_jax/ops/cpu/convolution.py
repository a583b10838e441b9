"""Convolution on a CPU.

By oneDNN where that pays. Otherwise depthwise convolutions are shifted multiply-adds, 1 x 1
convolutions are matrix products, and the input gradient of a strided convolution is computed phase
by phase.
"""

import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import constants, depthwise, norm, onednn
from tl_jax.ops.windows import NO_PADDING, joined_phases, phase_lengths, spread

_NAMES = {None: None, jax.nn.relu: "relu", jax.nn.relu6: "relu6"}  # oneDNN's activations


def conv(neutral, x, kernel, bias, residual, *, stride, padding, activation, differentiated):
    """Return the convolution's output; `differentiated` says that a backward pass follows."""
    bias = constants.precomputed(bias) if bias is not None else None
    window = {"stride": stride, "padding": padding}
    if onednn.takes_conv(x, kernel, stride, padding, inference=not differentiated):
        name = _NAMES[activation]
        return onednn.conv(x, kernel, bias, residual, **window, activation=name)
    if _is_depthwise(x, kernel):
        # Where a backward pass follows, the sum over taps has two consumers: hence a loop.
        convolve = depthwise.by_image if differentiated else depthwise.shifted
        return plain.finish(convolve(x, kernel, **window), bias, residual, activation)
    if _is_pointwise(kernel, padding):
        return plain.finish(_product(x, kernel, stride=stride), bias, residual, activation)
    return neutral(x, kernel, bias, residual)


def gradients(neutral, x, kernel, g, *, stride, padding, biased):
    """Return the gradients of `x`, of the kernel and, if it is `biased`, of the bias (or None)."""
    window = {"stride": stride, "padding": padding}
    if onednn.takes_conv(x, kernel, stride, padding):
        dx = onednn.conv_input_gradient(g, kernel, x.shape, **window)
        dkernel, *dbias = onednn.conv_kernel_gradient(x, g, kernel.shape, **window, bias=biased)
        return dx, dkernel, dbias[0] if biased else None
    if _is_depthwise(x, kernel):
        return *depthwise.gradients(x, kernel, g, **window), _bias_gradient(g, biased)
    if _is_pointwise(kernel, padding):
        return *_product_gradients(x, kernel, g, stride=stride), _bias_gradient(g, biased)
    dx, dkernel, dbias = neutral(x, kernel, g)
    if stride > 1:
        dx = _gradient_by_phases(g, kernel, x.shape, stride, padding)
    return dx, dkernel, dbias


def _bias_gradient(g, biased):
    return norm.sums_by_image(lambda g: (g,), g)[0].astype(g.dtype) if biased else None


def _is_depthwise(x, kernel):
    return kernel.shape[2] == 1 and kernel.shape[3] == x.shape[3] > 1


def _is_pointwise(kernel, padding):
    return kernel.shape[:2] == (1, 1) and padding == NO_PADDING


def _product(x, kernel, *, stride):
    x = x[:, ::stride, ::stride]
    return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)


def _product_gradients(x, kernel, g, *, stride):
    strided = x[:, ::stride, ::stride]
    rows = g.reshape(-1, g.shape[-1])
    dkernel = strided.reshape(-1, x.shape[-1]).T @ rows
    dx = (rows @ kernel[0, 0].T).reshape(strided.shape)
    return spread(dx, x.shape, (1, 1), stride, NO_PADDING), dkernel[None, None]


def _gradient_by_phases(g, kernel, shape, stride, padding):
    """Return the input gradient (N, H, W, C) of a strided convolution, from `g` (N, H', W', D).

    Input rows (and columns) that lie `stride` apart, a phase, meet the same taps of the kernel. So
    each phase is a convolution of `g` with those taps, without a transposed convolution's zeros.
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
        return plain.conv(g, part, padding=edges)

    phases = [[phase(i, j) for j in range(stride)] for i in range(stride)]
    return joined_phases(phases, shape, padding)
