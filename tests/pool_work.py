"""Work for worker processes: a module of its own, so that they import nothing slow."""

import os
import pathlib
import sys


def work(item: int) -> float:
    """Return 1 / item; 13 ends every process that takes it, 7 the first one only."""
    once = pathlib.Path(os.environ["TL_JAX_TEST_ONCE"])
    if item == 13 or (item == 7 and not once.exists()):
        once.touch()
        os._exit(1)
    assert "jax" not in sys.modules
    return 1 / item
