"""The one switch for this folder: the environment variable TL_JAX_CPU, `fast` or `plain`."""

import functools
import os

from tl_jax.errors import unknown

VARIABLE = "TL_JAX_CPU"


@functools.cache  # compiled programs do not change, so the answer must not either
def fast() -> bool:
    """Whether this folder is switched on; UserError if TL_JAX_CPU has neither of its two values."""
    return choice(VARIABLE, ("fast", "plain")) == "fast"


def choice(variable: str, choices: tuple[str, ...]) -> str:
    """Return the value of an environment variable, or the first of `choices` if it is not set.

    UserError, with the near miss, if the value is not among the `choices`.
    """
    value = os.environ.get(variable) or choices[0]
    if value not in choices:
        raise unknown(variable, value, choices)
    return value
