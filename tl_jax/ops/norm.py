"""Batch norm, and the per-channel sums that its gradients need."""

import contextlib
import functools
from collections.abc import Callable, Generator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.ops import plain
from tl_jax.ops.cpu import dispatch


def channel_sums(terms, *arrays):
    """Sum each of the arrays `terms(*arrays)` (..., C) over all axes but the last: (C,) each.

    `terms` must be elementwise; sums are taken in float32 at least.
    """
    neutral = functools.partial(plain.channel_sums, terms)
    return dispatch.by_platform("channel_sums", neutral, *arrays, terms=terms)


@jax.custom_vjp
def scale_and_shift(x, scale, shift):
    """Return `x` (..., C) times `scale` (C,) plus `shift` (C,), rounded once to the type of `x`."""
    return (x * scale + shift).astype(x.dtype)


def _scale_and_shift_bwd(saved, g):
    x, scale = saved
    sums = channel_sums(lambda x, g: (g * x, g), x, g)
    return (g * scale).astype(x.dtype), *(s.astype(scale.dtype) for s in sums)


scale_and_shift.defvjp(lambda x, a, b: (scale_and_shift(x, a, b), (x, a)), _scale_and_shift_bwd)


_sync_axis: list[str] = []


@contextlib.contextmanager
def synchronised(axis_name: str) -> Generator[None]:
    """Average batch statistics over the devices of a named axis, in all that is traced inside."""
    _sync_axis.append(axis_name)
    try:
        yield
    finally:
        _sync_axis.pop()


_running: list[float] = [0.0]


@contextlib.contextmanager
def stochastic(p: float) -> Generator[None]:
    """In all that is traced inside, a `BatchNorm` in training takes a channel's running statistics,
    as they were before the step, with probability `p`, and the batch's otherwise.

    Unless `p` is 0 it draws from a key called `batch_norm`. Kou et al. 2020, Stochastic
    Normalization; as in their code, each of the two normalises with the same scale and offset.
    """
    _running.append(p)
    try:
        yield
    finally:
        _running.pop()


def _over_devices(x):
    return jax.lax.pmean(x, _sync_axis[-1]) if _sync_axis else x


def batch_norm(x, scale, offset, epsilon: float, activation: Callable | None = None):
    """Normalise `x` (..., C) by the batch's statistics and apply `activation`.

    Return the result and, by channel, mean and (biased) variance (C,), in float32 at least; no
    gradient flows through these two. Ioffe & Szegedy 2015, algorithm 1 and the gradients after it.
    """
    # Whether a platform may compute all of this, with a ReLU after it, in one operation.
    fused = not _sync_axis and dispatch.has("batch_norm", x)
    relu = fused and activation is jax.nn.relu
    y, mean, var = _batch_norm(x, scale, offset, epsilon, fused, relu)
    return y if relu else _activated(y, activation), mean, var


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _batch_norm(x, scale, offset, epsilon, fused, relu):
    return _batch_norm_fwd(x, scale, offset, epsilon, fused, relu)[0]


def _batch_norm_fwd(x, scale, offset, epsilon, fused, relu):
    def neutral(x, scale, offset):
        mean, var = _moments(x, _sums(fused))
        factor = scale * jax.lax.rsqrt(var + epsilon)
        y = x * factor.astype(x.dtype) + (offset - mean * factor).astype(x.dtype)
        return [jax.nn.relu(y) if relu else y, mean, var]

    arrays = x, scale, offset
    if fused:
        settings = {"epsilon": epsilon, "relu": relu}
        results, notes = dispatch.by_platform_with_notes("batch_norm", neutral, *arrays, **settings)
    else:
        results, notes = neutral(*arrays), []
    y, mean, var = results
    return (y, mean, var), (x, scale, mean, var, y if relu else None, notes)


def _batch_norm_bwd(epsilon, fused, relu, saved, gradients):
    x, scale, mean, var, y, notes = saved
    sums = _sums(fused)

    def neutral(x, g, mean, var, scale, y, _):
        g = jnp.where(y > 0, g, 0) if relu else g
        inverse = jax.lax.rsqrt(var + epsilon)
        terms = sums(lambda x, g: (g * ((x - mean) * inverse), g), x, g)
        along, total = (_over_devices(s) * (x.shape[-1] / x.size) for s in terms)
        dx = scale * inverse * (g - total - (x - mean) * inverse * along)
        return [dx.astype(x.dtype), *(s.astype(scale.dtype) for s in terms)]

    arrays = x, gradients[0], mean, var, scale, y, notes
    if fused:
        return tuple(
            dispatch.by_platform("batch_norm_gradients", neutral, *arrays, epsilon=epsilon)
        )
    return tuple(neutral(*arrays))


_batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


def _sums(fused: bool) -> Callable:
    """Return the function for the per-channel sums.

    Where platforms implement the whole norm, its sums need no dispatch; that shortens tracing.
    """
    return plain.channel_sums if fused else channel_sums


def _moments(x, sums):
    """Return mean and (biased) variance (C,) of `x` (..., C), in float32, over all devices."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    totals = sums(lambda x: (x, jnp.square(x.astype(wide))), x)
    mean, square = _over_devices([total * (x.shape[-1] / x.size) for total in totals])
    return mean, jnp.maximum(square - jnp.square(mean), 0)


class BatchNorm(nn.Module):
    """Batch norm (Ioffe & Szegedy 2015) over all axes but the last.

    The caller of `apply` chooses the mode: with a mutable `batch_stats` collection the module
    normalises by the batch and updates the running statistics; without one it uses the running
    statistics. Frozen layers are applied without one, so their statistics cannot move.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    use_scale: bool = True

    @nn.compact
    def __call__(
        self,
        x,
        convolve: Callable | None = None,
        kernel: Any = None,
        bias: Any = None,
        residual: Any = None,
        activation: Callable | None = None,
    ):
        """Normalise `x`, add `residual`, apply `activation`.

        With `convolve`, an `ops.conv`, normalise `convolve(x, kernel, bias)` instead; `kernel` is
        (kh, kw, C, D), and `bias` (D,) may be None (Keras has one in front of some norms). With the
        running statistics the norm is folded into kernel and bias, and the convolution adds the
        residual and applies the activation: fewer passes over the data.
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
            scale, p = jnp.broadcast_to(scale, shape), _running[-1]
            fused = activation if residual is None and not p else None
            y, batch_mean, batch_var = batch_norm(x, scale, offset, self.epsilon, fused)
            if p:
                factor, shift = _folded(scale, offset, mean.value, var.value, self.epsilon)
                by_running = scale_and_shift(x, factor, shift)
                selected = jax.random.bernoulli(self.make_rng("batch_norm"), p, shape)
                y = jnp.where(selected, by_running, y)
            decay = self.momentum
            mean.value = decay * mean.value + (1 - decay) * batch_mean
            var.value = decay * var.value + (1 - decay) * batch_var
            y = y if residual is None else y + residual
            return y if fused else _activated(y, activation)
        centre = mean.value if bias is None else mean.value - bias
        factor, shift = _folded(scale, offset, centre, var.value, self.epsilon)
        if convolve is not None:
            kernel, shift = (kernel * factor).astype(x.dtype), shift.astype(x.dtype)
            return convolve(x, kernel, shift, residual, activation=activation)
        y = scale_and_shift(x, factor, shift)
        return _activated(y if residual is None else y + residual, activation)


def _folded(scale, offset, mean, var, epsilon):
    """Return the factor and the shift (C,) by which running statistics normalise."""
    factor = scale * jax.lax.rsqrt(var + epsilon)
    return factor, offset - mean * factor


def _activated(y, activation):
    return activation(y) if activation else y
