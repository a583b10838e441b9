"""Lanes: sets of threads that run one program at a time, with their stream and memory.

One lane has all cores; besides, each core has a lane. In the first a program's threads wait for one
another at the end of every step; programs in single-core lanes never wait.
"""

import contextlib
import functools
import mmap
import queue
from collections.abc import Generator

import numpy as np

from tl_jax.ops.cpu.onednn import library as dnnl

_IN_ORDER = 1
_HUGE = 2**21  # bytes of a huge page


class Lane:
    """A number of threads, with their stream and their scratch memory."""

    def __init__(self, threads: int):
        self.threads = threads
        self.stream = dnnl.create("dnnl_stream_create", dnnl.engine(), _IN_ORDER)
        self._memory = np.empty(0, np.uint8)

    def scratch(self, size: int) -> int:
        """Return the address of `size` bytes; all programs share them, so that they stay cached.

        They lie on huge pages, where the system has them: a Winograd program works on hundreds of
        small pages at once, and took up to 1.7 times as long on those.
        """
        if size + _HUGE > len(self._memory):
            pages = mmap.mmap(-1, -(-size // _HUGE) * _HUGE + _HUGE)
            with contextlib.suppress(OSError):  # an operating system without huge pages
                pages.madvise(mmap.MADV_HUGEPAGE)
            self._memory = np.frombuffer(pages, np.uint8)
        return -(-self._memory.ctypes.data // _HUGE) * _HUGE


@functools.cache
def _free(one_core: bool) -> queue.SimpleQueue:
    lanes, cores = queue.SimpleQueue(), dnnl.cores()
    for threads in [1] * cores if one_core else [cores]:
        lanes.put(Lane(threads))
    return lanes


@contextlib.contextmanager
def lane(*, one_core: bool = False) -> Generator[Lane]:
    """Reserve a lane while the block runs; oneDNN uses as many threads as the lane has."""
    free = _free(one_core)
    mine = free.get()
    try:
        dnnl.library().omp_set_num_threads(mine.threads)  # for this thread's calls only
        yield mine
    finally:
        free.put(mine)
