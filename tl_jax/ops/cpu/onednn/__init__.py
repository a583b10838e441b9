"""oneDNN's convolutions, batch norm and pooling as operations of a JAX program on the CPU.

In float32. `takes_conv` and `takes_image` say, while a program is traced, whether one is used.
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

# Below these a call is not worth it: floating-point operations, and numbers read.
LEAST_WORK = 4e6
LEAST_SIZE = 2**16
# From here on a 3 x 3 convolution by fewer products is faster than the direct one: channels on
# either side, and tiles of 4 x 4.
WIDE, MANY = 64, 64

_ACTIVATIONS = {None: lambda x: x, "relu": jax.nn.relu, "relu6": jax.nn.relu6}


@functools.cache
def available() -> bool:
    """Whether oneDNN is installed and switched on, and JAX has one CPU device.

    XLA cannot divide a foreign function among several devices: it would gather its inputs.
    """
    if not switch.fast():
        return False
    try:
        several = len(jax.devices("cpu")) > 1
    except RuntimeError:  # there is no such backend, as with JAX_PLATFORMS=cuda
        return False
    if several or library.library() is None:
        return False
    foreign.register()
    return True


def cores() -> int:
    """How many cores can run a program each; 1 without oneDNN, and where JAX runs elsewhere."""
    return library.cores() if jax.default_backend() == "cpu" and available() else 1


def takes_conv(x, kernel, stride: int, padding) -> bool:
    """Whether oneDNN computes this convolution on the CPU."""
    work = 2 * math.prod(kernel.shape) * math.prod(_output(x, kernel, stride, padding)[:3])
    edges = [edge for pair in padding for edge in pair]
    fits = x.dtype == kernel.dtype == jnp.float32 and min(edges) >= 0
    return fits and work >= LEAST_WORK and available()


def takes_image(x) -> bool:
    """Whether oneDNN computes the batch norm or the pooling of `x` on the CPU."""
    fits = x.dtype == jnp.float32 and x.ndim == 4
    return fits and x.size >= LEAST_SIZE and available()


def conv(x, kernel, bias, residual, *, stride, padding, activation: str | None):
    """`activation` of the sum of the convolution, `bias` (D,) and `residual`, which may be None:
    (N, H, W, C) to (N, H', W', D).
    """
    shape = _output(x, kernel, stride, padding)
    if _fewer_products(x.shape, kernel.shape, shape, stride, padding):
        last = None if residual is not None else activation
        form = Winograd(FORWARD, x.shape, kernel.shape, shape, padding, bias is not None, last)
        y = _forward(form, x, kernel, bias)
        return y if residual is None else _ACTIVATIONS[activation](y + residual)
    more = bias is not None, residual is not None, activation
    case = Convolution(FORWARD, x.shape, kernel.shape, shape, stride, padding, *more)
    return _forward(case, x, kernel, bias, residual)


def _forward(case, x, kernel, bias, residual=None):
    """A convolution; a kernel that stays as it is gets oneDNN's layout once."""
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
    return constants.precomputed(_call(case, [(last_size(case) // 4,)], kernel)[0])


def _pair(case, x, kernel, bias):
    """Case and operands of a depthwise convolution fused with the 1 x 1 one that produced `x`.

    Their intermediate value is then never written to memory. None where they cannot be fused.
    """
    origin = constants.origin_of(x)
    if not origin or bias is None or not _is_depthwise(case):
        return None
    first, before, first_kernel, first_bias = origin
    if first_bias is None or not _can_be_fused(first):
        return None
    ends = first.x, first.kernel, first.activation, case.kernel
    pair = Pair(FORWARD, *ends, case.stride, case.padding, case.y, case.activation)
    if not possible(pair):
        return None
    packed = _packed(pair._replace(kind=PACKING), first_kernel)
    packed_depthwise = _packed(pair._replace(kind=PACKING_DEPTHWISE), kernel)
    return pair, before, packed, first_bias, packed_depthwise, bias


def _is_depthwise(case) -> bool:
    """Whether it is depthwise, with the same padding before rows and columns."""
    (top, _), (left, _) = case.padding
    return case.kernel[2] == 1 and case.kernel[3] == case.x[3] > 1 and top == left


def _can_be_fused(case) -> bool:
    return isinstance(case, Convolution) and case.pointwise and not case.residual


def conv_input_gradient(g, kernel, shape, *, stride, padding):
    """Gradient by the input (of `shape`) of a loss whose gradient by the output is `g`."""
    case = _gradient(INPUT_GRADIENT, shape, kernel.shape, g.shape, stride, padding)
    return _call(case, [shape], g, kernel)[0]


def conv_kernel_gradient(x, g, shape, *, stride, padding, bias: bool):
    """Gradient by the kernel (of `shape`) and, with `bias`, by the bias: a list."""
    case = _gradient(KERNEL_GRADIENT, x.shape, shape, g.shape, stride, padding, bias)
    return _call(case, [shape, *([shape[3:]] if bias else [])], x, g)


def _gradient(kind, x, kernel, y, stride, padding, bias=False):
    if _fewer_products(x, kernel, y, stride, padding):
        return Winograd(kind, x, kernel, y, padding, bias)
    return Convolution(kind, x, kernel, y, stride, padding, bias)


def _fewer_products(x, kernel, y, stride: int, padding) -> bool:
    """Whether Winograd's form is there and faster than the direct one."""
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
    """Norm of `x` (N, H, W, C), by the batch's statistics, with its ReLU if `relu`; mean and
    variance (C,); and with `relu` the bytes that `batch_norm_gradients` needs.
    """
    case = BatchNorm(FORWARD, x.shape, epsilon, relu)
    kept = [batch_norm_workspace(x, epsilon=epsilon)] if relu else []
    return _call(case, [x.shape, scale.shape, scale.shape], x, scale, offset, kept=kept)


def batch_norm_workspace(x, *, epsilon: float) -> int:
    """How many bytes `batch_norm` with a ReLU leaves for its gradients."""
    case = BatchNorm(FORWARD, x.shape, epsilon, True)
    return last_size(case)


def batch_norm_gradients(x, g, mean, var, scale, kept=None, *, epsilon: float):
    """Gradients by `x`, `scale` and the offset."""
    case = BatchNorm(GRADIENT, x.shape, epsilon, kept is not None)
    more = () if kept is None else (kept,)
    return _call(case, [x.shape, scale.shape, scale.shape], x, g, mean, var, scale, *more)


def pool(x, *, of: str, size: int, stride: int, padding):
    """Of each window of `x` (N, H, W, C) the "max", the "average" of what is in the image, or the
    "average with padding": (N, H', W', C).
    """
    case = _pooling(FORWARD, of, x.shape, size, stride, padding)
    return _call(case, [case.y], x)[0]


def max_pool_and_places(x, *, size, stride, padding):
    """The largest value in each window, and the bytes that say where it was."""
    case = _pooling(FORWARD, "max", x.shape, size, stride, padding, True)
    return _call(case, [case.y], x, kept=[last_size(case)])


def max_pool_places(x, *, size, stride, padding) -> int:
    """How many bytes say where the maxima were."""
    case = _pooling(FORWARD, "max", x.shape, size, stride, padding, True)
    return last_size(case)


def pool_gradient(g, shape, places=None, *, of: str, size: int, stride: int, padding):
    """Gradient by the input (of `shape`)."""
    case = _pooling(GRADIENT, of, shape, size, stride, padding)
    return _call(case, [shape], g, *(() if places is None else (places,)))[0]


def _pooling(kind, of, shape, size, stride, padding, trained=False):
    n, h, w, c = shape
    sides = [
        (side + sum(edges) - size) // stride + 1
        for side, edges in zip((h, w), padding, strict=True)
    ]
    y = (n, *sides, c)
    return Pooling(kind, of, shape, y, size, stride, padding, trained)


def _call(case, shapes, *arrays, kept=()):
    outputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    outputs += [jax.ShapeDtypeStruct((size,), jnp.uint8) for size in kept]
    return foreign.call(case, outputs, *arrays)
