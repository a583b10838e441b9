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

# oneDNN's number of each type
DTYPES = {"float32": 3, "bfloat16": 2}
_ANY, _CPU = 1, 1
_BFLOAT16_PRODUCTS = 0xE7  # bits of an instruction set: AVX-512 BF16, which AMX adds to

# How libgomp's threads wait; it reads these variables once, when it is loaded. They spin from step
# to step, even if there are more threads than cores (each of XLA's threads that has called libgomp
# has a team), but only briefly: XLA's own operations need the cores.
_WAITING = {"OMP_WAIT_POLICY": "active", "GOMP_SPINCOUNT": "1000"}

Handle = ctypes.c_void_p
_Dims = ctypes.c_int64 * 12


class DnnlError(RuntimeError):
    """A function of oneDNN failed."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """Load oneDNN and return it; None if its package is not installed."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
        path = next(f.locate() for f in files if f.name == "libdnnl.so.3")
        with _environment(_WAITING):
            return ctypes.CDLL(str(path))
    except (importlib.metadata.PackageNotFoundError, StopIteration, OSError):
        return None


@functools.cache
def cores() -> int:
    """Return how many threads oneDNN uses: OMP_NUM_THREADS, or as many as OpenMP allows."""
    return library().omp_get_max_threads()


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether this CPU has products of bfloat16 numbers, added up in float32."""
    found = library().dnnl_get_effective_cpu_isa()
    return found & _BFLOAT16_PRODUCTS == _BFLOAT16_PRODUCTS


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Generator[None]:
    """Set the variables that the user has not set, while the block runs."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
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


def create(name: str, *args) -> Handle:
    """Return the object that the library's function `name` creates."""
    handle = Handle()
    call(name, ctypes.byref(handle), *args)
    return handle


@functools.cache
def engine() -> Handle:
    """Return oneDNN's engine for the CPU."""
    return create("dnnl_engine_create", _CPU, ctypes.c_size_t(0))


def dims(*numbers: int):
    """Return the numbers as the library's array of dimensions."""
    return _Dims(*numbers)


def strided(sizes: tuple[int, ...], strides: tuple[int, ...], dtype: str = "float32") -> Handle:
    """Return a layout of numbers of a type, one of `DTYPES`."""
    name = "dnnl_memory_desc_create_with_strides"
    return create(name, len(sizes), dims(*sizes), DTYPES[dtype], dims(*strides))


def image(shape: tuple[int, int, int, int], dtype: str = "float32") -> Handle:
    """Return the layout of an array (N, H, W, C)."""
    n, h, w, c = shape
    return strided((n, c, h, w), (h * w * c, 1, w * c, c), dtype)


def matrix(sizes: tuple[int, int], dtype: str = "float32") -> Handle:
    """Return the layout of an array (rows, columns)."""
    return strided(sizes, (sizes[1], 1), dtype)


def vector(length: int, dtype: str = "float32") -> Handle:
    """Return the layout of an array (length,)."""
    return strided((length,), (1,), dtype)


def any_layout(sizes: tuple[int, ...], dtype: str = "float32") -> Handle:
    """Return a placeholder for an array of these sizes, whose layout the primitive may choose."""
    name = "dnnl_memory_desc_create_with_tag"
    return create(name, len(sizes), dims(*sizes), DTYPES[dtype], _ANY)


def chosen_layout(description: Handle, query: int, number: int = 0) -> Handle:
    """Return the layout that a primitive has chosen; `number` counts operands of one query."""
    ask = library().dnnl_primitive_desc_query_md
    ask.restype = Handle
    return Handle(ask(description, query, number))


def size(layout: Handle) -> int:
    """Return the size of an array of this layout, in bytes."""
    get_size = library().dnnl_memory_desc_get_size
    get_size.restype = ctypes.c_size_t
    return get_size(layout)
