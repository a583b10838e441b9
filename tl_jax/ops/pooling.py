"""Max, average and adaptive average pooling."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import onednn
from tl_jax.ops.windows import Padding, joined_phases, pads, phase_lengths, taps


def max_pool(x, size: int, stride: int, padding: Padding = 0, *, ceil: bool = False):
    """Largest value in each window of `x` (N, H, W, C); padding never wins.

    With `ceil` a last window that begins inside the input may reach beyond it (PyTorch's
    `ceil_mode`).
    """
    return _max_pool(x, size, stride, _pool_pads(x, size, stride, padding, ceil))


def _max_pool_stock(x, size, stride, padding):
    return nn.max_pool(x, (size, size), (stride, stride), padding)


def _window(size, stride, padding):
    return {"size": size, "stride": stride, "padding": padding}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _max_pool(x, *window):
    window = _window(*window)

    def cpu(x):
        if onednn.takes_image(x):
            return onednn.pool(x, of="max", **window)
        return functools.reduce(jnp.maximum, _parts(x, **window))

    stock = functools.partial(_max_pool_stock, **window)
    return jax.lax.platform_dependent(x, cpu=cpu, default=stock)


def _parts(x, size, stride, padding):
    return [part for _, _, part in taps(x, (size, size), stride, padding, -jnp.inf)]


def _max_pool_fwd(x, *window):
    if not onednn.takes_image(x):
        return _max_pool(x, *window), (x, None)
    window = _window(*window)

    def stock(x):  # other platforms look for the maxima again
        count = onednn.max_pool_places(x, **window)
        return [_max_pool_stock(x, **window), jnp.zeros(count, jnp.uint8)]

    cpu = functools.partial(onednn.max_pool_and_places, **window)
    y, places = jax.lax.platform_dependent(x, cpu=cpu, default=stock)
    return y, (x, places)


def _max_pool_bwd(size, stride, padding, saved, g):
    window = _window(size, stride, padding)

    def cpu(x, places, g):
        if places is not None:
            return onednn.pool_gradient(g, x.shape, places, of="max", **window)
        f = functools.partial(_max_pool_gradient, **window)
        return jax.lax.map(lambda both: f(*both), (x, g))

    def stock(x, places, g):
        return jax.vjp(functools.partial(_max_pool_stock, **window), x)[1](g)[0]

    return (jax.lax.platform_dependent(*saved, g, cpu=cpu, default=stock),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)


def _max_pool_gradient(x, g, *, size, stride, padding):
    """Each window's `g` goes to the first of its largest, as XLA's own does: x (H, W, C)."""
    parts = _parts(x, size, stride, padding)
    best, where = parts[0], jnp.zeros(g.shape, jnp.int32)
    for place, part in enumerate(parts[1:], 1):
        where = jnp.where(part > best, place, where)
        best = jnp.maximum(part, best)
    counts = phase_lengths(x.shape, padding, stride)
    reach = -(-size // stride) - 1  # windows before its own that an input row may lie in
    edges = [(reach, count - out) for count, out in zip(counts, g.shape[:2], strict=True)]
    g = jnp.pad(g, (*edges, (0, 0)))
    where = jnp.pad(where, (*edges, (0, 0)), constant_values=-1)

    def phase(i, j):
        total = jnp.zeros((*counts, g.shape[-1]), g.dtype)
        for a, row in enumerate(range(i, size, stride)):
            for b, column in enumerate(range(j, size, stride)):
                top, left = reach - a, reach - b
                seen = slice(top, top + counts[0]), slice(left, left + counts[1])
                total += jnp.where(where[seen] == row * size + column, g[seen], 0)
        return total

    phases = [[phase(i, j) for j in range(stride)] for i in range(stride)]
    return joined_phases(phases, x.shape, padding)


def avg_pool(x, size: int, stride: int, padding: Padding = 0, *, count_padding: bool = False):
    """Mean of each window of `x` (N, H, W, C); `count_padding` takes padding for zeros."""
    edges = _pool_pads(x, size, stride, padding, False)
    return _avg_pool(x, size, stride, edges, count_padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _avg_pool(x, size, stride, padding, count_padding):
    window = _window(size, stride, padding)
    forms = _averages(window, count_padding)
    if onednn.takes_image(x):
        forms["cpu"] = functools.partial(onednn.pool, of=_AVERAGES[count_padding], **window)
    return jax.lax.platform_dependent(x, **forms)


def _avg_pool_bwd(size, stride, padding, count_padding, x, g):
    window = _window(size, stride, padding)

    def transposed(form):
        return lambda g: jax.linear_transpose(form, x)(g)[0]

    forms = {name: transposed(f) for name, f in _averages(window, count_padding).items()}
    if onednn.takes_image(x):
        of = _AVERAGES[count_padding]
        forms["cpu"] = functools.partial(onednn.pool_gradient, shape=x.shape, of=of, **window)
    return (jax.lax.platform_dependent(g, **forms),)


_avg_pool.defvjp(lambda x, *window: (_avg_pool(x, *window), x), _avg_pool_bwd)

_AVERAGES = {True: "average with padding", False: "average"}


def _averages(window, count_padding):
    """Without oneDNN."""
    forms = {"cpu": _avg_pool_shifted, "default": _avg_pool_stock}
    how = {**window, "count_padding": count_padding}
    return {name: functools.partial(form, **how) for name, form in forms.items()}


def _avg_pool_stock(x, *, size, stride, padding, count_padding):
    window, strides = (size, size), (stride, stride)
    return nn.avg_pool(x, window, strides, padding, count_include_pad=count_padding)


def _avg_pool_shifted(x, *, size, stride, padding, count_padding):
    def sums(x):
        return sum(part for _, _, part in taps(x, (size, size), stride, padding))

    counted = size**2 if count_padding else sums(jnp.ones((*x.shape[1:3], 1), x.dtype))
    return sums(x) / counted


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
