"""What every program shares: parsing a config, one clear line for what a user can mend."""

import errno
import glob
import logging
import os
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence

import ml_collections
from absl import app, flags
from absl import logging as absl_logging

from tl_jax.errors import UserError, unknown
from tl_jax.interrupt import Interrupted
from tl_jax.ops.cpu import heap

BAD_INPUT = 2
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(main: Callable[[list[str]], int | None], *, trains: bool = False) -> None:
    """`absl.app.run` for `main`, which ends with the exit status that `status` gives.

    `trains` says that the program runs training steps: what that asks of the heap is in `prepare`.
    """
    try:
        heap.prepare(trains=trains)
    except UserError as error:
        sys.exit(complain(str(error)))
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may be of any bytes
    absl_logging.get_absl_handler().setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("tl_jax").setLevel(logging.INFO)
    app.run(lambda argv: status(main, argv), flags_parser=_parse)


def status(main: Callable[[list[str]], int | None], argv: list[str]) -> int:
    """What `main(argv)` returns; a UserError is one line and 2, a signal 128 + its number."""
    try:
        result = main(argv) or 0
        sys.stdout.flush()  # here, where a closed pipe is caught
        return result
    except Interrupted as signal:
        print(f"{signal}: saved; the same command goes on from here", file=sys.stderr)
        return 128 + signal.signum
    except KeyboardInterrupt:
        print("stopped at once; what was saved before is intact", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UserError as error:
        what = str(error)
    except OSError as error:
        if error.errno in NO_SPACE:
            what = f"no space left for {error.filename or 'the results'}: free some, then run again"
        elif error.filename and error.strerror:
            what = f"{error.filename}: {error.strerror}"
        else:
            raise
    # Not before: progress bars that the error went through are closed, and cleared, with it.
    return complain(what)


def complain(what: str) -> int:
    """Say in one line on standard error what a user can mend; gives the exit status."""
    line = " ".join(what.split())
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)  # names are hostile
    print(f"error: {shown}", file=sys.stderr)
    return BAD_INPUT


def no_arguments(argv: list[str]) -> None:
    """UserError if something on the command line is neither a flag nor a flag's value."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; settings look like --config.seed=3")


def load_config(path: str) -> ml_collections.ConfigDict:
    """What `get_config` in the file gives; UserError that says where the file is wrong."""
    if not os.path.isfile(path):
        there = set(glob.glob("configs/*.py")) - {"configs/__init__.py", "configs/defaults.py"}
        raise unknown("config file", path, there)
    try:
        given = runpy.run_path(path)
        if "get_config" not in given:
            raise UserError("it has no function get_config()")
        config = given["get_config"]()
    except (Exception, SystemExit) as error:  # the file is a program
        raise UserError(f"{path}{_line_in(path, error)}: {_said(error)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(f"{path}: get_config() gives no ConfigDict but {type(config).__name__}")
    return config


def _parse(argv: list[str]) -> list[str]:
    try:
        _check_settings(argv[1:])
        arguments = flags.FLAGS(argv)
    except (flags.Error, UserError, TypeError, ValueError) as error:
        sys.exit(complain(str(error)))
    except SystemExit:  # --help, which absl ends with status 1
        sys.exit(0)
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = absl_logging.WARNING  # absl's own choice would be INFO
    return arguments


def _check_settings(arguments: Sequence[str]) -> None:
    """UserError for a config file or key with which config_flags would end in a traceback."""
    flag = next((i for i, a in enumerate(arguments) if re.match("--?config(=|$)", a)), None)
    keys = [a.lstrip("-").split("=")[0] for a in arguments if re.match(r"--?config\.", a)]
    if flag is None:
        if keys:
            raise UserError(f"--{keys[0]} of which config? --config=configs/elpv.py, for example")
        return
    _, equals, path = arguments[flag].partition("=")
    path = path if equals else "".join(arguments[flag + 1 : flag + 2])
    known = _keys(load_config(path))
    for key in keys:
        if (key := key.removeprefix("config.")) not in known:
            raise unknown("config key", key, known)


def _keys(config: ml_collections.ConfigDict, above: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found += _keys(value, f"{above}{key}.") if hasattr(value, "items") else [f"{above}{key}"]
    return found


def _line_in(path: str, error: BaseException) -> str:
    frames = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    return f", line {line}" if line else ""


def _said(error: BaseException) -> str:
    if isinstance(error, UserError):
        return str(error)
    text = str(error.args[0]) if error.args else ""
    # Where a key is unknown, ml_collections prints all the others with their values.
    text = re.sub(r" Other fields present: .*?(?=Did you mean|$)", " ", text, flags=re.DOTALL)
    return f"{type(error).__name__}: {text}"
