"""The platform-neutral implementations: XLA's own operations, which every platform has."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tl_jax.ops.windows import NO_PADDING


def conv(x, kernel, *, stride=1, padding=NO_PADDING):
    """Convolve `x` (N, H, W, C) with `kernel` (kh, kw, C / groups, D): (N, H', W', D)."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[2],
    )


def finish(y, bias, residual, activation):
    """Add `bias` and `residual` to `y` and apply `activation`; each of the three may be None."""
    y = y if bias is None else y + bias
    y = y if residual is None else y + residual
    return activation(y) if activation else y


def channel_sums(terms, *arrays):
    """Sum each of the arrays `terms(*arrays)` (..., C) over all axes but the last: (C,) each."""
    return [total(x, tuple(range(x.ndim - 1))) for x in terms(*arrays)]


def total(x, axes):
    """Sum `x` over `axes`, in float32 at least."""
    return x.sum(axes, jnp.promote_types(x.dtype, jnp.float32))


def max_pool(x, *, size, stride, padding):
    """Return the maximum of each window of `x` (N, H, W, C)."""
    return nn.max_pool(x, (size, size), (stride, stride), padding)


def avg_pool(x, *, size, stride, padding, count_padding):
    """Return the mean of each window of `x` (N, H, W, C)."""
    window, strides = (size, size), (stride, stride)
    mean = nn.avg_pool(x, window, strides, padding, count_include_pad=count_padding)
    return mean.astype(x.dtype)  # Flax divides bfloat16 by float32 counts
