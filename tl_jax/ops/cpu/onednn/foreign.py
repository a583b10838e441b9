"""oneDNN's operations as one foreign function for XLA, through ctypes.

XLA calls `_handle` for each operation. An attribute of the call says what to compute, so that
compiled programs can be stored.
"""

import atexit
import ctypes
import functools
import json

import jax

from tl_jax.ops.cpu import constants
from tl_jax.ops.cpu.onednn.cases import case_of
from tl_jax.ops.cpu.onednn.compiled import compiled
from tl_jax.ops.cpu.onednn.lanes import lane

TARGET = "tl_jax_onednn"

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
    """`XLA_FFI_Metadata_Extension`: XLA asks once which version this code was written for."""

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
    """Run one operation, or answer XLA's question for the version."""
    frame = frame.contents
    if frame.extension:
        question = ctypes.cast(frame.extension, ctypes.POINTER(_Question)).contents
        if question.kind == _METADATA:
            version = question.metadata.contents.version
            version.major, version.minor = _VERSION
            return None
    try:
        text = ctypes.cast(frame.attributes[0], ctypes.POINTER(_Text)).contents
        case, one_core = _case(ctypes.string_at(text.start, text.length))
        pointers = [frame.inputs[i] for i in range(frame.inputs_count)]
        pointers += [frame.outputs[i] for i in range(frame.outputs_count)]
        buffers = [ctypes.cast(p, ctypes.POINTER(_Buffer)).contents for p in pointers]
        with lane(one_core=one_core) as mine:
            compiled(case, mine).run([buffer.data for buffer in buffers], mine)
    except Exception as error:  # no exception may reach XLA
        return _error(frame.api, f"oneDNN: {error}")
    return None


def _error(api, message: str):
    make = ctypes.cast(api, ctypes.POINTER(_Api)).contents.make_error
    make = ctypes.CFUNCTYPE(_pointer, ctypes.POINTER(_Failure))(make)
    failure = _Failure(ctypes.sizeof(_Failure), None, message.encode(), _INTERNAL_ERROR)
    return make(ctypes.byref(failure))


@functools.cache
def _case(text: bytes):
    name, fields, one_core = json.loads(text)
    return case_of(name, fields), one_core


def register() -> None:
    """Register `_handle` with XLA; needed before the first call."""
    jax.ffi.register_ffi_target(TARGET, jax.ffi.pycapsule(_handle), platform="cpu")
    atexit.register(_finish)


def _finish() -> None:
    """Wait for computations in flight: JAX itself waits when Python can no longer run `_handle`."""
    jax.block_until_ready(jax.live_arrays())


def call(case, outputs, *arrays) -> list:
    """Return the results of `case` on `arrays`; `outputs` are their shapes and dtypes."""
    text = json.dumps([type(case).__name__, case, constants.active()])
    return jax.ffi.ffi_call(TARGET, outputs, vmap_method="sequential")(*arrays, case=text)
