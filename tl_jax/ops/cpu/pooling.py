"""Pooling on a CPU: by oneDNN where that pays, otherwise by shifted copies of the image."""

import functools

import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import onednn
from tl_jax.ops.windows import joined_phases, phase_lengths, taps

_AVERAGES = {True: "average with padding", False: "average"}


def max_pool(neutral, x, **window):
    """Return the maximum of each window."""
    if onednn.takes_image(x, inference=True):
        return onednn.pool(x, of="max", **window)
    return functools.reduce(jnp.maximum, _parts(x, **window))


def note_sizes(x, **window) -> list[int]:
    """Return the sizes, in bytes, of the notes of `max_pool_with_notes`: where the maxima were."""
    return [onednn.max_pool_workspace(x, **window)] if onednn.takes_image(x) else []


def max_pool_with_notes(neutral, x, **window):
    """Return a list of the maxima of all windows and, with oneDNN, of the notes."""
    if onednn.takes_image(x):
        return onednn.max_pool_with_workspace(x, **window)
    return [max_pool(neutral, x, **window)]


def max_pool_gradient(neutral, x, notes, g, **window):
    """Return the gradient of `x` from `g`, by the notes if there are any."""
    if notes:
        return onednn.pool_gradient(g, x.shape, *notes, of="max", **window)
    f = functools.partial(_max_pool_gradient, **window)
    return jax.lax.map(lambda both: f(*both), (x, g))


def _parts(x, size, stride, padding):
    return [part for _, _, part in taps(x, (size, size), stride, padding, -jnp.inf)]


def _max_pool_gradient(x, g, *, size, stride, padding):
    """Return the gradient of one image `x` (H, W, C).

    Each window's `g` goes to the first of its maxima, as in XLA's own gradient.
    """
    parts = _parts(x, size, stride, padding)
    best, argmax = parts[0], jnp.zeros(g.shape, jnp.int32)
    for tap, part in enumerate(parts[1:], 1):
        argmax = jnp.where(part > best, tap, argmax)
        best = jnp.maximum(part, best)
    counts = phase_lengths(x.shape, padding, stride)
    reach = -(-size // stride) - 1  # windows before its own that may contain an input row
    edges = [(reach, count - out) for count, out in zip(counts, g.shape[:2], strict=True)]
    g = jnp.pad(g, (*edges, (0, 0)))
    argmax = jnp.pad(argmax, (*edges, (0, 0)), constant_values=-1)

    def phase(i, j):
        total = jnp.zeros((*counts, g.shape[-1]), g.dtype)
        for a, row in enumerate(range(i, size, stride)):
            for b, column in enumerate(range(j, size, stride)):
                top, left = reach - a, reach - b
                reached = slice(top, top + counts[0]), slice(left, left + counts[1])
                total += jnp.where(argmax[reached] == row * size + column, g[reached], 0)
        return total

    phases = [[phase(i, j) for j in range(stride)] for i in range(stride)]
    return joined_phases(phases, x.shape, padding)


def avg_pool(neutral, x, *, count_padding, **window):
    """Return the mean of each window."""
    if onednn.takes_image(x, inference=True):
        return onednn.pool(x, of=_AVERAGES[count_padding], **window)
    return _shifted_mean(x, count_padding=count_padding, **window)


def avg_pool_gradient(neutral, g, *, x, count_padding, **window):
    """Return the gradient of the input from `g`; `x` has the input's shape and dtype."""
    if onednn.takes_image(x):
        return onednn.pool_gradient(g, x.shape, of=_AVERAGES[count_padding], **window)
    mean = functools.partial(_shifted_mean, count_padding=count_padding, **window)
    return jax.linear_transpose(mean, x)(g)[0]


def _shifted_mean(x, *, size, stride, padding, count_padding):
    def sums(x):
        return sum(part for _, _, part in taps(x, (size, size), stride, padding))

    counted = size**2 if count_padding else sums(jnp.ones((*x.shape[1:3], 1), x.dtype))
    return sums(x) / counted
