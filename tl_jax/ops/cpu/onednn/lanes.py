"""Lanes: threads that run one program at a time, and what they run it with.

There is one of all cores, and one for each core. In the first a program's threads wait for one
another at the end of every step; programs in those of one core wait for nobody.
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
    """So many threads, their stream and their memory."""

    def __init__(self, threads: int):
        self.threads = threads
        self.stream = dnnl.made("dnnl_stream_create", dnnl.engine(), _IN_ORDER)
        self._lent = np.empty(0, np.uint8)

    def scratch(self, size: int) -> int:
        """The address of that much memory: the same for all programs, and so soon in the cache.

        On huge pages, where the system has them: a Winograd program walks over hundreds of small
        ones at once, and took up to 1.7 times as long.
        """
        if size + _HUGE > len(self._lent):
            pages = mmap.mmap(-1, -(-size // _HUGE) * _HUGE + _HUGE)
            with contextlib.suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
            self._lent = np.frombuffer(pages, np.uint8)
        return -(-self._lent.ctypes.data // _HUGE) * _HUGE


@functools.cache
def _free(one_core: bool) -> queue.SimpleQueue:
    lanes, cores = queue.SimpleQueue(), dnnl.cores()
    for threads in [1] * cores if one_core else [cores]:
        lanes.put(Lane(threads))
    return lanes


@contextlib.contextmanager
def lane(*, one_core: bool = False) -> Generator[Lane]:
    """A lane for the block alone, in which oneDNN takes as many threads as the lane has."""
    free = _free(one_core)
    mine = free.get()
    try:
        dnnl.library().omp_set_num_threads(mine.threads)  # of this thread's calls alone
        yield mine
    finally:
        free.put(mine)
