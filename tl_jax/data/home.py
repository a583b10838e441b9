"""The folder of what is fetched once: weights, and files of packages."""

import os
import shutil
from pathlib import Path

from tl_jax.data.files import path_of
from tl_jax.errors import UserError

ELSEWHERE = "set TL_JAX_HOME to another folder"


def home() -> Path:
    """Return the folder TL_JAX_HOME, or `~/.cache/tl_jax`."""
    return path_of(os.environ.get("TL_JAX_HOME") or "~/.cache/tl_jax")


def require_room(folder: Path, what: str, size: int) -> None:
    """UserError if the folder's disk has no room for `what`, of `size` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"no space left in {folder}: {what} needs {size / 1e6:.1f} MB, {free / 1e6:.1f} MB are "
            "free; free some, or set TL_JAX_HOME to a folder on another disk"
        )
