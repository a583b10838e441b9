"""The convolutions of oneDNN's shared library, through its C interface.

Needs the package `onednn-cpu-gomp` (extra `onednn`); without it, or off x86-64 Linux, `library()`
is None. Names and numbers are those of `dnnl.h` and `dnnl_types.h` of oneDNN 3.
"""

import ctypes
import functools
import importlib.metadata
import os
from typing import NamedTuple

PACKAGE = "onednn-cpu-gomp"

FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT = "forward", "input_gradient", "kernel_gradient"

_F32, _ANY, _CPU, _IN_ORDER, _DIRECT, _FORWARD_TRAINING, _USER_SCRATCHPAD = 3, 1, 1, 1, 1, 64, 1
_ALLOCATE = ctypes.c_void_p(-1)
_SCRATCHPAD_MD, _SCRATCHPAD = 136, 80
_RELU, _CLIP, _ADD = 0x20, 0x2E, 0x1FFF0
ACTIVATIONS = {"relu": (_RELU, 0.0, 0.0), "relu6": (_CLIP, 0.0, 6.0)}
# Of each operand: its number as an argument, and the query for the layout that is chosen for it.
_SRC, _WEIGHTS, _BIAS, _DST = (1, 129), (33, 131), (41, None), (17, 133)
_DIFF_SRC, _DIFF_WEIGHTS, _DIFF_DST = (129, 130), (161, 132), (145, 134)
_ADDED = (32768 | 2, None)  # the second operand of the first operation after the convolution
_FROM, _TO = 1, 17

_Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * 12


class Case(NamedTuple):
    """A convolution: NHWC and HWIO shapes, and what is computed of it."""

    kind: str  # FORWARD, INPUT_GRADIENT or KERNEL_GRADIENT
    x: tuple[int, int, int, int]
    kernel: tuple[int, int, int, int]  # (kh, kw, C / groups, D)
    y: tuple[int, int, int, int]
    stride: int
    padding: tuple[tuple[int, int], tuple[int, int]]
    bias: bool = False
    residual: bool = False
    activation: str | None = None


class _Operand(NamedTuple):
    number: int
    layout: _Handle  # that of the array that is given
    chosen: _Handle  # that which the primitive works on
    reorder: _Handle | None  # from the one to the other, or back for what is computed


class Primitive(NamedTuple):
    """A compiled convolution: `run(primitive, addresses)`, its inputs in order, then its output."""

    handle: _Handle
    operands: tuple[_Operand, ...]
    scratchpad: _Handle


class DnnlError(RuntimeError):
    """oneDNN refused something."""


class _Argument(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", _Handle)]


@functools.cache
def library() -> ctypes.CDLL | None:
    """oneDNN, or None where it is not to be had."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
        path = next(f.locate() for f in files if f.name == "libdnnl.so.3")
        # Its threads must soon leave the cores to XLA's. Read once, when libgomp is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
        return ctypes.CDLL(str(path))
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        return None


def _call(name: str, *args) -> None:
    status = getattr(library(), name)(*args)
    if status:
        raise DnnlError(f"{name} ended with status {status}")


def _made(name: str, *args) -> _Handle:
    handle = _Handle()
    _call(name, ctypes.byref(handle), *args)
    return handle


@functools.cache
def _engine() -> _Handle:
    return _made("dnnl_engine_create", _CPU, ctypes.c_size_t(0))


def _strided(dims: tuple[int, ...], strides: tuple[int, ...]) -> _Handle:
    name = "dnnl_memory_desc_create_with_strides"
    return _made(name, len(dims), _Dims(*dims), _F32, _Dims(*strides))


def _image(shape) -> _Handle:
    n, h, w, c = shape
    return _strided((n, c, h, w), (h * w * c, 1, w * c, c))


def _weights(case: Case) -> tuple[_Handle, _Handle]:
    """The layout of the kernel as it is given, and one that leaves the choice to oneDNN."""
    kh, kw, inputs, outputs = case.kernel
    groups = case.x[3] // inputs
    dims = (groups, outputs // groups, inputs, kh, kw)
    strides = (outputs // groups, 1, outputs, kw * inputs * outputs, inputs * outputs)
    if groups == 1:
        dims, strides = dims[1:], strides[1:]
    free = _made("dnnl_memory_desc_create_with_tag", len(dims), _Dims(*dims), _F32, _ANY)
    return _strided(dims, strides), free


def _attributes(case: Case, y: _Handle) -> _Handle:
    attributes = _made("dnnl_primitive_attr_create")
    _call("dnnl_primitive_attr_set_scratchpad_mode", attributes, _USER_SCRATCHPAD)
    after = _made("dnnl_post_ops_create")
    if case.residual:
        _call("dnnl_post_ops_append_binary", after, _ADD, y)
    if case.activation:
        kind, alpha, beta = ACTIVATIONS[case.activation]
        numbers = ctypes.c_float(alpha), ctypes.c_float(beta)
        _call("dnnl_post_ops_append_eltwise", after, kind, *numbers)
    _call("dnnl_primitive_attr_set_post_ops", attributes, after)
    return attributes


@functools.cache
def primitive(case: Case) -> Primitive:
    """The convolution, compiled; DnnlError if oneDNN has none.

    Its layouts are few and small, and so are never given back.
    """
    x, y, (given, free) = _image(case.x), _image(case.y), _weights(case)
    bias = _strided(case.kernel[3:], (1,)) if case.bias else None
    window = [
        _Dims(case.stride, case.stride),
        _Dims(0, 0),
        *(_Dims(*edges) for edges in zip(*case.padding, strict=True)),
    ]
    engine, attributes = _engine(), _attributes(case, y)
    forward = _made(
        "dnnl_convolution_forward_primitive_desc_create",
        *(engine, _FORWARD_TRAINING, _DIRECT, x, free, bias, y, *window, attributes),
    )
    if case.kind == FORWARD:
        chosen, layouts = forward, [(_SRC, x), (_WEIGHTS, given)]
        layouts += [(_BIAS, bias)] if case.bias else []
        layouts += [(_ADDED, y)] if case.residual else []
        layouts += [(_DST, y)]
    elif case.kind == INPUT_GRADIENT:
        chosen = _made(
            "dnnl_convolution_backward_data_primitive_desc_create",
            *(engine, _DIRECT, x, free, y, *window, forward, attributes),
        )
        layouts = [(_DIFF_DST, y), (_WEIGHTS, given), (_DIFF_SRC, x)]
    else:
        chosen = _made(
            "dnnl_convolution_backward_weights_primitive_desc_create",
            *(engine, _DIRECT, x, free, None, y, *window, forward, attributes),
        )
        layouts = [(_SRC, x), (_DIFF_DST, y), (_DIFF_WEIGHTS, given)]
    last = len(layouts) - 1
    operands = [_operand(chosen, *layout, i == last) for i, layout in enumerate(layouts)]
    scratchpad = _queried(chosen, _SCRATCHPAD_MD)
    return Primitive(_made("dnnl_primitive_create", chosen), tuple(operands), scratchpad)


def _queried(description: _Handle, what: int) -> _Handle:
    query = library().dnnl_primitive_desc_query_md
    query.restype = _Handle
    return _Handle(query(description, what, 0))


def _operand(description: _Handle, names: tuple[int, int | None], layout, computed) -> _Operand:
    number, query = names
    chosen = layout if query is None else _queried(description, query)
    if library().dnnl_memory_desc_equal(layout, chosen):
        return _Operand(number, layout, chosen, None)
    ends = (chosen, layout) if computed else (layout, chosen)
    engine = _engine()
    reorder = _made("dnnl_reorder_primitive_desc_create", ends[0], engine, ends[1], engine, None)
    return _Operand(number, layout, chosen, _made("dnnl_primitive_create", reorder))


def run(chosen: Primitive, addresses: list[int]) -> None:
    """Compute the last of the arrays at `addresses` from the others; may run in many threads."""
    made = []

    def memory(layout, address) -> _Handle:
        made.append(_made("dnnl_memory_create", layout, _engine(), address))
        return made[-1]

    stream = _made("dnnl_stream_create", _engine(), _IN_ORDER)
    try:
        arguments, after = [(_SCRATCHPAD, memory(chosen.scratchpad, _ALLOCATE))], None
        for place, (operand, address) in enumerate(zip(chosen.operands, addresses, strict=True), 1):
            held = memory(operand.layout, _Handle(address))
            if operand.reorder is not None:
                own = memory(operand.chosen, _ALLOCATE)
                if place < len(addresses):
                    _execute(operand.reorder, stream, [(_FROM, held), (_TO, own)])
                else:
                    after = operand.reorder, stream, [(_FROM, own), (_TO, held)]
                held = own
            arguments.append((operand.number, held))
        _execute(chosen.handle, stream, arguments)
        if after:
            _execute(*after)
    finally:
        for each in made:
            library().dnnl_memory_destroy(each)
        library().dnnl_stream_destroy(stream)


def _execute(handle, stream, arguments) -> None:
    packed = (_Argument * len(arguments))(*arguments)
    _call("dnnl_primitive_execute", handle, stream, len(arguments), packed)
