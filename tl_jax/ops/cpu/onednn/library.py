"""oneDNN's shared library through its C interface.

Needs the package `onednn-cpu-gomp` (extra `onednn`); without it, or off x86-64 Linux, `library()`
is None. Names and numbers are those of `dnnl.h` and `dnnl_types.h` of oneDNN 3.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import os
from collections.abc import Generator

PACKAGE = "onednn-cpu-gomp"

F32, _ANY, _CPU = 3, 1, 1

# How libgomp waits, which reads these once, when it is loaded: awake from step to step, also where
# it counts more threads than cores (each of XLA's threads that has called it has a team), but not
# for long on cores that XLA's own operations need.
_WAITING = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "1000"}

Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * 12


class DnnlError(RuntimeError):
    """oneDNN refused something."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """oneDNN, loaded; None where its package is not installed."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
        path = next(f.locate() for f in files if f.name == "libdnnl.so.3")
        with _environment(_WAITING):
            return ctypes.CDLL(str(path))
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        return None


@functools.cache
def cores() -> int:
    """How many threads the library uses: OMP_NUM_THREADS, or all that OpenMP may."""
    return library().omp_get_max_threads()


@contextlib.contextmanager
def _environment(wanted: dict[str, str]) -> Generator[None]:
    """These variables, where the user has not set them, for as long as the block runs."""
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def call(name: str, *args) -> None:
    """Call a function of the library; DnnlError if it fails."""
    status = getattr(library(), name)(*args)
    if status:
        raise DnnlError(f"{name} ended with status {status}")


def made(name: str, *args) -> Handle:
    """Return the object that a function of the library creates."""
    handle = Handle()
    call(name, ctypes.byref(handle), *args)
    return handle


@functools.cache
def engine() -> Handle:
    """The CPU."""
    return made("dnnl_engine_create", _CPU, ctypes.c_size_t(0))


def dims(*numbers: int):
    """Return the numbers as the library's array of dimensions."""
    return _Dims(*numbers)


def strided(sizes: tuple[int, ...], strides: tuple[int, ...]) -> Handle:
    """A layout of float32 numbers."""
    name = "dnnl_memory_desc_create_with_strides"
    return made(name, len(sizes), dims(*sizes), F32, dims(*strides))


def image(shape: tuple[int, int, int, int]) -> Handle:
    """The layout of (N, H, W, C)."""
    n, h, w, c = shape
    return strided((n, c, h, w), (h * w * c, 1, w * c, c))


def matrix(sizes: tuple[int, int]) -> Handle:
    """The layout of (rows, columns)."""
    return strided(sizes, (sizes[1], 1))


def vector(length: int) -> Handle:
    """The layout of (length,)."""
    return strided((length,), (1,))


def free(sizes: tuple[int, ...]) -> Handle:
    """A layout of such sizes that the primitive may choose."""
    return made("dnnl_memory_desc_create_with_tag", len(sizes), dims(*sizes), F32, _ANY)


def queried(description: Handle, what: int, number: int = 0) -> Handle:
    """The layout that a primitive has chosen, of its operand `number` if it has several."""
    query = library().dnnl_primitive_desc_query_md
    query.restype = Handle
    return Handle(query(description, what, number))


def size(layout: Handle) -> int:
    """The size of an array of this layout, in bytes."""
    found = library().dnnl_memory_desc_get_size
    found.restype = ctypes.c_size_t
    return found(layout)
