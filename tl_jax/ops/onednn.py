"""oneDNN's convolutions as operations of a JAX program on the CPU.

XLA calls a function of this module for each of them (`_handle`, a foreign function of XLA's FFI,
through ctypes); what is to be computed is in an attribute, so that compiled programs can be stored.
"""

import ctypes
import functools
import json
import math

import jax
import jax.numpy as jnp

from tl_jax.ops import dnnl

TARGET = "tl_jax_onednn_convolution"
LEAST = 4e6  # floating-point operations, below which a call is not worth it

_pointer = ctypes.c_void_p


class _Frame(ctypes.Structure):
    """`XLA_FFI_CallFrame` of `xla/ffi/api/c_api.h`, version 0."""

    _fields_ = [
        *(("size", ctypes.c_size_t), ("extension", _pointer)),
        *(("api", _pointer), ("context", _pointer), ("stage", ctypes.c_int)),
        *((f"inputs_{n}", t) for n, t in (("size", ctypes.c_size_t), ("extension", _pointer))),
        *(("inputs_count", ctypes.c_int64), ("inputs_types", _pointer)),
        ("inputs", ctypes.POINTER(_pointer)),
        *((f"outputs_{n}", t) for n, t in (("size", ctypes.c_size_t), ("extension", _pointer))),
        *(("outputs_count", ctypes.c_int64), ("outputs_types", _pointer)),
        ("outputs", ctypes.POINTER(_pointer)),
        *((f"attributes_{n}", t) for n, t in (("size", ctypes.c_size_t), ("extension", _pointer))),
        *(("attributes_count", ctypes.c_int64), ("attributes_types", _pointer)),
        *(("names", _pointer), ("attributes", ctypes.POINTER(_pointer))),
    ]


class _Text(ctypes.Structure):
    """`XLA_FFI_ByteSpan`."""

    _fields_ = [("start", _pointer), ("length", ctypes.c_size_t)]


class _Buffer(ctypes.Structure):
    """The beginning of `XLA_FFI_Buffer`."""

    _fields_ = [
        *(("size", ctypes.c_size_t), ("extension", _pointer)),
        *(("dtype", ctypes.c_int), ("data", _pointer)),
    ]


class _Version(ctypes.Structure):
    """`XLA_FFI_Api_Version`."""

    _fields_ = [
        *(("size", ctypes.c_size_t), ("extension", _pointer)),
        *(("major", ctypes.c_int), ("minor", ctypes.c_int)),
    ]


class _Metadata(ctypes.Structure):
    """The beginning of `XLA_FFI_Metadata`."""

    _fields_ = [("size", ctypes.c_size_t), ("version", _Version), ("traits", ctypes.c_uint32)]


class _Question(ctypes.Structure):
    """`XLA_FFI_Metadata_Extension`: XLA asks once for which version this was written."""

    _fields_ = [
        *(("size", ctypes.c_size_t), ("kind", ctypes.c_int), ("next", _pointer)),
        ("metadata", ctypes.POINTER(_Metadata)),
    ]


class _Api(ctypes.Structure):
    """The beginning of `XLA_FFI_Api`."""

    _fields_ = [
        *(("size", ctypes.c_size_t), ("extension", _pointer)),
        *(("version", _Version), ("internal", _pointer), ("make_error", _pointer)),
    ]


class _Failure(ctypes.Structure):
    """`XLA_FFI_Error_Create_Args`."""

    _fields_ = [
        *(("size", ctypes.c_size_t), ("extension", _pointer)),
        *(("message", ctypes.c_char_p), ("code", ctypes.c_int)),
    ]


_METADATA, _INTERNAL_ERROR, _VERSION = 1, 13, (0, 1)


@ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(_Frame))
def _handle(frame):
    """What XLA calls: one convolution, or the question for the version."""
    frame = frame.contents
    if frame.extension:
        question = ctypes.cast(frame.extension, ctypes.POINTER(_Question)).contents
        if question.kind == _METADATA:
            version = question.metadata.contents.version
            version.major, version.minor = _VERSION
            return None
    try:
        text = ctypes.cast(frame.attributes[0], ctypes.POINTER(_Text)).contents
        case = _case(ctypes.string_at(text.start, text.length))
        places = [frame.inputs[i] for i in range(frame.inputs_count)] + [frame.outputs[0]]
        buffers = [ctypes.cast(place, ctypes.POINTER(_Buffer)).contents for place in places]
        dnnl.run(dnnl.primitive(case), [buffer.data for buffer in buffers])
    except Exception as error:  # nothing may be raised into XLA
        return _error(frame.api, f"oneDNN: {error}")
    return None


def _error(api, message: str):
    make = ctypes.cast(api, ctypes.POINTER(_Api)).contents.make_error
    make = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(_Failure))(make)
    failure = _Failure(ctypes.sizeof(_Failure), None, message.encode(), _INTERNAL_ERROR)
    return make(ctypes.byref(failure))


@functools.cache
def _case(text: bytes) -> dnnl.Case:
    return dnnl.Case(*_tuples(json.loads(text)))


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


@functools.cache
def available() -> bool:
    """Whether oneDNN can be had, and JAX has one CPU device.

    XLA cannot divide a foreign function among several devices: it would gather its inputs.
    """
    try:
        several = len(jax.devices("cpu")) > 1
    except RuntimeError:  # there is no such backend, as with JAX_PLATFORMS=cuda
        return False
    if several or dnnl.library() is None:
        return False
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(_handle), platform="cpu")
    return True


def takes(x, kernel, stride: int, padding) -> bool:
    """Whether a convolution is to be oneDNN's, on the CPU: in float32, and large enough."""
    work = 2 * math.prod(kernel.shape) * math.prod(_output(x, kernel, stride, padding)[:3])
    edges = [edge for pair in padding for edge in pair]
    fits = x.dtype == kernel.dtype == jnp.float32 and min(edges) >= 0
    return fits and work >= LEAST and available()


def forward(x, kernel, bias, residual, *, stride, padding, activation: str | None):
    """`activation` of the sum of the convolution, `bias` (D,) and `residual`, which may be None:
    (N, H, W, C) to (N, H', W', D).
    """
    shape = _output(x, kernel, stride, padding)
    more = bias is not None, residual is not None, activation
    case = dnnl.Case(dnnl.FORWARD, x.shape, kernel.shape, shape, stride, padding, *more)
    return _call(case, shape, *(a for a in (x, kernel, bias, residual) if a is not None))


def input_gradient(g, kernel, shape, *, stride, padding):
    """Gradient by the input (of `shape`) of a loss whose gradient by the output is `g`."""
    case = dnnl.Case(dnnl.INPUT_GRADIENT, shape, kernel.shape, g.shape, stride, padding)
    return _call(case, shape, g, kernel)


def kernel_gradient(x, g, shape, *, stride, padding):
    """Gradient by the kernel (of `shape`)."""
    case = dnnl.Case(dnnl.KERNEL_GRADIENT, x.shape, shape, g.shape, stride, padding)
    return _call(case, shape, x, g)


def _call(case: dnnl.Case, shape, *arrays):
    out = jax.ShapeDtypeStruct(shape, jnp.float32)
    call = jax.ffi.ffi_call(TARGET, out, vmap_method="sequential")
    return call(*arrays, case=json.dumps(case))


def _output(x, kernel, stride, padding):
    sides = [
        (n + sum(edges) - k) // stride + 1
        for n, edges, k in zip(x.shape[1:3], padding, kernel.shape[:2], strict=True)
    ]
    return (x.shape[0], *sides, kernel.shape[3])
