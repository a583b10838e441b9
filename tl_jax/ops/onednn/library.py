"""oneDNN's shared library through its C interface: how an operation of it is compiled and run.

Needs the package `onednn-cpu-gomp` (extra `onednn`); without it, or off x86-64 Linux, `library()`
is None. Names and numbers are those of `dnnl.h` and `dnnl_types.h` of oneDNN 3.
"""

import ctypes
import functools
import importlib.metadata
import os
import threading
from typing import NamedTuple

PACKAGE = "onednn-cpu-gomp"

_F32, _ANY, _CPU, _IN_ORDER, _USER_SCRATCHPAD = 3, 1, 1, 1, 1
_ALLOCATE = ctypes.c_void_p(-1)
_SCRATCHPAD_MD, _SCRATCHPAD = 136, 80
_FROM, _TO = 1, 17

Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * 12


class Argument(NamedTuple):
    """An operand's number, and the query for the layout chosen for it, if that is a choice."""

    number: int
    query: int | None = None


class Operand(NamedTuple):
    number: int
    layout: Handle  # that of the array that is given
    chosen: Handle  # that which the primitive works on
    reorder: Handle | None  # from the one to the other, or back for what is computed
    computed: bool


class Primitive(NamedTuple):
    """A compiled operation: `run(primitive, addresses)` with its inputs, then its outputs."""

    handle: Handle
    operands: tuple[Operand, ...]
    scratchpad: Handle


class DnnlError(RuntimeError):
    """oneDNN refused something."""


class _Passed(ctypes.Structure):
    _fields_ = [("number", ctypes.c_int), ("memory", Handle)]


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


def call(name: str, *args) -> None:
    """A function of the library; DnnlError if it does not succeed."""
    status = getattr(library(), name)(*args)
    if status:
        raise DnnlError(f"{name} ended with status {status}")


def made(name: str, *args) -> Handle:
    """What a function of the library makes."""
    handle = Handle()
    call(name, ctypes.byref(handle), *args)
    return handle


@functools.cache
def engine() -> Handle:
    """The CPU."""
    return made("dnnl_engine_create", _CPU, ctypes.c_size_t(0))


def dims(*numbers: int):
    """A list of numbers, as the library takes it."""
    return _Dims(*numbers)


def strided(sizes: tuple[int, ...], strides: tuple[int, ...]) -> Handle:
    """A layout of float32 numbers."""
    name = "dnnl_memory_desc_create_with_strides"
    return made(name, len(sizes), dims(*sizes), _F32, dims(*strides))


def image(shape: tuple[int, int, int, int]) -> Handle:
    """The layout of (N, H, W, C)."""
    n, h, w, c = shape
    return strided((n, c, h, w), (h * w * c, 1, w * c, c))


def vector(length: int) -> Handle:
    """The layout of (length,)."""
    return strided((length,), (1,))


def free(sizes: tuple[int, ...]) -> Handle:
    """A layout that is left to the primitive."""
    return made("dnnl_memory_desc_create_with_tag", len(sizes), dims(*sizes), _F32, _ANY)


def attributes() -> Handle:
    """Of a primitive whose scratch memory is lent to it, so that it may run in many threads."""
    found = made("dnnl_primitive_attr_create")
    call("dnnl_primitive_attr_set_scratchpad_mode", found, _USER_SCRATCHPAD)
    return found


def queried(description: Handle, what: int) -> Handle:
    """A layout that a primitive has chosen."""
    query = library().dnnl_primitive_desc_query_md
    query.restype = Handle
    return Handle(query(description, what, 0))


def size(layout: Handle) -> int:
    """In bytes."""
    found = library().dnnl_memory_desc_get_size
    found.restype = ctypes.c_size_t
    return found(layout)


Layouts = list[tuple[Argument, Handle]]


def compiled(description: Handle, inputs: Layouts, outputs: Layouts) -> Primitive:
    """The primitive described, for arrays of these layouts."""
    operands = [_operand(description, *given, computed=False) for given in inputs]
    operands += [_operand(description, *given, computed=True) for given in outputs]
    scratchpad = queried(description, _SCRATCHPAD_MD)
    return Primitive(made("dnnl_primitive_create", description), tuple(operands), scratchpad)


def _operand(description: Handle, argument: Argument, layout: Handle, *, computed: bool):
    chosen = layout if argument.query is None else queried(description, argument.query)
    if library().dnnl_memory_desc_equal(layout, chosen):
        return Operand(argument.number, layout, chosen, None, computed)
    ends = (chosen, layout) if computed else (layout, chosen)
    reorder = made("dnnl_reorder_primitive_desc_create", ends[0], engine(), ends[1], engine(), None)
    reorder = made("dnnl_primitive_create", reorder)
    return Operand(argument.number, layout, chosen, reorder, computed)


# Each call takes all cores: of two at once each would wait for the other's threads.
_one_at_a_time = threading.Lock()


def run(primitive: Primitive, addresses: list[int]) -> None:
    """Compute the outputs from the inputs at these addresses; may be called by any thread."""
    with _one_at_a_time:
        _run(primitive, addresses)


def _run(primitive: Primitive, addresses: list[int]) -> None:
    held = []

    def memory(layout, address) -> Handle:
        held.append(made("dnnl_memory_create", layout, engine(), address))
        return held[-1]

    stream = made("dnnl_stream_create", engine(), _IN_ORDER)
    try:
        arguments, after = [(_SCRATCHPAD, memory(primitive.scratchpad, _ALLOCATE))], []
        for operand, address in zip(primitive.operands, addresses, strict=True):
            given = memory(operand.layout, Handle(address))
            if operand.reorder is None:
                arguments.append((operand.number, given))
                continue
            own = memory(operand.chosen, _ALLOCATE)
            arguments.append((operand.number, own))
            if operand.computed:
                after.append((operand.reorder, [(_FROM, own), (_TO, given)]))
            else:
                _execute(stream, operand.reorder, [(_FROM, given), (_TO, own)])
        _execute(stream, primitive.handle, arguments)
        for reorder in after:
            _execute(stream, *reorder)
    finally:
        for each in held:
            library().dnnl_memory_destroy(each)
        library().dnnl_stream_destroy(stream)


def _execute(stream, handle, arguments) -> None:
    passed = (_Passed * len(arguments))(*arguments)
    call("dnnl_primitive_execute", handle, stream, len(arguments), passed)
