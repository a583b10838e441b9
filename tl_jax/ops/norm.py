"""Batch norm, and the sums by channel that its gradients need."""

import contextlib
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp


def channel_sums(terms, *arrays):
    """Sum over all axes but the last of each of the arrays `terms(*arrays)` (..., C).

    `terms` is elementwise; sums are taken in float32 at least.
    """

    def total(x, axes):
        return x.sum(axes, jnp.promote_types(x.dtype, jnp.float32))

    def stock(*arrays):
        return [total(x, tuple(range(x.ndim - 1))) for x in terms(*arrays)]

    def by_image(*arrays):
        def image(arrays):
            return [total(x, 0) for x in terms(*arrays)]

        def add_image(totals, arrays):
            return jax.tree.map(jnp.add, totals, image(arrays)), None

        shapes = jax.eval_shape(image, [x[0] for x in arrays])
        zeros = [jnp.zeros(s.shape, s.dtype) for s in shapes]
        totals, _ = jax.lax.scan(add_image, zeros, list(arrays))
        return [x.sum(tuple(range(x.ndim - 1))) for x in totals]

    by_image = by_image if arrays[0].ndim > 2 else stock
    return jax.lax.platform_dependent(*arrays, cpu=by_image, default=stock)


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
        by_batch = self.is_mutable_collection("batch_stats") and not self.is_initializing()
        if by_batch:
            if convolve is not None:
                bias = None if bias is None else bias.astype(x.dtype)
                x = convolve(x, kernel.astype(x.dtype), bias)
            use_mean, use_var = _moments(x)
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * use_mean
            var.value = keep * var.value + (1 - keep) * use_var
        else:
            use_mean, use_var = mean.value, var.value
            use_mean = use_mean if bias is None else use_mean - bias
        factor = scale * jax.lax.rsqrt(use_var + self.epsilon)
        shift = (offset - use_mean * factor).astype(x.dtype)
        if convolve is not None and not by_batch:
            kernel = (kernel * factor).astype(x.dtype)
            return convolve(x, kernel, shift, residual, activation=activation)
        y = scale_and_shift(x, factor.astype(x.dtype), shift)
        y = y if residual is None else y + residual
        return activation(y) if activation else y


def _moments(x):
    """Mean and (biased) variance of `x` (..., C) by channel, in float32, over all devices."""
    mean, square = (s / (x.size // x.shape[-1]) for s in _power_sums(x))
    if _sync_axis:
        mean, square = jax.lax.pmean((mean, square), _sync_axis[-1])
    return mean, jnp.maximum(square - jnp.square(mean), 0)


@jax.custom_vjp
def _power_sums(x):
    """Sums of `x` (..., C) and of its squares by channel."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return tuple(channel_sums(lambda x: (x, jnp.square(x.astype(wide))), x))


def _power_sums_bwd(x, g):
    return ((g[0] + 2 * x * g[1]).astype(x.dtype),)


_power_sums.defvjp(lambda x: (_power_sums(x), x), _power_sums_bwd)
