"""oneDNN's shared library through its C interface.

Needs the package `onednn-cpu-gomp` (extra `onednn`); without it, or off x86-64 Linux, `library()`
is None. Names and numbers are those of `dnnl.h` and `dnnl_types.h` of oneDNN 3.
"""

import ctypes
import functools
import importlib.metadata
import os

PACKAGE = "onednn-cpu-gomp"

_F32, _ANY, _CPU = 3, 1, 1

Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * 12


class DnnlError(RuntimeError):
    """oneDNN refused something."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """oneDNN, or None where it is not to be had."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
        path = next(f.locate() for f in files if f.name == "libdnnl.so.3")
        # Its threads are to be awake from step to step, but must soon leave the cores to XLA's.
        # Read once, when libgomp is loaded.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
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
