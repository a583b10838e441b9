"""Command lines with --config: absl parses them; mistakes become one line."""

import re
import sys
from collections.abc import Collection, Iterable, Sequence

from absl import flags, logging

from tl_jax.errors import UserError, unknown
from tl_jax.runs.config import flat, load_config


def parse(argv: list[str]) -> list[str]:
    """Set absl's flags and return the other arguments; UserError for a mistake."""
    try:
        _check_settings(argv[1:])
        remaining = flags.FLAGS(argv)
    except (flags.Error, TypeError, ValueError) as error:
        raise UserError(str(error)) from error
    except SystemExit:  # absl ends --help with status 1
        sys.exit(0)
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.WARNING  # absl's own choice would be INFO
    return remaining


def no_arguments(argv: list[str]) -> None:
    """Raise UserError if an argument is neither a flag nor a flag's value."""
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; settings look like --config.seed=3")


def settle_task(config, given: Collection[str]) -> None:
    """If `given`, the keys of the command line, change the task, clear options that it lacks.

    These are the config's options of the former task. Options that are themselves given stay, and
    are refused later.
    """
    from tl_jax.data.tasks import options  # imports libraries that --help need not load

    if "task.name" in given:
        known = {"name", *options(config.task.name)}
        for key, value in config.task.items():
            if value and isinstance(value, str) and not {key, f"task.{key}"} & {*known, *given}:
                print(f"left out: task.{key}={value!r} is no option of the task", file=sys.stderr)
                config.task[key] = ""


def as_flags(message: str, keys: Iterable[str]) -> str:
    """Return the message with the library's settings `name=` as flags: --config.name=.

    `keys` are the config's. A name is a key, or the last part of a single key: `path=` becomes
    --config.task.path= if no other key ends in path.
    """
    names = {"workdir": ["--workdir"]}
    for key in keys:
        for name in {key, key.rpartition(".")[2]}:
            names.setdefault(name, []).append(f"--config.{key}")

    def flag(match: re.Match) -> str:
        flags_of = names.get(match[1], ())
        return f"{flags_of[0]}=" if len(flags_of) == 1 else match[0]

    return re.sub(r"(?<![\w./-])([a-z_]+(?:\.[a-z_]+)*)=", flag, message)


def _check_settings(arguments: Sequence[str]) -> None:
    """Raise UserError for a config file or key that would make config_flags show a traceback."""
    flag = next((i for i, a in enumerate(arguments) if re.match("--?config(=|$)", a)), None)
    keys = [a.lstrip("-").split("=")[0] for a in arguments if re.match(r"--?config\.", a)]
    if flag is None:
        if keys:
            raise UserError(f"--{keys[0]} of which config? --config=configs/elpv.py, for example")
        return
    _, equals, path = arguments[flag].partition("=")
    path = path if equals else "".join(arguments[flag + 1 : flag + 2])
    known = flat(load_config(path))
    for key in keys:
        if (key := key.removeprefix("config.")) not in known:
            raise unknown("config key", key, known)
