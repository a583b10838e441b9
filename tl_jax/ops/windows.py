"""Positions of the windows of convolutions and pooling in an image."""

import jax
import jax.numpy as jnp

Padding = str | int | tuple[tuple[int, int], tuple[int, int]]
NO_PADDING = ((0, 0), (0, 0))


def pads(
    padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding as ((top, bottom), (left, right)).

    The strings 'SAME' and 'VALID' are TensorFlow's, an int is PyTorch's.
    """
    if isinstance(padding, tuple):
        return padding
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    vertical, horizontal = jax.lax.padtype_to_pads(size, kernel, (stride, stride), padding)
    return vertical, horizontal


def taps(x, window: tuple[int, int], stride, padding, fill=0):
    """For each position in a `window` (height, width), yield its row, its column and the values of
    `x` (..., H, W, C) there, for all windows at once; the padding is `fill`.
    """
    kh, kw = window
    edges = ((0, 0),) * (x.ndim - 3) + (*padding, (0, 0))
    x = jnp.pad(x, edges, constant_values=fill)
    rows = x.shape[-3] - kh + 1
    columns = x.shape[-2] - kw + 1
    for i in range(kh):
        for j in range(kw):
            yield i, j, x[..., i : i + rows : stride, j : j + columns : stride, :]


def spread(g, shape, kernel, stride, padding):
    """Pad `g` (..., H, W, C), the gradient of a convolution's output, and insert zeros between its
    rows and columns.

    A VALID convolution of the result with the flipped kernel is the gradient of the input (of
    `shape`). The last rows, which a strided kernel may never have reached, get padding too.
    """
    edges = []
    for size, out, length, (before, after) in zip(
        shape[-3:-1], g.shape[-3:-1], kernel, padding, strict=True
    ):
        missed = size + before + after - length - (out - 1) * stride
        edges.append((length - 1 - before, length - 1 - after + missed, stride - 1))
    return jax.lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0),) * (g.ndim - 3) + (*edges, (0, 0, 0)))


def joined_phases(phases, shape, padding):
    """Interleave the phases of a padded array and cut off the padding: (..., H, W, C) of `shape`.

    `phases[i][j]` has the padded array's rows i, i + stride, ... and columns j, j + stride, ....
    """
    stride = len(phases)
    rows = jnp.stack([jnp.stack(row, -2) for row in phases], -4)
    *batch, h, _, w, _, c = rows.shape
    whole = rows.reshape(*batch, h * stride, w * stride, c)
    (top, _), (left, _) = padding
    return whole[..., top : top + shape[-3], left : left + shape[-2], :]


def phase_lengths(shape, padding, stride):
    """Return how many rows and columns a phase of the padded (..., H, W, C) has at most."""
    return tuple(-(-(n + sum(e)) // stride) for n, e in zip(shape[-3:-1], padding, strict=True))
