"""The flags of programs that study one's own images, and what these programs do."""

import pathlib
from typing import Any

from absl import flags

from experiments import arguments, workdir_flag
from tl_jax import interrupt
from tl_jax.data.files import path_of
from tl_jax.errors import UserError

_QUICK = flags.DEFINE_bool("quick", False, "One base, small images, two plans: minutes.")
_BASES = flags.DEFINE_list("bases", None, "Bases to choose from; default: EfficientNet-Lite.")
_TABLES = flags.DEFINE_list("tables", None, "Tables of scenarios; default: those of tl_jax.")
_PER_CLASS = flags.DEFINE_integer("per_class", 0, "Labels a class; 0: all.", lower_bound=0)
_DUPLICATES = flags.DEFINE_string("duplicates", "", "keep or drop files that are the same.")
_CACHE = flags.DEFINE_string("cache", ".cache", "Folder of what is computed once.")


def tables() -> list[pathlib.Path] | None:
    """Return the tables that were named, if any."""
    return None if _TABLES.value is None else [path_of(path) for path in _TABLES.value]


def answered(what: str, argv: list[str], **more: Any) -> None:
    """Do `tl_jax.advise` or `tl_jax.study` with the flags, and print the answer."""
    import tl_jax  # imports JAX where it is used, which --help does without
    from tl_jax.report.study import file_name
    from tl_jax.runs.subject import task_name

    if len(argv) != 2 or not argv[1]:
        raise UserError(f"which images? python -m experiments.{what} my_photos/ (or a task's name)")
    options = {"per_class": _PER_CLASS.value, "duplicates": _DUPLICATES.value}
    named = file_name(f"{what} {task_name({'name': argv[1]})}")
    more |= {name: value for name, value in options.items() if value}
    more |= {"workdir": workdir_flag.workdir(named), "cache": _CACHE.value}
    more |= {"quick": _QUICK.value, "tables": tables(), "bases": _BASES.value}
    try:
        with interrupt.caught():
            answer = getattr(tl_jax, what)(argv[1], **more)
    except UserError as error:
        raise UserError(arguments.as_flags(str(error), ())) from error
    print(answer.said)
    print(f"report: {answer.report}")
    if answer.model:
        print(f"model: {answer.model}")
