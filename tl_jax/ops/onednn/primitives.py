"""The operations of oneDNN that are used here: what each is told, and how it is compiled.

Layouts and descriptions are few and small, and so are never given back.
"""

import ctypes
import functools
from typing import NamedTuple

from tl_jax.ops.onednn import library as dnnl
from tl_jax.ops.onednn.library import Argument, Handle, Primitive

Shape = tuple[int, int, int, int]
Edges = tuple[tuple[int, int], tuple[int, int]]

FORWARD, GRADIENT = "forward", "gradient"
INPUT_GRADIENT, KERNEL_GRADIENT = "input_gradient", "kernel_gradient"

_TRAINING, _INFERENCE, _BACKWARD = 64, 96, 128  # kinds of propagation
_WORKSPACE_MD = 135
_SRC, _WEIGHTS, _BIAS, _DST = Argument(1, 129), Argument(33, 131), Argument(41), Argument(17, 133)
_DIFF_SRC, _DIFF_WEIGHTS, _DIFF_DST = Argument(129, 130), Argument(161, 132), Argument(145, 134)
_DIFF_BIAS, _WORKSPACE = Argument(169), Argument(64)
_MEAN, _VARIANCE, _SCALE, _SHIFT = map(Argument, (49, 50, 51, 52))
_DIFF_SCALE, _DIFF_SHIFT = map(Argument, (255, 256))
_ADDED = Argument(32768 | 2)  # the second operand of the first operation after the convolution


class Convolution(NamedTuple):
    """NHWC and HWIO shapes, and what is computed."""

    kind: str  # FORWARD, INPUT_GRADIENT or KERNEL_GRADIENT
    x: Shape
    kernel: Shape  # (kh, kw, C / groups, D)
    y: Shape
    stride: int
    padding: Edges
    bias: bool = False
    residual: bool = False
    activation: str | None = None  # one of ACTIVATIONS


class BatchNorm(NamedTuple):
    """By the batch's statistics."""

    kind: str  # FORWARD or GRADIENT
    x: Shape
    epsilon: float
    relu: bool


class Pooling(NamedTuple):
    kind: str  # FORWARD or GRADIENT
    of: str  # one of POOLS
    x: Shape
    y: Shape
    size: int
    stride: int
    padding: Edges
    trained: bool = False  # a maximum's gradient needs to know where each was


Case = Convolution | BatchNorm | Pooling

_DIRECT, _RELU, _CLIP, _ADD = 1, 0x20, 0x2E, 0x1FFF0
ACTIVATIONS = {"relu": (_RELU, 0.0, 0.0), "relu6": (_CLIP, 0.0, 6.0)}
POOLS = {"max": 0x1FF, "average": 0x3FF, "average with padding": 0x2FF}


def _convolution(case: Convolution) -> Primitive:
    x, y = dnnl.image(case.x), dnnl.image(case.y)
    given, free = _kernel(case)
    bias = dnnl.vector(case.kernel[3]) if case.bias else None
    window = [dnnl.dims(case.stride, case.stride), dnnl.dims(0, 0), *_edges(case.padding)]
    engine, attributes = dnnl.engine(), _with_what_follows(case, y)
    forward = dnnl.made(
        "dnnl_convolution_forward_primitive_desc_create",
        *(engine, _TRAINING, _DIRECT, x, free, bias, y, *window, attributes),
    )
    if case.kind == FORWARD:
        inputs = [(_SRC, x), (_WEIGHTS, given)]
        inputs += [(_BIAS, bias)] if case.bias else []
        inputs += [(_ADDED, y)] if case.residual else []
        return dnnl.compiled(forward, inputs, [(_DST, y)])
    if case.kind == INPUT_GRADIENT:
        chosen = dnnl.made(
            "dnnl_convolution_backward_data_primitive_desc_create",
            *(engine, _DIRECT, x, free, y, *window, forward, attributes),
        )
        return dnnl.compiled(chosen, [(_DIFF_DST, y), (_WEIGHTS, given)], [(_DIFF_SRC, x)])
    chosen = dnnl.made(
        "dnnl_convolution_backward_weights_primitive_desc_create",
        *(engine, _DIRECT, x, free, bias, y, *window, forward, attributes),
    )
    outputs = [(_DIFF_WEIGHTS, given), *([(_DIFF_BIAS, bias)] if case.bias else [])]
    return dnnl.compiled(chosen, [(_SRC, x), (_DIFF_DST, y)], outputs)


def _edges(padding: Edges):
    return [dnnl.dims(*edges) for edges in zip(*padding, strict=True)]


def _kernel(case: Convolution) -> tuple[Handle, Handle]:
    """The layout of the kernel as it is given, and one that leaves the choice to oneDNN."""
    kh, kw, inputs, outputs = case.kernel
    groups = case.x[3] // inputs
    sizes = (groups, outputs // groups, inputs, kh, kw)
    strides = (outputs // groups, 1, outputs, kw * inputs * outputs, inputs * outputs)
    if groups == 1:
        sizes, strides = sizes[1:], strides[1:]
    return dnnl.strided(sizes, strides), dnnl.free(sizes)


def _with_what_follows(case: Convolution, y: Handle) -> Handle:
    attributes, after = dnnl.attributes(), dnnl.made("dnnl_post_ops_create")
    if case.residual:
        dnnl.call("dnnl_post_ops_append_binary", after, _ADD, y)
    if case.activation:
        kind, *numbers = ACTIVATIONS[case.activation]
        dnnl.call("dnnl_post_ops_append_eltwise", after, kind, *map(ctypes.c_float, numbers))
    dnnl.call("dnnl_primitive_attr_set_post_ops", attributes, after)
    return attributes


_USE_SCALE, _USE_SHIFT, _WITH_RELU = 2, 4, 8


def _batch_norm(case: BatchNorm) -> Primitive:
    x, vector = dnnl.image(case.x), dnnl.vector(case.x[3])
    how = ctypes.c_float(case.epsilon), _USE_SCALE | _USE_SHIFT | (_WITH_RELU if case.relu else 0)
    engine, attributes = dnnl.engine(), dnnl.attributes()
    forward = dnnl.made(
        "dnnl_batch_normalization_forward_primitive_desc_create",
        *(engine, _TRAINING, x, x, *how, attributes),
    )
    kept = [(_WORKSPACE, dnnl.queried(forward, _WORKSPACE_MD))] if case.relu else []
    statistics = [(_MEAN, vector), (_VARIANCE, vector)]
    if case.kind == FORWARD:
        inputs = [(_SRC, x), (_SCALE, vector), (_SHIFT, vector)]
        return dnnl.compiled(forward, inputs, [(_DST, x), *statistics, *kept])
    backward = dnnl.made(
        "dnnl_batch_normalization_backward_primitive_desc_create",
        *(engine, _BACKWARD, x, x, x, *how, forward, attributes),
    )
    inputs = [(_SRC, x), (_DIFF_DST, x), *statistics, (_SCALE, vector), *kept]
    outputs = [(_DIFF_SRC, x), (_DIFF_SCALE, vector), (_DIFF_SHIFT, vector)]
    return dnnl.compiled(backward, inputs, outputs)


def _pooling(case: Pooling) -> Primitive:
    x, y, of = dnnl.image(case.x), dnnl.image(case.y), POOLS[case.of]
    window = [dnnl.dims(n, n) for n in (case.stride, case.size, 0)] + _edges(case.padding)
    engine, attributes = dnnl.engine(), dnnl.attributes()
    trained = case.trained or case.kind == GRADIENT
    forward = dnnl.made(
        "dnnl_pooling_forward_primitive_desc_create",
        *(engine, _TRAINING if trained else _INFERENCE, of, x, y, *window, attributes),
    )
    kept = []
    if trained and case.of == "max":
        kept = [(_WORKSPACE, dnnl.queried(forward, _WORKSPACE_MD))]
    if case.kind == FORWARD:
        return dnnl.compiled(forward, [(_SRC, x)], [(_DST, y), *kept])
    backward = dnnl.made(
        "dnnl_pooling_backward_primitive_desc_create",
        *(engine, of, x, y, *window, forward, attributes),
    )
    return dnnl.compiled(backward, [(_DIFF_DST, y), *kept], [(_DIFF_SRC, x)])


_COMPILERS = {Convolution: _convolution, BatchNorm: _batch_norm, Pooling: _pooling}
_NAMES = {kind.__name__: kind for kind in _COMPILERS}


@functools.cache
def primitive(case: Case) -> Primitive:
    """What `case` says, compiled; DnnlError if oneDNN has none."""
    return _COMPILERS[type(case)](case)


def workspace(case: BatchNorm | Pooling) -> int:
    """The bytes that the forward pass of `case` leaves for its gradient."""
    return dnnl.size(primitive(case).operands[-1].layout)


def case_of(name: str, fields: list) -> Case:
    """A case by the name of its kind, with lists for tuples."""
    return _NAMES[name](*_tuples(fields))


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
