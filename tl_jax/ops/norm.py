"""Batch norm, and the sums by channel that its gradients need."""

import contextlib
import functools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import onednn


def channel_sums(terms, *arrays):
    """Sum over all axes but the last of each of the arrays `terms(*arrays)` (..., C).

    `terms` is elementwise; sums are taken in float32 at least.
    """
    if arrays[0].ndim < 3:
        return stock_channel_sums(terms, *arrays)
    forms = {"cpu": _sums_by_image, "default": stock_channel_sums}
    forms = {platform: functools.partial(form, terms) for platform, form in forms.items()}
    return jax.lax.platform_dependent(*arrays, **forms)


def stock_channel_sums(terms, *arrays):
    """The same as XLA sums: where the CPU has a form of its own, so that tracing is short."""
    return [_total(x, tuple(range(x.ndim - 1))) for x in terms(*arrays)]


def _total(x, axes):
    return x.sum(axes, jnp.promote_types(x.dtype, jnp.float32))


def _sums_by_image(terms, *arrays):
    def image(arrays):
        return [_total(x, 0) for x in terms(*arrays)]

    def add_image(totals, arrays):
        return jax.tree.map(jnp.add, totals, image(arrays)), None

    shapes = jax.eval_shape(image, [x[0] for x in arrays])
    zeros = [jnp.zeros(s.shape, s.dtype) for s in shapes]
    totals, _ = jax.lax.scan(add_image, zeros, list(arrays))
    return [x.sum(tuple(range(x.ndim - 1))) for x in totals]


@jax.custom_vjp
def scale_and_shift(x, scale, shift):
    """`x` (..., C) times `scale` (C,) plus `shift` (C,)."""
    return x * scale + shift


def _scale_and_shift_bwd(saved, g):
    x, scale = saved
    sums = channel_sums(lambda x, g: (g * x, g), x, g)
    return g * scale, *(s.astype(scale.dtype) for s in sums)


scale_and_shift.defvjp(lambda x, a, b: (scale_and_shift(x, a, b), (x, a)), _scale_and_shift_bwd)


_sync_axis: list[str] = []


@contextlib.contextmanager
def synchronised(axis_name: str) -> Iterator[None]:
    """Batch statistics of what is traced inside are means over the devices of a named axis."""
    _sync_axis.append(axis_name)
    try:
        yield
    finally:
        _sync_axis.pop()


def _over_devices(x):
    return jax.lax.pmean(x, _sync_axis[-1]) if _sync_axis else x


def batch_norm(x, scale, offset, epsilon: float, activation: Callable | None = None):
    """`activation` of the norm of `x` (..., C) by the batch's statistics; mean and (biased)
    variance (C,) by channel, in float32 at least, through which no gradient flows.

    Ioffe & Szegedy 2015, algorithm 1, and the gradients that follow it.
    """
    fused = onednn.takes_image(x) and not _sync_axis
    relu = fused and activation is jax.nn.relu
    y, mean, var = _batch_norm(x, scale, offset, epsilon, fused, relu)
    return y if relu else _activated(y, activation), mean, var


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(x, scale, offset, epsilon, fused, relu):
    return _batch_norm_fwd(x, scale, offset, epsilon, fused, relu)[0]


def _batch_norm_fwd(x, scale, offset, epsilon, fused, relu):
    sums = stock_channel_sums if fused else channel_sums

    def stock(x, scale, offset):
        mean, var = _moments(x, sums)
        factor = scale * jax.lax.rsqrt(var + epsilon)
        y = x * factor.astype(x.dtype) + (offset - mean * factor).astype(x.dtype)
        return [jax.nn.relu(y) if relu else y, mean, var]

    def others(*args):  # than the CPU keep `y` and need no more
        return stock(*args) + [jnp.zeros(n, jnp.uint8) for n in kept]

    kept = []
    if fused:
        kept = [onednn.batch_norm_workspace(x, epsilon=epsilon)] if relu else []
        cpu = functools.partial(onednn.batch_norm, epsilon=epsilon, relu=relu)
        found = jax.lax.platform_dependent(x, scale, offset, cpu=cpu, default=others)
    else:
        found = stock(x, scale, offset)
    y, mean, var, *kept = found
    return (y, mean, var), (x, scale, mean, var, y if relu else None, kept)


def _batch_norm_bwd(epsilon, fused, relu, saved, gradients):
    x, scale, mean, var, y, kept = saved
    g, sums = gradients[0], stock_channel_sums if fused else channel_sums

    def stock(x, g, mean, var, scale, y, _):
        g = jnp.where(y > 0, g, 0) if relu else g
        inverse = jax.lax.rsqrt(var + epsilon)
        terms = sums(lambda x, g: (g * ((x - mean) * inverse), g), x, g)
        along, total = (_over_devices(s) * (x.shape[-1] / x.size) for s in terms)
        dx = scale * inverse * (g - total - (x - mean) * inverse * along)
        return [dx.astype(x.dtype), *(s.astype(scale.dtype) for s in terms)]

    def cpu(x, g, mean, var, scale, y, kept):
        return onednn.batch_norm_gradients(x, g, mean, var, scale, *kept, epsilon=epsilon)

    given = x, g, mean, var, scale, y, kept
    if fused:
        return tuple(jax.lax.platform_dependent(*given, cpu=cpu, default=stock))
    return tuple(stock(*given))


_batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


def _moments(x, sums):
    """Mean and (biased) variance of `x` (..., C) by channel, in float32, over all devices."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    found = sums(lambda x: (x, jnp.square(x.astype(wide))), x)
    mean, square = _over_devices([s * (x.shape[-1] / x.size) for s in found])
    return mean, jnp.maximum(square - jnp.square(mean), 0)


class BatchNorm(nn.Module):
    """Batch norm (Ioffe & Szegedy 2015) over all axes but the last.

    Whoever applies it chooses the mode: with a mutable `batch_stats` collection it normalises by
    the batch and updates the running statistics, without one it uses them. A frozen layer is
    applied without, so its statistics cannot move.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    use_scale: bool = True

    @nn.compact
    def __call__(self, x, convolve=None, kernel=None, bias=None, residual=None, activation=None):
        """`activation` of the norm of `x` plus `residual`.

        With `convolve` it is the norm of `convolve(x, kernel, bias)`, an `ops.conv` with `kernel`
        (kh, kw, C, D) and perhaps a `bias` (D,), which Keras has in front of some norms. By the
        running statistics the norm is part of these two, and the rest the convolution's: passes
        less over the data.
        """
        shape = (x if convolve is None else kernel).shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape) if self.use_scale else 1.0
        offset = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            if convolve is not None:
                bias = None if bias is None else bias.astype(x.dtype)
                x = convolve(x, kernel.astype(x.dtype), bias)
            scale = jnp.broadcast_to(scale, shape)
            own = activation if residual is None else None
            y, use_mean, use_var = batch_norm(x, scale, offset, self.epsilon, own)
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * use_mean
            var.value = keep * var.value + (1 - keep) * use_var
            return y if residual is None else _activated(y + residual, activation)
        use_mean = mean.value if bias is None else mean.value - bias
        factor = scale * jax.lax.rsqrt(var.value + self.epsilon)
        shift = (offset - use_mean * factor).astype(x.dtype)
        if convolve is not None:
            kernel = (kernel * factor).astype(x.dtype)
            return convolve(x, kernel, shift, residual, activation=activation)
        y = scale_and_shift(x, factor.astype(x.dtype), shift)
        return _activated(y if residual is None else y + residual, activation)


def _activated(y, activation):
    return activation(y) if activation else y
