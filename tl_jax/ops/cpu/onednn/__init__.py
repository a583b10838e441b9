"""oneDNN's convolutions, batch norm and pooling as operations of a JAX program on the CPU.

In float32, and in inference in bfloat16 on a CPU that multiplies such numbers. While a program is
traced, `takes_conv` and `takes_image` say whether to use them.
"""

import functools
import math

import jax
import jax.numpy as jnp

from tl_jax.ops.cpu import constants, switch
from tl_jax.ops.cpu.onednn import foreign, frames, library
from tl_jax.ops.cpu.onednn.cases import (
    FORWARD,
    GRADIENT,
    INPUT_GRADIENT,
    KERNEL_GRADIENT,
    PACKING,
    PACKING_DEPTHWISE,
    BatchNorm,
    Convolution,
    Pair,
    Pooling,
    Winograd,
)
from tl_jax.ops.cpu.onednn.compiled import last_size, possible

# A call pays from this many floating-point operations on, and from this many numbers read.
LEAST_WORK = 4e6
LEAST_SIZE = 2**16
# From WIDE input and output channels and MANY tiles of 4 x 4 on, a 3 x 3 convolution in Winograd's
# form, with fewer products, is faster than a direct one.
WIDE, MANY = 64, 64

_ACTIVATIONS = {None: lambda x: x, "relu": jax.nn.relu, "relu6": jax.nn.relu6}


@functools.cache
def available() -> bool:
    """Whether oneDNN is installed and switched on, and JAX has one CPU device.

    XLA cannot partition a foreign function over several devices: it would gather the inputs.
    """
    if not switch.fast():
        return False
    try:
        count = len(jax.devices("cpu"))
    except RuntimeError:  # JAX has no CPU backend, as with JAX_PLATFORMS=cuda
        return False
    if count > 1 or library.library() is None:
        return False
    foreign.register()
    return True


def cores() -> int:
    """Return how many cores can each run a program; 1 without oneDNN or if JAX runs elsewhere."""
    return library.cores() if jax.default_backend() == "cpu" and available() else 1


def multiplies_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16, with sums in float32, faster than in float32."""
    return available() and library.multiplies_bfloat16()


def _takes(dtype, inference: bool) -> bool:
    """Whether oneDNN computes with numbers of this type."""
    if inference and dtype == jnp.bfloat16:
        return multiplies_bfloat16()
    return dtype == jnp.float32 and available()


def takes_conv(x, kernel, stride: int, padding, *, inference: bool = False) -> bool:
    """Whether oneDNN computes this convolution on the CPU."""
    work = 2 * math.prod(kernel.shape) * math.prod(_output(x, kernel, stride, padding)[:3])
    edges = [edge for pair in padding for edge in pair]
    fits = x.dtype == kernel.dtype and min(edges) >= 0
    return fits and work >= LEAST_WORK and _takes(x.dtype, inference)


def takes_image(x, *, inference: bool = False) -> bool:
    """Whether oneDNN computes the batch norm or the pooling of `x` on the CPU."""
    return x.ndim == 4 and x.size >= LEAST_SIZE and _takes(x.dtype, inference)


def conv(x, kernel, bias, residual, *, stride, padding, activation: str | None):
    """Convolve `x` (N, H, W, C), add `bias` (D,) and `residual`, which may be None, and apply
    `activation`: (N, H', W', D).
    """
    shape = _output(x, kernel, stride, padding)
    # Direct products of bfloat16 numbers are as fast as Winograd's, which would lose digits.
    wide = x.dtype == jnp.float32
    if wide and _fewer_products(x.shape, kernel.shape, shape, stride, padding):
        fused = None if residual is not None else activation
        case = Winograd(FORWARD, x.shape, kernel.shape, shape, padding, bias is not None, fused)
        y = _forward(case, x, kernel, bias)
        return y if residual is None else _ACTIVATIONS[activation](y + residual)
    more = bias is not None, residual is not None, activation
    case = Convolution(FORWARD, x.shape, kernel.shape, shape, stride, padding, *more)
    return _forward(case._replace(dtype=x.dtype.name), x, kernel, bias, residual)


def _forward(case, x, kernel, bias, residual=None):
    """Return the output of a convolution; a constant kernel gets oneDNN's layout once."""
    added = [a for a in (bias, residual) if a is not None]
    if not constants.active():
        return _call(case, [case.y], x, kernel, *added)[0]
    if residual is None and (pair := _pair(case, x, kernel, bias)):
        return _call(pair[0], [case.y], *pair[1:])[0]
    packed = _packed(case._replace(kind=PACKING), kernel)
    y = _call(case._replace(packed=True), [case.y], x, packed, *added)[0]
    constants.record_origin(y, (case, x, kernel, bias))
    return y


def _packed(case, kernel):
    return constants.precomputed(
        _call(case, [(last_size(case) // kernel.dtype.itemsize,)], kernel)[0]
    )


def _pair(case, x, kernel, bias):
    """Return case and operands of a depthwise convolution fused with the 1 x 1 one that made `x`.

    The value between the two is then never written to memory. None if they cannot be fused.
    """
    origin = constants.origin_of(x)
    if not origin or bias is None or not _is_depthwise(case):
        return None
    first, before, first_kernel, first_bias = origin
    if first_bias is None or not _can_be_fused(first):
        return None
    ends = first.x, first.kernel, first.activation, case.kernel
    pair = Pair(FORWARD, *ends, case.stride, case.padding, case.y, case.activation, case.dtype)
    if not possible(pair):
        return None
    packed = _packed(pair._replace(kind=PACKING), first_kernel)
    packed_depthwise = _packed(pair._replace(kind=PACKING_DEPTHWISE), kernel)
    return pair, before, packed, first_bias, packed_depthwise, bias


def _is_depthwise(case) -> bool:
    """Whether `case` is depthwise, with equal padding above and on the left."""
    (top, _), (left, _) = case.padding
    return case.kernel[2] == 1 and case.kernel[3] == case.x[3] > 1 and top == left


def _can_be_fused(case) -> bool:
    return isinstance(case, Convolution) and case.pointwise and not case.residual


def conv_input_gradient(g, kernel, shape, *, stride, padding):
    """Return the gradient of the input (of `shape`), from the gradient `g` of the output."""
    case = _gradient(INPUT_GRADIENT, shape, kernel.shape, g.shape, stride, padding)
    return _call(case, [shape], g, kernel)[0]


def conv_kernel_gradient(x, g, shape, *, stride, padding, bias: bool):
    """Return a list: the gradient of the kernel (of `shape`) and, with `bias`, of the bias."""
    case = _gradient(KERNEL_GRADIENT, x.shape, shape, g.shape, stride, padding, bias)
    return _call(case, [shape, *([shape[3:]] if bias else [])], x, g)


def _gradient(kind, x, kernel, y, stride, padding, bias=False):
    if _fewer_products(x, kernel, y, stride, padding):
        return Winograd(kind, x, kernel, y, padding, bias)
    return Convolution(kind, x, kernel, y, stride, padding, bias)


def _fewer_products(x, kernel, y, stride: int, padding) -> bool:
    """Whether Winograd's form exists for this convolution and is faster than the direct one."""
    grouped = x[3] != kernel[2]
    if kernel[:2] != (3, 3) or stride != 1 or grouped or max(map(max, padding)) > 2:
        return False
    tiles = y[0] * frames.tiles_of(y[1]) * frames.tiles_of(y[2])
    return min(kernel[2:]) >= WIDE and tiles >= MANY


def _output(x, kernel, stride, padding):
    sides = [
        (n + sum(edges) - k) // stride + 1
        for n, edges, k in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)
    ]
    return (x.shape[0], *sides, kernel.shape[3])


def batch_norm(x, scale, offset, *, epsilon: float, relu: bool):
    """Normalise `x` (N, H, W, C) by the batch's statistics, and apply a ReLU if `relu`.

    Return a list: the result, mean and variance (C,), and with `relu` the workspace that
    `batch_norm_gradients` needs.
    """
    case = BatchNorm(FORWARD, x.shape, epsilon, relu)
    sizes = [batch_norm_workspace(x, epsilon=epsilon)] if relu else []
    return _call(case, [x.shape, scale.shape, scale.shape], x, scale, offset, workspaces=sizes)


def batch_norm_workspace(x, *, epsilon: float) -> int:
    """Return how many bytes `batch_norm` with a ReLU leaves for its gradients."""
    case = BatchNorm(FORWARD, x.shape, epsilon, True)
    return last_size(case)


def batch_norm_gradients(x, g, mean, var, scale, workspace=None, *, epsilon: float):
    """Return the gradients of `x`, `scale` and the offset."""
    case = BatchNorm(GRADIENT, x.shape, epsilon, workspace is not None)
    more = () if workspace is None else (workspace,)
    return _call(case, [x.shape, scale.shape, scale.shape], x, g, mean, var, scale, *more)


def pool(x, *, of: str, size: int, stride: int, padding):
    """Pool `x` (N, H, W, C) to (N, H', W', C).

    `of` is "max", "average" (of a window's pixels in the image) or "average with padding".
    """
    case = _pooling(FORWARD, of, x.shape, size, stride, padding)
    return _call(case._replace(dtype=x.dtype.name), [case.y], x)[0]


def max_pool_with_workspace(x, *, size, stride, padding):
    """Return a list: the maximum of each window, and the bytes that say where each was."""
    case = _pooling(FORWARD, "max", x.shape, size, stride, padding, True)
    return _call(case, [case.y], x, workspaces=[last_size(case)])


def max_pool_workspace(x, *, size, stride, padding) -> int:
    """Return how many bytes say where the maxima were."""
    case = _pooling(FORWARD, "max", x.shape, size, stride, padding, True)
    return last_size(case)


def pool_gradient(g, shape, workspace=None, *, of: str, size: int, stride: int, padding):
    """Return the gradient of the input (of `shape`); that of "max" needs the workspace."""
    case = _pooling(GRADIENT, of, shape, size, stride, padding)
    return _call(case, [shape], g, *(() if workspace is None else (workspace,)))[0]


def _pooling(kind, of, shape, size, stride, padding, differentiated=False):
    n, h, w, c = shape
    sides = [
        (side + sum(edges) - size) // stride + 1
        for side, edges in zip((h, w), padding, strict=True)
    ]
    y = (n, *sides, c)
    return Pooling(kind, of, shape, y, size, stride, padding, differentiated)


def _call(case, shapes, *arrays, workspaces=()):
    outputs = [jax.ShapeDtypeStruct(shape, arrays[0].dtype) for shape in shapes]
    outputs += [jax.ShapeDtypeStruct((size,), jnp.uint8) for size in workspaces]
    return foreign.call(case, outputs, *arrays)
