"""The share of a machine's cores that a worker process has for itself."""

import contextlib
import os
import pathlib
import tempfile

from tl_jax import locks

_held = contextlib.ExitStack()  # never closed: the locks go with the process


def take(shares: int) -> None:
    """Restrict this process to one of so many equal shares of its cores, the first one that no
    other process of this user on this machine has taken; keep all cores if none is left.

    Call it before JAX counts the cores.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        for share in range(min(shares, len(cores))):
            if _taken(share):
                os.sched_setaffinity(0, cores[share::shares])
                return


def _taken(share: int) -> bool:
    path = pathlib.Path(tempfile.gettempdir(), f"tl_jax_cores_{os.getuid()}_{share}")
    path.touch()
    return _held.enter_context(locks.held_if_free(path))
