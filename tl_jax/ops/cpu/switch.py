"""The one switch for this folder: the environment variable TL_JAX_CPU, `fast` or `plain`."""

import contextlib
import contextvars
import functools
import os
from collections.abc import Generator

from tl_jax.errors import unknown

VARIABLE = "TL_JAX_CPU"
_PORTABLE = contextvars.ContextVar("portable", default=False)


@functools.cache  # compiled programs do not change, so the answer must not either
def fast() -> bool:
    """Whether this folder is switched on; UserError if TL_JAX_CPU has neither of its two values."""
    return choice(VARIABLE, ("fast", "plain")) == "fast"


@contextlib.contextmanager
def portable() -> Generator[None]:
    """Inside, only the platform-neutral forms are traced, whatever the variable says: for programs
    that are written to a file, and have no such folder where they are read.

    JAX keeps what it has traced, by shape: give what is traced here a shape of its own.
    """
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def traced() -> bool:
    """Whether the folder's forms are traced: it is switched on, and this is no portable program."""
    return fast() and not _PORTABLE.get()


def choice(variable: str, choices: tuple[str, ...]) -> str:
    """Return the value of an environment variable, or the first of `choices` if it is not set.

    UserError, with the near miss, if the value is not among the `choices`.
    """
    value = os.environ.get(variable) or choices[0]
    if value not in choices:
        raise unknown(variable, value, choices)
    return value
