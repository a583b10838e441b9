"""A lock between processes that one waits for without being deaf to signals."""

import contextlib
import fcntl
import logging
import os
import pathlib
import time
from collections.abc import Generator

from tl_jax import interrupt

logger = logging.getLogger(__name__)

PAUSE = 0.2  # seconds between two attempts: how late a signal is heeded


@contextlib.contextmanager
def held(path: pathlib.Path, *, what: str) -> Generator[None]:
    """Hold the lock file `path`, whose folder is made if need be; says once that it waits.

    Interrupted if a signal asks to stop meanwhile.
    """
    waited = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as lock:
            if _taken(lock.fileno()):
                if _same(lock.fileno(), path):  # else its folder was pruned meanwhile
                    yield
                    return
            else:
                if not waited:
                    logger.warning("another process is at work on %s: waiting for it", what)
                waited = True
                interrupt.check()
                time.sleep(PAUSE)


@contextlib.contextmanager
def held_if_free(path: pathlib.Path) -> Generator[bool]:
    """Hold the lock file, which must be there, unless another process does; yield whether so."""
    with open(path, "r+") as lock:
        yield _taken(lock.fileno())


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _same(descriptor: int, path: pathlib.Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
