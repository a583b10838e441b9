"""Convolution, depthwise convolution and batch norm in the form that is fast on the backend.

XLA's CPU backend is slow in the depthwise convolution, so it gets a form of its own there; every
other platform keeps XLA's own convolution. The choice is made when a program is lowered
(`jax.lax.platform_dependent`), so that one program text serves all of them.
"""

import contextlib
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

Padding = str | int


def pads(padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int):
    """Explicit ((top, bottom), (left, right)); 'SAME' is TensorFlow's, an int PyTorch's."""
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple(jax.lax.padtype_to_pads(size, kernel, (stride, stride), padding))


def conv(x, kernel, *, stride: int = 1, padding: Padding = "SAME"):
    """Convolution of `x` (N, H, W, C) with `kernel` (kh, kw, C, D)."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads(padding, x.shape[1:3], kernel.shape[:2], stride),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def depthwise_conv(x, kernel, *, stride: int = 1, padding: Padding = "SAME"):
    """Each channel of `x` (N, H, W, C) with its own filter of `kernel` (kh, kw, 1, C)."""
    return _depthwise(x, kernel, stride, pads(padding, x.shape[1:3], kernel.shape[:2], stride))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, stride, padding):
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_depthwise_shifted, stride=stride, padding=padding),
        default=functools.partial(_depthwise_stock, stride=stride, padding=padding),
    )


def _depthwise_fwd(x, kernel, stride, padding):
    return _depthwise(x, kernel, stride, padding), (x, kernel)


def _depthwise_bwd(stride, padding, saved, g):
    x, kernel = saved

    def stock(x, kernel, g):
        f = functools.partial(_depthwise_stock, stride=stride, padding=padding)
        return jax.vjp(f, x, kernel)[1](g)

    def shifted(x, kernel, g):
        dx = _depthwise_input_grad(x.shape, kernel, g, stride=stride, padding=padding)
        # Without a barrier XLA computes these anew inside whatever consumes them.
        dkernel = _depthwise_kernel_grad(x, kernel, g, stride=stride, padding=padding)
        return jax.lax.optimization_barrier((dx, dkernel))

    return jax.lax.platform_dependent(x, kernel, g, cpu=shifted, default=stock)


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


def _depthwise_stock(x, kernel, *, stride, padding):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _taps(x, kernel, stride, padding):
    """For each filter tap (i, j) the part of the padded `x` (..., H, W, C) that it multiplies."""
    kh, kw = kernel.shape[:2]
    x = jnp.pad(x, ((0, 0),) * (x.ndim - 3) + (*padding, (0, 0)))
    rows = x.shape[-3] - kh + 1
    columns = x.shape[-2] - kw + 1
    for i in range(kh):
        for j in range(kw):
            yield i, j, x[..., i : i + rows : stride, j : j + columns : stride, :]


def _depthwise_shifted(x, kernel, *, stride, padding):
    # kh * kw shifted multiply-adds, which XLA fuses into one pass over the output.
    return sum(part * kernel[i, j, 0] for i, j, part in _taps(x, kernel, stride, padding))


def _depthwise_input_grad(shape, kernel, g, *, stride, padding):
    # The transpose is a convolution again: of `g` with zeros put between its rows and columns,
    # by the turned kernel. The last rows that a strided filter never reached get what is missing.
    edges = []
    for size, out, length, (before, after) in zip(
        shape[1:3], g.shape[1:3], kernel.shape[:2], padding, strict=True
    ):
        missed = size + before + after - length - (out - 1) * stride
        edges.append((length - 1 - before, length - 1 - after + missed, stride - 1))
    g = jax.lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0), *edges, (0, 0, 0)))
    return _depthwise_shifted(g, kernel[::-1, ::-1], stride=1, padding=((0, 0), (0, 0)))


def _depthwise_kernel_grad(x, kernel, g, *, stride, padding):
    # A reduction over batch and space into few channels is what XLA's CPU backend does worst.
    # Image by image, summing rows first, the sum stays elementwise along (W, C) and in the cache.
    def add_image(total, image_and_g):
        image, g = image_and_g
        taps = [(part * g).sum(0) for _, _, part in _taps(image, kernel, stride, padding)]
        return total + jnp.stack(taps), None

    zero = jnp.zeros((kernel.shape[0] * kernel.shape[1], *g.shape[2:]), g.dtype)
    total, _ = jax.lax.scan(add_image, zero, (x, g))
    return total.sum(1).reshape(kernel.shape).astype(kernel.dtype)


def channel_sum(x):
    """Sum of `x` (..., C) over all axes but the last."""

    def as_product(x):
        # XLA's CPU backend reduces column by column, and computes what feeds the reduction anew for
        # each; a product needs its operand once, as it lies in memory.
        rows = jax.lax.optimization_barrier(x).reshape(-1, x.shape[-1])
        return (jnp.ones((1, rows.shape[0]), x.dtype) @ rows)[0]

    def stock(x):
        return x.sum(tuple(range(x.ndim - 1)))

    return jax.lax.platform_dependent(x, cpu=as_product, default=stock)


@jax.custom_vjp
def scale_and_shift(x, scale, shift):
    """`x` (..., C) times `scale` (C,) plus `shift` (C,)."""
    return x * scale + shift


def _scale_and_shift_bwd(saved, g):
    x, scale = saved
    return g * scale, channel_sum(g * x), channel_sum(g)


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

    @nn.compact
    def __call__(self, x):
        shape = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            use_mean, use_var = _moments(x)
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * use_mean
            var.value = keep * var.value + (1 - keep) * use_var
        else:
            use_mean, use_var = mean.value, var.value
        factor = scale * jax.lax.rsqrt(use_var + self.epsilon)
        shift = bias - use_mean * factor
        return scale_and_shift(x, factor.astype(x.dtype), shift.astype(x.dtype))


def _moments(x):
    """Mean and (biased) variance of `x` (..., C) by channel, in float32, over all devices."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    rows = x.size // x.shape[-1]
    mean, square = channel_sum(x) / rows, channel_sum(jnp.square(x)) / rows
    if _sync_axis:
        mean, square = jax.lax.pmean((mean, square), _sync_axis[-1])
    return mean, jnp.maximum(square - jnp.square(mean), 0)
