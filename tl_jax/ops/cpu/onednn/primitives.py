"""oneDNN's convolution, batch norm and pooling: the arguments of each.

Layouts and descriptions are few and small, so they are never freed.
"""

import ctypes
import math
from typing import NamedTuple

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.attributes import ADDEND, DEPTHWISE, attributes
from tl_jax.ops.cpu.onednn.cases import (
    FORWARD,
    GRADIENT,
    INPUT_GRADIENT,
    KERNEL_GRADIENT,
    PACKING,
    BatchNorm,
    Convolution,
    Edges,
    Pair,
    Pooling,
    Shape,
)
from tl_jax.ops.cpu.onednn.library import Handle
from tl_jax.ops.cpu.onednn.program import Location, Program

_TRAINING, _INFERENCE, _BACKWARD = 64, 96, 128  # kinds of propagation
_WORKSPACE_MD, _BY_NUMBER = 135, 255


class Argument(NamedTuple):
    """An operand's number, and the query for its layout if the primitive may choose that."""

    number: int
    query: int | None = None


SRC, _WEIGHTS, _BIAS, _DST = Argument(1, 129), Argument(33, 131), Argument(41), Argument(17, 133)
_DIFF_SRC, DIFF_WEIGHTS, DIFF_DST = Argument(129, 130), Argument(161, 132), Argument(145, 134)
_DIFF_BIAS, _WORKSPACE = Argument(169), Argument(64)
_MEAN, _VARIANCE, _SCALE, _SHIFT = map(Argument, (49, 50, 51, 52))
_DIFF_SCALE, _DIFF_SHIFT = map(Argument, (255, 256))
_ADDEND = Argument(ADDEND)


_DIRECT = 1
POOLS = {"max": 0x1FF, "average": 0x3FF, "average with padding": 0x2FF}


def convolution(case: Convolution) -> Program:
    """Return the program of a convolution, of a gradient of it, or of its kernel's packing."""
    if (case.packed or case.kind == PACKING) and case.pointwise:
        return _product(case)
    (x, y, bias), description = _ends(case), describe(case)
    kernel = kernel_layout(case.kernel, _groups(case), dtype=case.dtype)
    if case.kind in (FORWARD, PACKING):
        return _forward(case, description, x, kernel, bias, y)
    if case.kind == INPUT_GRADIENT:
        return _program(description, [(DIFF_DST, y), (_WEIGHTS, kernel)], [(_DIFF_SRC, x)])
    outputs = [(DIFF_WEIGHTS, kernel), *([(_DIFF_BIAS, bias)] if case.bias else [])]
    return _program(description, [(SRC, x), (DIFF_DST, y)], outputs)


def describe(case: Convolution) -> Handle:
    """Return the description of a convolution or a gradient; oneDNN chooses the kernel's layout."""
    x, y, bias = _ends(case)
    kernel = dnnl.any_layout(_kernel_sizes(case.kernel, _groups(case)), case.dtype)
    window = [dnnl.dims(case.stride, case.stride), dnnl.dims(0, 0), *_edges(case.padding)]
    engine, after = dnnl.engine(), attributes(case.activation, y if case.residual else None)
    forward = dnnl.create(
        "dnnl_convolution_forward_primitive_desc_create",
        *(engine, _TRAINING, _DIRECT, x, kernel, bias, y, *window, after),
    )
    if case.kind == INPUT_GRADIENT:
        return dnnl.create(
            "dnnl_convolution_backward_data_primitive_desc_create",
            *(engine, _DIRECT, x, kernel, y, *window, forward, after),
        )
    if case.kind == KERNEL_GRADIENT:
        return dnnl.create(
            "dnnl_convolution_backward_weights_primitive_desc_create",
            *(engine, _DIRECT, x, kernel, bias, y, *window, forward, after),
        )
    return forward


def _ends(case: Convolution) -> tuple[Handle, Handle, Handle | None]:
    """Return the layouts of input, output and bias."""
    bias = dnnl.vector(case.y[3], case.dtype) if case.bias else None
    return dnnl.image(case.x, case.dtype), dnnl.image(case.y, case.dtype), bias


def _forward(case: Convolution, description: Handle, x, kernel, bias, y) -> Program:
    """Return the program of the description, for these layouts, or of its kernel's packing."""
    packed = dnnl.chosen_layout(description, _WEIGHTS.query)
    if case.kind == PACKING:
        return _packing(kernel, packed)
    inputs = [(SRC, x), (_WEIGHTS, packed if case.packed else kernel)]
    inputs += [(_BIAS, bias)] if case.bias else []
    inputs += [(_ADDEND, y)] if case.residual else []
    return _program(description, inputs, [(_DST, y)])


def _product(case: Convolution) -> Program:
    """Return the program of a 1 x 1 convolution, as one product of all pixels and the kernel.

    For some shapes oneDNN's convolution is slower: with 256 to 1,024 channels at 14 x 14 it took a
    third longer on one core of an Emerald Rapids Xeon.
    """
    *_, inputs, outputs = case.kernel
    pixels = math.prod(case.x[:3])
    sizes = (pixels, inputs), (pixels, outputs), (1, outputs), (inputs, outputs)
    x, y, bias, kernel = (dnnl.matrix(size, case.dtype) for size in sizes)
    chosen = dnnl.any_layout((inputs, outputs), case.dtype)
    description = dnnl.create(
        "dnnl_matmul_primitive_desc_create",
        *(dnnl.engine(), x, chosen, bias if case.bias else None, y),
        attributes(case.activation, y if case.residual else None),
    )
    return _forward(case, description, x, kernel, bias, y)


def pair(case: Pair) -> Program:
    """Return the program of a fused pair; DnnlError if oneDNN lacks it or changes its window."""
    (n, h, w, c), (side, _, _, d) = case.x, case.depthwise
    window = side, case.stride, case.padding[0][0]
    x, between = (dnnl.image((n, h, w, channels), case.dtype) for channels in (c, d))
    kernel, bias = dnnl.any_layout((d, c, 1, 1), case.dtype), dnnl.vector(d, case.dtype)
    none = dnnl.dims(0, 0)
    chosen = dnnl.create(
        "dnnl_convolution_forward_primitive_desc_create",
        *(dnnl.engine(), _INFERENCE, _DIRECT, x, kernel, bias, between),
        *(dnnl.dims(1, 1), none, none, none),
        attributes(case.between, depthwise=(*window, case.activation), dtype=case.dtype),
    )

    def layout(number: int) -> Handle:
        return dnnl.chosen_layout(chosen, _BY_NUMBER, number)

    y = dnnl.image(case.y, case.dtype)
    if not dnnl.library().dnnl_memory_desc_equal(layout(_DST.number), y):
        raise dnnl.DnnlError(f"no such window: {case}")
    if case.kind != FORWARD:
        first = case.kind == PACKING
        shape, groups = (case.kernel, 1) if first else (case.depthwise, d)
        number = _WEIGHTS.number if first else DEPTHWISE | _WEIGHTS.number
        return _packing(kernel_layout(shape, groups, dtype=case.dtype), layout(number))
    kernels = _WEIGHTS.number, _BIAS.number
    numbers = SRC.number, *kernels, *(DEPTHWISE | number for number in kernels), _DST.number
    program = Program()
    primitive = program.primitive(chosen, *((number, layout(number)) for number in numbers))
    program.add(primitive, *map(Location, range(len(numbers))))
    return program


def _packing(source: Handle, target: Handle) -> Program:
    program = Program()
    program.add(program.reorder(source, target), Location(0), Location(1))
    return program


def _edges(padding: Edges):
    return [dnnl.dims(*edges) for edges in zip(*padding, strict=True)]


def _groups(case: Convolution) -> int:
    return case.x[3] // case.kernel[2]


def _kernel_sizes(kernel: Shape, groups: int) -> tuple[int, ...]:
    kh, kw, inputs, outputs = kernel
    sizes = (groups, outputs // groups, inputs, kh, kw)
    return sizes if groups > 1 else sizes[1:]


def kernel_layout(
    kernel: Shape, groups: int, *, row: int | None = None, dtype: str = "float32"
) -> Handle:
    """Return the layout of a kernel (kh, kw, C / groups, D).

    With `row` it is the layout of `kw` columns of a kernel that has `row` of them.
    """
    _, kw, inputs, outputs = kernel
    strides = (outputs // groups, 1, outputs, (row or kw) * inputs * outputs, inputs * outputs)
    return dnnl.strided(_kernel_sizes(kernel, groups), strides[groups == 1 :], dtype)


_USE_SCALE, _USE_SHIFT, _WITH_RELU = 2, 4, 8


def batch_norm(case: BatchNorm) -> Program:
    """Return the program of a batch norm or of its gradients."""
    x, vector = dnnl.image(case.x), dnnl.vector(case.x[3])
    flags = _USE_SCALE | _USE_SHIFT | (_WITH_RELU if case.relu else 0)
    settings = ctypes.c_float(case.epsilon), flags
    engine, plain = dnnl.engine(), attributes()
    forward = dnnl.create(
        "dnnl_batch_normalization_forward_primitive_desc_create",
        *(engine, _TRAINING, x, x, *settings, plain),
    )
    workspace = [(_WORKSPACE, dnnl.chosen_layout(forward, _WORKSPACE_MD))] if case.relu else []
    statistics = [(_MEAN, vector), (_VARIANCE, vector)]
    if case.kind == FORWARD:
        inputs = [(SRC, x), (_SCALE, vector), (_SHIFT, vector)]
        return _program(forward, inputs, [(_DST, x), *statistics, *workspace])
    backward = dnnl.create(
        "dnnl_batch_normalization_backward_primitive_desc_create",
        *(engine, _BACKWARD, x, x, x, *settings, forward, plain),
    )
    inputs = [(SRC, x), (DIFF_DST, x), *statistics, (_SCALE, vector), *workspace]
    outputs = [(_DIFF_SRC, x), (_DIFF_SCALE, vector), (_DIFF_SHIFT, vector)]
    return _program(backward, inputs, outputs)


def pooling(case: Pooling) -> Program:
    """Return the program of a pooling or of its gradient."""
    x, y, of = dnnl.image(case.x, case.dtype), dnnl.image(case.y, case.dtype), POOLS[case.of]
    window = [dnnl.dims(n, n) for n in (case.stride, case.size, 0)] + _edges(case.padding)
    engine, plain = dnnl.engine(), attributes()
    differentiated = case.differentiated or case.kind == GRADIENT
    forward = dnnl.create(
        "dnnl_pooling_forward_primitive_desc_create",
        *(engine, _TRAINING if differentiated else _INFERENCE, of, x, y, *window, plain),
    )
    workspace = []
    if differentiated and case.of == "max":
        workspace = [(_WORKSPACE, dnnl.chosen_layout(forward, _WORKSPACE_MD))]
    if case.kind == FORWARD:
        return _program(forward, [(SRC, x)], [(_DST, y), *workspace])
    backward = dnnl.create(
        "dnnl_pooling_backward_primitive_desc_create",
        *(engine, of, x, y, *window, forward, plain),
    )
    return _program(backward, [(DIFF_DST, y), *workspace], [(_DIFF_SRC, x)])


Layouts = list[tuple[Argument, Handle]]
Operands = list[tuple[Argument, Handle, Location]]


def _program(description: Handle, inputs: Layouts, outputs: Layouts) -> Program:
    """Return a program of the primitive described, for arrays of these layouts."""
    program = Program()
    operands = [(*operand, Location(array)) for array, operand in enumerate([*inputs, *outputs])]
    add(program, description, operands[: len(inputs)], operands[len(inputs) :])
    return program


def add(program: Program, description: Handle, inputs: Operands, outputs: Operands) -> None:
    """Add the primitive described to the program, with steps that copy operands into and out of
    the layouts that it has chosen.
    """
    operands, locations, before, after = [], [], [], []
    for number, (argument, layout, location) in enumerate([*inputs, *outputs]):
        chosen = dnnl.chosen_layout(description, argument.query) if argument.query else layout
        operands.append((argument.number, chosen))
        if dnnl.library().dnnl_memory_desc_equal(layout, chosen):
            locations.append(location)
            continue
        copy = program.scratch(chosen)
        locations.append(copy)
        if number < len(inputs):
            before.append((program.reorder(layout, chosen), location, copy))
        else:
            after.append((program.reorder(chosen, layout), copy, location))
    for step in (*before, (program.primitive(description, *operands), *locations), *after):
        program.add(*step)
