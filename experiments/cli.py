"""The parts that all programs share: start, exit status, one clear line for a mistake."""

import logging
import os
import sys
from collections.abc import Callable

from absl import app
from absl import logging as absl_logging

from experiments import arguments, failures, together
from tl_jax import progress
from tl_jax.errors import UserError
from tl_jax.interrupt import Interrupted
from tl_jax.ops.cpu import heap

BAD_INPUT = 2
no_arguments = arguments.no_arguments


def run(
    main: Callable[[list[str]], int | None], *, trains: bool = False, several: bool = False
) -> None:
    """Parse the command line, call `main` and end the process with its exit `status`.

    `trains`: the program runs training steps, so `heap.prepare` sets up the heap for them.
    `several`: it may be one of the several processes that --processes says.
    """
    try:
        heap.prepare(trains=trains)
    except UserError as error:
        sys.exit(complain(str(error)))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by `>&-`: the next file opened would take its place
            setattr(sys, name, open(os.devnull, "w"))
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may have any bytes
    progress.plain(absl_logging.get_absl_handler())
    logging.getLogger("tl_jax").setLevel(logging.INFO)
    joined = together.joined(main, possible=several)
    app.run(lambda argv: together.left(status(joined, argv)), flags_parser=_parse)


def status(main: Callable[[list[str]], int | None], argv: list[str]) -> int:
    """Return the status of `main(argv)`; 2 after a UserError, 128 + its number after a signal."""
    try:
        result = main(argv) or 0
        sys.stdout.flush()  # here, where a closed pipe is caught
        return result
    except Interrupted as signal:
        print(f"{signal}: saved; the same command resumes from here", file=sys.stderr)
        return 128 + signal.signum
    except KeyboardInterrupt:
        print("stopped at once; what was saved before is intact", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UserError as error:
        what = str(error)
    except Exception as error:
        what = failures.explained(error)
        if not what:
            raise
    # Only here, after the error has closed, and so cleared, the progress bars that it went through.
    return complain(what)


def complain(what: str) -> int:
    """Print one line that says what a user can fix on standard error; return the exit status."""
    line = " ".join(what.split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # names are hostile
    print(f"error: {shown}", file=sys.stderr)
    return BAD_INPUT


def _parse(argv: list[str]) -> list[str]:
    try:
        return arguments.parse(argv)
    except UserError as error:
        sys.exit(complain(str(error)))
