"""The flag that makes a program one of several processes, which train one run together."""

import logging
import os
import sys
import traceback
from collections.abc import Callable

from absl import flags

from experiments import failures
from tl_jax import progress
from tl_jax.errors import UserError
from tl_jax.interrupt import Interrupted

_PROCESSES = flags.DEFINE_string(
    "processes",
    None,
    "Train in several processes: HOST:PORT,COUNT,NUMBER, where HOST:PORT is an address of process "
    "0; or auto, under Slurm, Open MPI and Kubernetes and on TPU pods.",
)
_reasons: list[str] = []  # why this process stops early

# What `cli.status` says itself
SAID = UserError, Interrupted, KeyboardInterrupt, BrokenPipeError
Main = Callable[[list[str]], int | None]


def joined(main: Main, *, possible: bool) -> Main:
    """Return `main`, which first joins the processes that the flag says, if it says any.

    UserError if that is not `possible`.
    """

    def several(argv: list[str]) -> int | None:
        from tl_jax.engine import processes  # imports JAX, which one process may not need

        try:
            processes.start(_PROCESSES.value or "")
            if not processes.first():
                _say_less()
            return main(argv)
        except BaseException as error:
            _reasons.append(" ".join(str(error).split())[:1000] or type(error).__name__)
            said = isinstance(error, Exception) and failures.explained(error)
            if not said and not isinstance(error, SAID):
                processes.linger()
                traceback.print_exc()
                processes.leave(1, f"{type(error).__name__}: {_reasons[0]}")
            raise

    def checked(argv: list[str]) -> int | None:
        if _PROCESSES.value is None:
            return main(argv)
        if not possible:
            raise UserError("this program runs in one process: leave out --processes")
        return several(argv)

    return checked


def left(status: int) -> int:
    """Tell the other processes, if there are any, that this one ends; return the `status`."""
    if _PROCESSES.value is not None and "jax" in sys.modules:
        from tl_jax.engine import processes

        processes.leave(status, _reasons[0] if _reasons else "")
    return status


def _say_less() -> None:
    """Leave reports and progress to the first process; warnings and errors are still said."""
    sys.stdout = open(os.devnull, "w")
    logging.getLogger("tl_jax").setLevel(logging.WARNING)
    progress.shown = False
