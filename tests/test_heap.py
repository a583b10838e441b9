"""What of the C library's heap is in use, and waiting for what others free."""

import ctypes
import sys
import threading
import time

import pytest

from tl_jax import heap

LIBC = ctypes.CDLL(None)
SIZE = 2**26

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(LIBC, "mallinfo2"), reason="glibc 2.33 or newer"
)


@pytest.fixture
def block():
    LIBC.malloc.restype, LIBC.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    LIBC.free.argtypes = [ctypes.c_void_p]
    return LIBC.malloc(SIZE)


def test_what_is_allocated_is_in_use_until_it_is_freed(block):
    with_it = heap.in_use()
    LIBC.free(block)
    assert SIZE <= with_it - heap.in_use() < SIZE + SIZE // 8


def test_waits_until_another_thread_has_freed_it(block):
    most, freed = heap.in_use() - SIZE // 2, threading.Event()

    def free():
        time.sleep(0.05)
        freed.set()
        LIBC.free(block)

    thread = threading.Thread(target=free)
    thread.start()
    heap.wait(most, seconds=60)
    assert freed.is_set()
    thread.join()


def test_waits_no_longer_than_it_is_to(block):
    heap.wait(0, seconds=0.01)  # returns, though something is always in use
    assert heap.in_use() > 0
    LIBC.free(block)
