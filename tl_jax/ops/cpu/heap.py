"""The C library's heap, where XLA's CPU backend has a step's temporaries: glibc's, or nothing.

XLA asks for them anew in every step, and gives them back a moment after its results are there. A
step that begins before takes others, from the system: that costs time, and the process keeps them.
"""

import ctypes
import functools
import os
import sys
import time

# M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD and M_ARENA_MAX of malloc.h.
_KEPT = {-4: 0, -1: -1, -2: 2**28, -8: 1}
_TUNABLES, _NO_CACHES = "GLIBC_TUNABLES", "glibc.malloc.tcache_count=0"
_BEFORE = "TL_JAX_TUNABLES_BEFORE"  # what they were; also says that the program has been restarted
_NAP = 2e-4  # seconds


class _Usage(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    ]


@functools.cache
def _libc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallinfo2"):  # since 2.33
        libc.mallinfo2.restype = _Usage
    return libc if hasattr(libc, "mallopt") else None


def keep() -> None:
    """Let the process keep what is freed, instead of handing it back to the system.

    For programs, not for a library to do unasked. The page faults took a fifth of a training step
    of EfficientNet-Lite0's upper stages.
    """
    if libc := _libc():
        for option, value in _KEPT.items():
            libc.mallopt(option, value)


def without_caches() -> None:
    """Start the program again, in this process, with malloc's caches of each thread off.

    That can be said only where a process begins, in GLIBC_TUNABLES, which is as it was for what
    the program starts. `posix_memalign` cuts what it needs from a larger block; with the scraps in
    such a cache, the block that is freed is too small for the same request in the next step. For
    programs that were started by `python -m`.
    """
    before = os.environ.pop(_BEFORE, None)
    if before is not None:
        os.environ[_TUNABLES] = before
        return
    before = os.environ.get(_TUNABLES, "")
    if _libc() and sys.modules["__main__"].__spec__ and "tcache" not in before:
        now = f"{before}:{_NO_CACHES}".removeprefix(":")
        os.environ.update({_BEFORE: before, _TUNABLES: now})
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def in_use() -> int:
    """Bytes that are allocated now and not freed; 0 where that cannot be known."""
    libc = _libc()
    if not hasattr(libc, "mallinfo2"):
        return 0
    usage = libc.mallinfo2()
    return usage.uordblks + usage.hblkhd


def wait(most: int, seconds: float) -> None:
    """Wait until no more than `most` bytes are in use, so many seconds at most."""
    until = time.perf_counter() + seconds
    while in_use() > most and time.perf_counter() < until:
        time.sleep(_NAP)
