"""Errors that are the machine's, not the program's: what one can do about them, in a line."""

import errno
import os
import sys

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explained(error: Exception) -> str:
    """What a user can do about a full disk, a file, memory or a device; empty for another error."""
    if isinstance(error, OSError):
        return _of_a_file(error)
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return f"not enough memory ({str(error)[:200]}): take a smaller batch_size, size or base"
    try:
        if "jax" in sys.modules:
            sys.modules["jax"].devices()
    except Exception:  # of any kind: without its device JAX fails in many ways
        platforms = os.environ.get("JAX_PLATFORMS", "")
        return f"JAX does not start with JAX_PLATFORMS={platforms!r}: unset it to have one chosen"
    return ""


def _of_a_file(error: OSError) -> str:
    if error.errno in NO_SPACE:
        return f"no space left for {error.filename or 'the results'}: free some, then run again"
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else ""
