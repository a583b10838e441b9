"""How a reader of weight files refuses one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tl_jax.errors import UserError


def refused(read: Callable[[Path], object], path: Path) -> str:
    """The one line with which the file is refused, without its path."""
    with pytest.raises(UserError) as error:
        read(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ") and "\n" not in line
    return line.removeprefix(f"{path}: ")
