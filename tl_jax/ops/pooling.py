"""Max, average and adaptive average pooling."""

import functools

import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import dispatch
from tl_jax.ops.windows import Padding, pads


def max_pool(x, size: int, stride: int, padding: Padding = 0, *, ceil: bool = False):
    """Return the maximum of each window of `x` (N, H, W, C): (N, H', W', C); padding never wins.

    With `ceil` a last window that begins inside the input may reach beyond it (PyTorch's
    `ceil_mode`).
    """
    return _max_pool(x, size, stride, _pool_pads(x, size, stride, padding, ceil))


def _window(size, stride, padding):
    return {"size": size, "stride": stride, "padding": padding}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, *window):
    window = _window(*window)
    return dispatch.by_platform(
        "max_pool", functools.partial(plain.max_pool, **window), x, **window
    )


def _max_pool_fwd(x, *window):
    window = _window(*window)

    def neutral(x):
        return [plain.max_pool(x, **window)]

    (y,), notes = dispatch.by_platform_with_notes("max_pool_with_notes", neutral, x, **window)
    return y, (x, notes)


def _max_pool_bwd(size, stride, padding, saved, g):
    window = _window(size, stride, padding)

    def neutral(x, notes, g):  # without notes, it must find the maxima again
        return jax.vjp(functools.partial(plain.max_pool, **window), x)[1](g)[0]

    return (dispatch.by_platform("max_pool_gradient", neutral, *saved, g, **window),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def avg_pool(x, size: int, stride: int, padding: Padding = 0, *, count_padding: bool = False):
    """Return the mean of each window of `x` (N, H, W, C): (N, H', W', C).

    With `count_padding` the padding counts as zeros; otherwise only pixels of the image count.
    """
    edges = _pool_pads(x, size, stride, padding, False)
    return _avg_pool(x, size, stride, edges, count_padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _avg_pool(x, size, stride, padding, count_padding):
    settings = _window(size, stride, padding) | {"count_padding": count_padding}
    return dispatch.by_platform(
        "avg_pool", functools.partial(plain.avg_pool, **settings), x, **settings
    )


def _avg_pool_bwd(size, stride, padding, count_padding, x, g):
    settings = _window(size, stride, padding) | {"count_padding": count_padding}
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)

    def neutral(g):
        return jax.linear_transpose(functools.partial(plain.avg_pool, **settings), like)(g)[0]

    return (dispatch.by_platform("avg_pool_gradient", neutral, g, x=like, **settings),)


_avg_pool.defvjp(lambda x, *window: (_avg_pool(x, *window), x), _avg_pool_bwd)


def _pool_pads(x, size, stride, padding, ceil):
    edges = pads(padding, x.shape[1:3], (size, size), stride)
    if not ceil:
        return edges
    grown = []
    for length, (before, after) in zip(x.shape[1:3], edges, strict=True):
        windows = -(-(length + before + after - size) // stride) + 1
        if (windows - 1) * stride >= length + before:  # the last one would begin in the padding
            windows -= 1
        grown.append((before, max(after, (windows - 1) * stride + size - length - before)))
    return tuple(grown)


def adaptive_avg_pool(x, size: int):
    """Return means of windows that cover the input evenly: (N, H, W, C) to (N, size, size, C).

    Window i of a side n reaches from floor(i n / size) to ceil((i + 1) n / size), as in PyTorch.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        if n == size:
            continue
        bounds = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
        parts = [jax.lax.slice_in_dim(x, a, b, axis=axis).mean(axis) for a, b in bounds]
        x = jnp.stack(parts, axis)
    return x
