"""Convolution, depthwise convolution and batch norm in the form that is fast on the backend.

XLA's CPU backend is slow in the depthwise convolution and in sums by channel, and it computes a
fused elementwise expression anew in each of its consumers, of which a backward pass has many (it
drops optimisation barriers before it fuses). So these get forms of their own there: loops over the
images, which it cannot fuse, each image in the cache. Every other platform keeps XLA's own forms.
The choice is made when a program is lowered (`jax.lax.platform_dependent`), so that one program
text serves all of them.
"""

import contextlib
import functools
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp

Padding = str | int | tuple[tuple[int, int], tuple[int, int]]
NO_PADDING = ((0, 0), (0, 0))


def pads(padding: Padding, size: tuple[int, int], kernel: tuple[int, int], stride: int):
    """Explicit ((top, bottom), (left, right)); 'SAME' is TensorFlow's, an int PyTorch's."""
    if isinstance(padding, tuple):
        return padding
    if isinstance(padding, int):
        return ((padding, padding), (padding, padding))
    return tuple(jax.lax.padtype_to_pads(size, kernel, (stride, stride), padding))


def conv(x, kernel, *, stride: int = 1, padding: Padding = "SAME"):
    """Convolution of `x` (N, H, W, C) with `kernel` (kh, kw, C, D)."""
    padding = pads(padding, x.shape[1:3], kernel.shape[:2], stride)
    if kernel.shape[:2] == (1, 1) and padding == NO_PADDING:
        return _pointwise(x, kernel, stride)
    return _conv_stock(x, kernel, stride=stride, padding=padding)


def _conv_stock(x, kernel, *, stride, padding=NO_PADDING, groups=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pointwise(x, kernel, stride):
    def product(x, kernel):
        x = x[:, ::stride, ::stride]
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)

    stock = functools.partial(_conv_stock, stride=stride)
    return jax.lax.platform_dependent(x, kernel, cpu=product, default=stock)


def _pointwise_fwd(x, kernel, stride):
    return _pointwise(x, kernel, stride), (x, kernel)


def _pointwise_bwd(stride, saved, g):
    def product(x, kernel, g):
        seen = x[:, ::stride, ::stride]
        rows = g.reshape(-1, g.shape[-1])
        dkernel = seen.reshape(-1, x.shape[-1]).T @ rows
        dx = (rows @ kernel[0, 0].T).reshape(seen.shape)
        return _spread(dx, x.shape, (1, 1), stride, NO_PADDING), dkernel[None, None]

    def stock(x, kernel, g):
        return jax.vjp(functools.partial(_conv_stock, stride=stride), x, kernel)[1](g)

    return jax.lax.platform_dependent(*saved, g, cpu=product, default=stock)


_pointwise.defvjp(_pointwise_fwd, _pointwise_bwd)


def _spread(g, shape, kernel, stride, padding):
    """`g` (..., H, W, C), a convolution's output gradient, so padded and with zeros so put between
    its rows and columns that a VALID convolution with the turned kernel gives the input's.

    The last rows that a strided filter never reached get what is missing.
    """
    edges = []
    for size, out, length, (before, after) in zip(
        shape[-3:-1], g.shape[-3:-1], kernel, padding, strict=True
    ):
        missed = size + before + after - length - (out - 1) * stride
        edges.append((length - 1 - before, length - 1 - after + missed, stride - 1))
    return jax.lax.pad(g, jnp.zeros((), g.dtype), ((0, 0, 0),) * (g.ndim - 3) + (*edges, (0, 0, 0)))


def depthwise_conv(x, kernel, *, stride: int = 1, padding: Padding = "SAME"):
    """Each channel of `x` (N, H, W, C) with its own filter of `kernel` (kh, kw, 1, C)."""
    return _depthwise(x, kernel, stride, pads(padding, x.shape[1:3], kernel.shape[:2], stride))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _depthwise(x, kernel, stride, padding):
    fused = functools.partial(_depthwise_shifted, stride=stride, padding=padding)
    stock = functools.partial(_depthwise_stock, stride=stride, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=fused, default=stock)


def _depthwise_fwd(x, kernel, stride, padding):
    # Where a backward pass follows, the sum over taps has two consumers: hence a loop.
    def by_image(x, kernel):
        f = functools.partial(_depthwise_shifted, stride=stride, padding=padding)
        return jax.lax.map(lambda image: f(image, kernel), x)

    stock = functools.partial(_depthwise_stock, stride=stride, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=by_image, default=stock), (x, kernel)


def _depthwise_bwd(stride, padding, saved, g):
    by_image = functools.partial(_depthwise_grads, stride=stride, padding=padding)

    def stock(x, kernel, g):
        f = functools.partial(_depthwise_stock, stride=stride, padding=padding)
        return jax.vjp(f, x, kernel)[1](g)

    return jax.lax.platform_dependent(*saved, g, cpu=by_image, default=stock)


_depthwise.defvjp(_depthwise_fwd, _depthwise_bwd)


def _depthwise_stock(x, kernel, *, stride, padding):
    return _conv_stock(x, kernel, stride=stride, padding=padding, groups=x.shape[-1])


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


def _depthwise_grads(x, kernel, g, *, stride, padding):
    # Summing rows first keeps the kernel's gradient elementwise along (W, C).
    wide = jnp.promote_types(g.dtype, jnp.float32)
    turned = kernel[::-1, ::-1]

    def add_image(total, image_and_g):
        image, g = image_and_g
        taps = [(part * g).sum(0, wide) for _, _, part in _taps(image, kernel, stride, padding)]
        spread = _spread(g, image.shape, kernel.shape[:2], stride, padding)
        dx = _depthwise_shifted(spread, turned, stride=1, padding=NO_PADDING)
        return total + jnp.stack(taps), dx

    zero = jnp.zeros((kernel.shape[0] * kernel.shape[1], *g.shape[2:]), wide)
    total, dx = jax.lax.scan(add_image, zero, (x, g))
    return dx, total.sum(1).reshape(kernel.shape).astype(kernel.dtype)


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
def add_bias(x, bias):
    """`x` (..., C) plus `bias` (C,)."""
    return x + bias


def _add_bias_bwd(_, g):
    (dbias,) = channel_sums(lambda g: (g,), g)
    return g, dbias.astype(g.dtype)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _add_bias_bwd)


@jax.custom_vjp
def scale_and_shift(x, scale, shift):
    """`x` (..., C) times `scale` (C,) plus `shift` (C,)."""
    return x * scale + shift


def _scale_and_shift_bwd(saved, g):
    x, scale = saved
    sums = channel_sums(lambda x, g: (g * x, g), x, g)
    return g * scale, *(s.astype(scale.dtype) for s in sums)


scale_and_shift.defvjp(lambda x, a, b: (scale_and_shift(x, a, b), (x, a)), _scale_and_shift_bwd)


def max_pool(x, size: int, stride: int, padding: Padding = 0, *, ceil: bool = False):
    """Largest value in each window of `x` (N, H, W, C); padding never wins.

    With `ceil` a last window that begins inside the input may reach beyond it (PyTorch's
    `ceil_mode`).
    """
    edges = _pool_pads(x, size, stride, padding, ceil)
    return nn.max_pool(x, (size, size), (stride, stride), edges)


def avg_pool(x, size: int, stride: int, padding: Padding = 0, *, count_padding: bool = False):
    """Mean of each window of `x` (N, H, W, C); `count_padding` takes padding for zeros."""
    edges = _pool_pads(x, size, stride, padding, False)
    return nn.avg_pool(x, (size, size), (stride, stride), edges, count_include_pad=count_padding)


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
    def __call__(self, x, kernel=None, convolve=None, conv_bias=None):
        """Norm of `x`, or of `convolve(x, kernel)`, a convolution by `kernel` (kh, kw, C, D).

        By the running statistics the norm is part of that kernel: a pass less over the data.
        `conv_bias` (D,) is the convolution's own, which Keras has in front of some norms.
        """
        shape = (x if kernel is None else kernel).shape[-1:]
        scale = self.param("scale", nn.initializers.ones, shape) if self.use_scale else 1.0
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        by_batch = self.is_mutable_collection("batch_stats") and not self.is_initializing()
        if by_batch:
            if kernel is not None:
                x = convolve(x, kernel.astype(x.dtype))
                x = x if conv_bias is None else add_bias(x, conv_bias.astype(x.dtype))
            use_mean, use_var = _moments(x)
            keep = self.momentum
            mean.value = keep * mean.value + (1 - keep) * use_mean
            var.value = keep * var.value + (1 - keep) * use_var
        else:
            use_mean, use_var = mean.value, var.value
        factor = scale * jax.lax.rsqrt(use_var + self.epsilon)
        if conv_bias is not None and not by_batch:
            use_mean = use_mean - conv_bias
        shift = (bias - use_mean * factor).astype(x.dtype)
        if by_batch or kernel is None:
            return scale_and_shift(x, factor.astype(x.dtype), shift)
        return add_bias(convolve(x, (kernel * factor).astype(x.dtype)), shift)


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
