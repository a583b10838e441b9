"""oneDNN's own convolution, batch norm and pooling: what each is told.

Layouts and descriptions are few and small, and so are never given back.
"""

import ctypes
import math
from typing import NamedTuple

from tl_jax.ops.cpu.onednn import library as dnnl
from tl_jax.ops.cpu.onednn.attributes import ADDED, DEPTHWISE, attributes
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
from tl_jax.ops.cpu.onednn.program import Place, Program

_TRAINING, _INFERENCE, _BACKWARD = 64, 96, 128  # kinds of propagation
_WORKSPACE_MD, _BY_NUMBER = 135, 255


class Argument(NamedTuple):
    """An operand's number, and the query for the layout chosen for it, if that is a choice."""

    number: int
    query: int | None = None


SRC, _WEIGHTS, _BIAS, _DST = Argument(1, 129), Argument(33, 131), Argument(41), Argument(17, 133)
_DIFF_SRC, DIFF_WEIGHTS, DIFF_DST = Argument(129, 130), Argument(161, 132), Argument(145, 134)
_DIFF_BIAS, _WORKSPACE = Argument(169), Argument(64)
_MEAN, _VARIANCE, _SCALE, _SHIFT = map(Argument, (49, 50, 51, 52))
_DIFF_SCALE, _DIFF_SHIFT = map(Argument, (255, 256))
_ADDED = Argument(ADDED)


_DIRECT = 1
POOLS = {"max": 0x1FF, "average": 0x3FF, "average with padding": 0x2FF}


def convolution(case: Convolution) -> Program:
    if (case.packed or case.kind == PACKING) and case.pointwise:
        return _product(case)
    (x, y, bias), description = _ends(case), described(case)
    given = given_kernel(case.kernel, _groups(case))
    if case.kind in (FORWARD, PACKING):
        return _forward(case, description, x, given, bias, y)
    if case.kind == INPUT_GRADIENT:
        return _program(description, [(DIFF_DST, y), (_WEIGHTS, given)], [(_DIFF_SRC, x)])
    outputs = [(DIFF_WEIGHTS, given), *([(_DIFF_BIAS, bias)] if case.bias else [])]
    return _program(description, [(SRC, x), (DIFF_DST, y)], outputs)


def described(case: Convolution) -> Handle:
    """A convolution or a gradient of it; the layout of the kernel is oneDNN's choice."""
    x, y, bias = _ends(case)
    kernel = dnnl.free(_kernel_sizes(case.kernel, _groups(case)))
    window = [dnnl.dims(case.stride, case.stride), dnnl.dims(0, 0), *_edges(case.padding)]
    engine, after = dnnl.engine(), attributes(case.activation, y if case.residual else None)
    forward = dnnl.made(
        "dnnl_convolution_forward_primitive_desc_create",
        *(engine, _TRAINING, _DIRECT, x, kernel, bias, y, *window, after),
    )
    if case.kind == INPUT_GRADIENT:
        return dnnl.made(
            "dnnl_convolution_backward_data_primitive_desc_create",
            *(engine, _DIRECT, x, kernel, y, *window, forward, after),
        )
    if case.kind == KERNEL_GRADIENT:
        return dnnl.made(
            "dnnl_convolution_backward_weights_primitive_desc_create",
            *(engine, _DIRECT, x, kernel, bias, y, *window, forward, after),
        )
    return forward


def _ends(case: Convolution) -> tuple[Handle, Handle, Handle | None]:
    """The layouts of input, output and bias."""
    return dnnl.image(case.x), dnnl.image(case.y), dnnl.vector(case.y[3]) if case.bias else None


def _forward(case: Convolution, description: Handle, x, given, bias, y) -> Program:
    """What is described, with operands of these layouts; or the packing of its kernel."""
    packed = dnnl.queried(description, _WEIGHTS.query)
    if case.kind == PACKING:
        return _packing(given, packed)
    inputs = [(SRC, x), (_WEIGHTS, packed if case.packed else given)]
    inputs += [(_BIAS, bias)] if case.bias else []
    inputs += [(_ADDED, y)] if case.residual else []
    return _program(description, inputs, [(_DST, y)])


def _product(case: Convolution) -> Program:
    """A 1 x 1 convolution as one product, of all pixels and the packed kernel.

    oneDNN's convolution is as fast, but for some shapes: with 256 to 1,024 channels at 14 x 14 it
    took a third longer on one core of an Emerald Rapids Xeon.
    """
    *_, inputs, outputs = case.kernel
    pixels = math.prod(case.x[:3])
    x, y = dnnl.matrix((pixels, inputs)), dnnl.matrix((pixels, outputs))
    bias, given = dnnl.matrix((1, outputs)), dnnl.matrix((inputs, outputs))
    description = dnnl.made(
        "dnnl_matmul_primitive_desc_create",
        *(dnnl.engine(), x, dnnl.free((inputs, outputs)), bias if case.bias else None, y),
        attributes(case.activation, y if case.residual else None),
    )
    return _forward(case, description, x, given, bias, y)


def pair(case: Pair) -> Program:
    """DnnlError, too, where oneDNN would have another window than is wanted."""
    (n, h, w, c), (side, _, _, d) = case.x, case.depthwise
    window = side, case.stride, case.padding[0][0]
    none = dnnl.dims(0, 0)
    chosen = dnnl.made(
        "dnnl_convolution_forward_primitive_desc_create",
        *(dnnl.engine(), _INFERENCE, _DIRECT, dnnl.image(case.x), dnnl.free((d, c, 1, 1))),
        *(dnnl.vector(d), dnnl.image((n, h, w, d)), dnnl.dims(1, 1), none, none, none),
        attributes(case.between, depthwise=(*window, case.activation)),
    )

    def layout(number: int) -> Handle:
        return dnnl.queried(chosen, _BY_NUMBER, number)

    if not dnnl.library().dnnl_memory_desc_equal(layout(_DST.number), dnnl.image(case.y)):
        raise dnnl.DnnlError(f"no such window: {case}")
    if case.kind != FORWARD:
        first = case.kind == PACKING
        shape, groups = (case.kernel, 1) if first else (case.depthwise, d)
        number = _WEIGHTS.number if first else DEPTHWISE | _WEIGHTS.number
        return _packing(given_kernel(shape, groups), layout(number))
    kernels = _WEIGHTS.number, _BIAS.number
    numbers = SRC.number, *kernels, *(DEPTHWISE | number for number in kernels), _DST.number
    program = Program()
    primitive = program.primitive(chosen, *((number, layout(number)) for number in numbers))
    program.add(primitive, *map(Place, range(len(numbers))))
    return program


def _packing(given: Handle, wanted: Handle) -> Program:
    program = Program()
    program.add(program.reorder(given, wanted), Place(0), Place(1))
    return program


def _edges(padding: Edges):
    return [dnnl.dims(*edges) for edges in zip(*padding, strict=True)]


def _groups(case: Convolution) -> int:
    return case.x[3] // case.kernel[2]


def _kernel_sizes(kernel: Shape, groups: int) -> tuple[int, ...]:
    kh, kw, inputs, outputs = kernel
    sizes = (groups, outputs // groups, inputs, kh, kw)
    return sizes if groups > 1 else sizes[1:]


def given_kernel(kernel: Shape, groups: int, *, row: int | None = None) -> Handle:
    """The layout of a kernel (kh, kw, C / groups, D), or of columns of one with a longer `row`."""
    _, kw, inputs, outputs = kernel
    strides = (outputs // groups, 1, outputs, (row or kw) * inputs * outputs, inputs * outputs)
    return dnnl.strided(_kernel_sizes(kernel, groups), strides if groups > 1 else strides[1:])


_USE_SCALE, _USE_SHIFT, _WITH_RELU = 2, 4, 8


def batch_norm(case: BatchNorm) -> Program:
    x, vector = dnnl.image(case.x), dnnl.vector(case.x[3])
    how = ctypes.c_float(case.epsilon), _USE_SCALE | _USE_SHIFT | (_WITH_RELU if case.relu else 0)
    engine, plain = dnnl.engine(), attributes()
    forward = dnnl.made(
        "dnnl_batch_normalization_forward_primitive_desc_create",
        *(engine, _TRAINING, x, x, *how, plain),
    )
    kept = [(_WORKSPACE, dnnl.queried(forward, _WORKSPACE_MD))] if case.relu else []
    statistics = [(_MEAN, vector), (_VARIANCE, vector)]
    if case.kind == FORWARD:
        inputs = [(SRC, x), (_SCALE, vector), (_SHIFT, vector)]
        return _program(forward, inputs, [(_DST, x), *statistics, *kept])
    backward = dnnl.made(
        "dnnl_batch_normalization_backward_primitive_desc_create",
        *(engine, _BACKWARD, x, x, x, *how, forward, plain),
    )
    inputs = [(SRC, x), (DIFF_DST, x), *statistics, (_SCALE, vector), *kept]
    outputs = [(_DIFF_SRC, x), (_DIFF_SCALE, vector), (_DIFF_SHIFT, vector)]
    return _program(backward, inputs, outputs)


def pooling(case: Pooling) -> Program:
    x, y, of = dnnl.image(case.x), dnnl.image(case.y), POOLS[case.of]
    window = [dnnl.dims(n, n) for n in (case.stride, case.size, 0)] + _edges(case.padding)
    engine, plain = dnnl.engine(), attributes()
    trained = case.trained or case.kind == GRADIENT
    forward = dnnl.made(
        "dnnl_pooling_forward_primitive_desc_create",
        *(engine, _TRAINING if trained else _INFERENCE, of, x, y, *window, plain),
    )
    kept = []
    if trained and case.of == "max":
        kept = [(_WORKSPACE, dnnl.queried(forward, _WORKSPACE_MD))]
    if case.kind == FORWARD:
        return _program(forward, [(SRC, x)], [(_DST, y), *kept])
    backward = dnnl.made(
        "dnnl_pooling_backward_primitive_desc_create",
        *(engine, of, x, y, *window, forward, plain),
    )
    return _program(backward, [(DIFF_DST, y), *kept], [(_DIFF_SRC, x)])


Layouts = list[tuple[Argument, Handle]]
Operands = list[tuple[Argument, Handle, Place]]


def _program(description: Handle, inputs: Layouts, outputs: Layouts) -> Program:
    """The primitive described, for arrays of these layouts."""
    program = Program()
    given = [(*operand, Place(array)) for array, operand in enumerate([*inputs, *outputs])]
    add(program, description, given[: len(inputs)], given[len(inputs) :])
    return program


def add(program: Program, description: Handle, inputs: Operands, outputs: Operands) -> None:
    """Steps that run the primitive described, and copy what has not the layout it has chosen."""
    operands, places, before, after = [], [], [], []
    for number, (argument, layout, given) in enumerate([*inputs, *outputs]):
        chosen = dnnl.queried(description, argument.query) if argument.query else layout
        operands.append((argument.number, chosen))
        if dnnl.library().dnnl_memory_desc_equal(layout, chosen):
            places.append(given)
            continue
        places.append(program.scratch(chosen))
        if number < len(inputs):
            before.append((program.reorder(layout, chosen), given, places[-1]))
        else:
            after.append((program.reorder(chosen, layout), places[-1], given))
    for step in (*before, (program.primitive(description, *operands), *places), *after):
        program.add(*step)
