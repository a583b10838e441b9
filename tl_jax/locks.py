"""A lock between processes; waiting for it ends when a signal asks to stop."""

import contextlib
import fcntl
import logging
import os
import pathlib
import time
from collections.abc import Generator

from tl_jax import interrupt

logger = logging.getLogger(__name__)

PAUSE = 0.2  # seconds between two attempts; a signal takes effect after at most this long


@contextlib.contextmanager
def held(path: pathlib.Path, *, what: str) -> Generator[None]:
    """Hold the lock file `path` while the block runs; create its folder if needed.

    While another process holds it, log that once and wait. Raise Interrupted if a signal asks to
    stop in the meantime.
    """
    waited = False
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as lock:
            if _try_lock(lock.fileno()):
                if _is_still_at(lock.fileno(), path):  # otherwise its folder was deleted
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
    """Hold the lock file, which must exist, if no other process does; yield whether it is held."""
    with open(path, "r+") as lock:
        yield _try_lock(lock.fileno())


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still_at(descriptor: int, path: pathlib.Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
