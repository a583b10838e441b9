"""Work for worker processes: a module of its own, so that they import nothing slow."""

import os
import pathlib
import sys
import threading
import time
from typing import Any


def work(item: int) -> float:
    """Return 1 / item; 13 ends every process that takes it, 7 the first one only."""
    once = pathlib.Path(os.environ["TL_JAX_TEST_ONCE"])
    if item == 13 or (item == 7 and not once.exists()):
        once.touch()
        os._exit(1)
    assert "jax" not in sys.modules
    return 1 / item


def unsendable(item: int) -> Any:
    """Return the item, or, of 0, what cannot be pickled."""
    return item or threading.Lock()


def slow(file: str) -> str:
    """Return the name, after a minute if it is a file's, in which the process notes its id."""
    if file:
        pathlib.Path(file).write_text(str(os.getpid()))
        time.sleep(60)
    return file


def cores(number: int) -> list[int]:
    """Return the cores of this process, once another one has called this as well."""
    folder = pathlib.Path(os.environ["TMPDIR"])
    (folder / f"{number}.here").touch()
    while len(list(folder.glob("*.here"))) < 2:
        time.sleep(0.01)
    return sorted(os.sched_getaffinity(0))


def row(config: dict, cell: tuple) -> dict:
    """Return a cell's row; the first process that is asked notes its id and does nothing more."""
    from tl_jax.studies.scenarios.cells import row

    first = pathlib.Path(os.environ["TL_JAX_TEST_ONCE"])
    try:
        first.touch(exist_ok=False)
    except FileExistsError:
        return row(config, cell)
    return slow(str(first))
