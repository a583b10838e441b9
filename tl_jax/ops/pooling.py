"""Max, average and adaptive average pooling."""

import functools

import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import forms
from tl_jax.ops.windows import Padding, pads


def max_pool(x, size: int, stride: int, padding: Padding = 0, *, ceil: bool = False):
    """Largest value in each window of `x` (N, H, W, C); padding never wins.

    With `ceil` a last window that begins inside the input may reach beyond it (PyTorch's
    `ceil_mode`).
    """
    return _max_pool(x, size, stride, _pool_pads(x, size, stride, padding, ceil))


def _window(size, stride, padding):
    return {"size": size, "stride": stride, "padding": padding}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, *window):
    window = _window(*window)
    return forms.by_platform("max_pool", functools.partial(plain.max_pool, **window), x, **window)


def _max_pool_fwd(x, *window):
    window = _window(*window)

    def neutral(x):
        return [plain.max_pool(x, **window)]

    (y,), notes = forms.by_platform_with_notes("max_pool_with_notes", neutral, x, **window)
    return y, (x, notes)


def _max_pool_bwd(size, stride, padding, saved, g):
    window = _window(size, stride, padding)

    def neutral(x, notes, g):  # looks for the maxima again
        return jax.vjp(functools.partial(plain.max_pool, **window), x)[1](g)[0]

    return (forms.by_platform("max_pool_gradient", neutral, *saved, g, **window),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def avg_pool(x, size: int, stride: int, padding: Padding = 0, *, count_padding: bool = False):
    """Mean of each window of `x` (N, H, W, C); `count_padding` takes padding for zeros."""
    edges = _pool_pads(x, size, stride, padding, False)
    return _avg_pool(x, size, stride, edges, count_padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _avg_pool(x, size, stride, padding, count_padding):
    how = _window(size, stride, padding) | {"count_padding": count_padding}
    return forms.by_platform("avg_pool", functools.partial(plain.avg_pool, **how), x, **how)


def _avg_pool_bwd(size, stride, padding, count_padding, x, g):
    how = _window(size, stride, padding) | {"count_padding": count_padding}
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)

    def neutral(g):
        return jax.linear_transpose(functools.partial(plain.avg_pool, **how), like)(g)[0]

    return (forms.by_platform("avg_pool_gradient", neutral, g, x=like, **how),)


_avg_pool.defvjp(lambda x, *window: (_avg_pool(x, *window), x), _avg_pool_bwd)


def _pool_pads(x, size, stride, padding, ceil):
    edges = pads(padding, x.shape[1:3], (size, size), stride)
    if not ceil:
        return edges
    grown = []
    for length, (before, after) in zip(x.shape[1:3], edges, strict=True):
        windows = -(-(length + before + after - size) // stride) + 1
        if (windows - 1) * stride >= length + before:  # it would begin in the padding behind
            windows -= 1
        grown.append((before, max(after, (windows - 1) * stride + size - length - before)))
    return tuple(grown)


def adaptive_avg_pool(x, size: int):
    """(N, H, W, C) to (N, size, size, C): means of windows that cover the input evenly.

    Window i of a side n is from floor(i n / size) to ceil((i + 1) n / size), as PyTorch's.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n == size:
            continue
        bounds = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        parts = [jax.lax.slice_in_dim(x, a, b, axis=axis).mean(axis) for a, b in bounds]
        x = jnp.stack(parts, axis)
    return x
