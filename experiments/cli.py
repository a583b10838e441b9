"""What every program shares: parsing a config, one clear line for what a user can mend."""

import errno
import logging
import os
import runpy
import sys
from collections.abc import Callable

from absl import app, flags

from tl_jax.errors import UserError, unknown
from tl_jax.interrupt import Interrupted

BAD_INPUT = 2


def run(main: Callable[[list[str]], int | None]) -> None:
    """`absl.app.run` for `main`; a UserError is one line and exit status 2, a signal 128 + its number."""

    def guarded(argv: list[str]) -> int:
        try:
            return main(argv) or 0
        except UserError as error:
            return _complain(str(error))
        except Interrupted as signal:
            print(f"{signal}: saved; the same command goes on from here", file=sys.stderr)
            return 128 + signal.signum
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return _complain(f"no space left on the disk of {error.filename or 'the workdir'}")
            if error.filename and error.strerror:
                return _complain(f"{error.filename}: {error.strerror}")
            raise

    logging.getLogger("tl_jax").setLevel(logging.INFO)
    app.run(guarded, flags_parser=_parse)


def no_arguments(argv: list[str]) -> None:
    """UserError if something on the command line is neither a flag nor a flag's value."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; settings look like --config.seed=3")


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        sys.exit(_complain(str(_explained(error, argv))))


def _explained(error: Exception, argv: list[str]) -> object:
    """config_flags' own errors for a missing file or an unknown key do not say what to do."""
    path = next((a.split("=", 1)[1] for a in argv if a.startswith("--config=")), "")
    path = path.split(":")[0]
    if path and not os.path.exists(path):
        return f"no config file {path!r}; those there are: configs/"
    if isinstance(error, AttributeError | KeyError) and path:
        try:
            known = _keys(runpy.run_path(path)["get_config"]())
        except (UserError, AttributeError, KeyError) as own:
            return f"{path}: {own}"
        for argument in argv[1:]:
            key = argument.lstrip("-").split("=")[0]
            if key.startswith("config.") and key.removeprefix("config.") not in known:
                return unknown("config key", key.removeprefix("config."), known)
    return str(error).replace("\n", " ")


def _keys(config, above: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found += _keys(value, f"{above}{key}.") if hasattr(value, "items") else [f"{above}{key}"]
    return found


def _complain(what: str) -> int:
    print(f"error: {what}", file=sys.stderr)
    return BAD_INPUT
