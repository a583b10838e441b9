"""The C library's heap, where XLA's CPU backend puts a step's temporaries. glibc only.

XLA allocates them anew in every step, and frees them a moment after the results are ready. A step
that begins before that moment takes new memory from the system: that costs time, and the process
never shrinks again.
"""

import ctypes
import functools
import os
import sys
import time

from tl_jax.ops.cpu import switch

RESTART = "TL_JAX_RESTART"  # the variable that allows a restart: on or off
# M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD and M_ARENA_MAX of malloc.h.
_RETAINING = {-4: 0, -1: -1, -2: 2**28, -8: 1}
_TUNABLES, _NO_CACHES = "GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"
_BEFORE = "TL_JAX_TUNABLES_BEFORE"  # holds their former value, after a restart only
_restarts: list[str] = []  # that value, in a process that was restarted
_MOMENT = 1e-3  # seconds


@functools.cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None


def prepare(*, trains: bool) -> None:
    """Configure the process's heap, before any work; for programs to call, never for the library.

    The process keeps freed memory, and a program that `trains` restarts without malloc's thread
    caches. TL_JAX_CPU=plain switches off both, TL_JAX_RESTART=off the restart; UserError if either
    has a wrong value.
    """
    restarts = switch.choice(RESTART, ("on", "off")) == "on" and switch.fast()
    if trains and restarts:
        restart_without_thread_caches()
    retain_freed_memory()


def retain_freed_memory() -> None:
    """Let the process keep freed memory, instead of handing it back to the system.

    Page faults took a fifth of a training step of EfficientNet-Lite0's upper stages.
    """
    libc = _libc() if switch.fast() else None
    if libc:
        for option, value in _RETAINING.items():
            libc.mallopt(option, value)


def restart_without_thread_caches() -> None:
    """Restart the program, in this process, with malloc's thread caches off.

    GLIBC_TUNABLES turns them off, and only when a process begins; it gets its former value back for
    the program's subprocesses. `posix_memalign` cuts what it needs from a larger block; while such
    a cache holds the remainder, the block that is freed is too small for the same request in the
    next step. Only programs that were started by `python -m` restart.
    """
    before = os.environ.pop(_BEFORE, None)
    if before is not None:
        os.environ[_TUNABLES] = before
        _restarts.append(before)
        return
    before = os.environ.get(_TUNABLES, "")
    if _libc() and sys.modules["__main__"].__spec__ and "tcache" not in before:
        tunables = f"{before}:{_NO_CACHES}".removeprefix(":")
        os.environ.update({_BEFORE: before, _TUNABLES: tunables})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def restarted() -> bool:
    """Whether `restart_without_thread_caches` has restarted this process."""
    return bool(_restarts)


def await_release() -> None:
    """Give XLA the moment in which it frees a step's temporaries.

    Asking malloc whether they are free takes long: it counts all free pieces of the heap.
    """
    if switch.fast() and _libc():
        time.sleep(_MOMENT)
